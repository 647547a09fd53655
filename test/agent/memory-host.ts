/**
 * The reconciler in this process, between a simulated host and a kernel of memory only: every single request of it can be
 * hit, and time can be pushed on.
 */
import { pino } from 'pino';
import { afterEach, vi } from 'vitest';
import { type Config, DEFAULTS } from '../../src/config/schema.js';
import { Programs } from '../../src/network/hotplug-script.js';
import { NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import { AttachQueue } from '../../src/vif/attach-queue.js';
import type { Hooks } from '../../src/vif/hooks.js';
import { Reconciler } from '../../src/vif/reconciler.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { openSocket, type Transport } from '../../src/xenstore/transport.js';
import { MemoryKernel } from '../support/memory-kernel.js';
import { eventually } from './agent-process.js';

/** A connection whose n-th message waits for a hook. */
function hooked(inner: Transport, before: (message: number) => void | Promise<void>): Transport {
  let count = 0;
  let turn = Promise.resolve();
  return {
    peer: inner.peer,
    maxInFlight: inner.maxInFlight,
    start: (onBytes, onClosed) => inner.start(onBytes, onClosed),
    close: (wakeUp) => inner.close(wakeUp),
    released: () => inner.released(),
    send: (message) => {
      turn = turn.then(async () => {
        await before(count++);
        await inner.send(message);
      });
      return turn;
    },
  };
}

export class MemoryHost {
  host!: SimulatedHost;
  kernel!: MemoryKernel;
  store!: XenstoreClient;
  reconciler!: Reconciler;
  /** The last message's number. */
  messages = 0;
  beforeMessage: (message: number) => void | Promise<void> = () => {};
  /** Events are lost as long as this is set. */
  deaf = false;
  readonly log: { level: string; msg: string }[] = [];
  /** May be changed while it runs. */
  config: Config = DEFAULTS;
  /** From when the reconciler is started next. */
  hooks: Hooks | undefined;
  private laterMs = 0;

  /** With the bridge br0. */
  async start(): Promise<void> {
    Object.assign(this, { beforeMessage: () => {}, deaf: false, laterMs: 0, config: DEFAULTS, hooks: undefined });
    this.log.length = 0;
    this.kernel = new MemoryKernel();
    this.kernel.addBridge('br0');
    const now = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => now() + this.laterMs);
    this.host = await SimulatedHost.start({ netback: { links: this.kernel } });
    await this.startReconciler();
  }

  async startReconciler(): Promise<void> {
    const transport = hooked(await openSocket(this.host.socketOf(NICDOM)), (message) => {
      this.messages = message;
      return this.beforeMessage(message);
    });
    this.store = new XenstoreClient(transport);
    const log = pino(
      { level: 'debug', base: null, formatters: { level: (level) => ({ level }) } },
      { write: (line: string) => void this.log.push(JSON.parse(line)) },
    );
    const config = () => this.config;
    this.reconciler = new Reconciler({
      store: this.store,
      kernel: this.kernel,
      get config() {
        return config();
      },
      log,
      privileged: false,
      knowsAllVifs: true,
      programs: new Programs(),
      hooks: this.hooks,
      attaching: new AttachQueue(4),
    });
    const { reconciler } = this;
    this.kernel.onChange = (ifname) => this.deaf || reconciler.onLinkEvent(ifname);
    await this.store.watch('backend/vif', ({ path }) => this.deaf || reconciler.onStoreEvent(path));
    await reconciler.scan();
  }

  async stopReconciler(): Promise<void> {
    await this.store.close();
    await this.reconciler.stop();
  }

  async stop(): Promise<void> {
    await this.stopReconciler();
    await this.host.close();
    vi.restoreAllMocks();
  }

  /** The clock is set on, and everything looked at. */
  async later(ms: number): Promise<void> {
    this.laterMs += ms;
    await this.reconciler.scan();
  }

  node(name: string): Promise<string | undefined> {
    return this.host.backendNode(5, 0, name);
  }

  dom0Write(name: string, value: string): Promise<void> {
    return this.host.dom0.write(`/local/domain/1/backend/vif/5/0/${name}`, value);
  }

  async connected(): Promise<void> {
    await eventually(
      async () => (await this.node('hotplug-status')) === 'connected' && this.kernel.find('vif5.0')?.up === true,
    );
  }

  says(level: 'error' | 'warn' | 'info', text: string): number {
    return this.log.filter((line) => line.level === level && line.msg.includes(text)).length;
  }
}

/** One for a test file; stopped after each test. */
export function useMemoryHost(): MemoryHost {
  const memory = new MemoryHost();
  afterEach(() => memory.stop());
  return memory;
}
