/**
 * The reconciler in this process, between a simulated host and a kernel of memory only: every single request of it can be
 * hit, and time can be pushed on.
 */
import { pino } from 'pino';
import { afterEach, vi } from 'vitest';
import { type Config, DEFAULTS } from '../../src/config/schema.js';
import { AttachError, NetlinkError } from '../../src/errors.js';
import type { PortSettings } from '../../src/network/bridge-port.js';
import { NO_VLANS, type PortVlans } from '../../src/network/bridge-vlan.js';
import { type Features, NO_FEATURES } from '../../src/network/ethtool.js';
import type { Guard, TableName } from '../../src/network/guard-table.js';
import { Programs } from '../../src/network/hotplug-script.js';
import type { KernelNetwork } from '../../src/network/kernel.js';
import type { OvsSwitch } from '../../src/network/openvswitch.js';
import type { Link, LinkChange } from '../../src/network/rtnetlink.js';
import { NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import type { LinkFactory } from '../../src/simulator/links.js';
import { AttachQueue } from '../../src/vif/attach-queue.js';
import { Reconciler } from '../../src/vif/reconciler.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { openSocket, type Transport } from '../../src/xenstore/transport.js';
import { eventually } from './agent-process.js';
import { MemoryRoutes } from './memory-routes.js';

/** Interfaces in memory; netback makes them here, and each question or change can be hit. */
export class MemoryKernel extends MemoryRoutes implements KernelNetwork, LinkFactory {
  readonly links = new Map<number, Link>();
  calls = 0;
  /** Interfaces whose checksum offload is cleared. */
  private readonly cleared = new Set<number>();
  beforeCall: (call: number) => void | Promise<void> = () => {};
  beforeChange: (change: LinkChange, ifname: string) => void | Promise<void> = () => {};
  onChange: (ifname: string) => void = () => {};
  private nextIndex = 10;

  async create(ifname: string): Promise<void> {
    this.add({ ifname, txqlen: 32, parentDev: ifname.replace(/^vif(\d+)\.(\d+)$/, 'vif-$1-$2') });
  }
  addBridge(ifname: string): number {
    return this.add({ ifname, kind: 'bridge', up: true });
  }
  private readonly vlans = new Map<number, PortVlans>();
  readonly guards = new Map<string, string>();
  private readonly tables = {
    bridge: this.guards,
    inet: new Map<string, string>(),
    nat: new Map<string, string>(),
    bound: new Map<string, string>(),
  };
  async getGuard(ifname: string, _: number, table: TableName = 'bridge'): Promise<string | undefined> {
    return this.tables[table].get(ifname);
  }
  async setGuard(ifname: string, guard: Guard | undefined, table: TableName = 'bridge'): Promise<void> {
    await this.step();
    if (guard === undefined) this.tables[table].delete(ifname);
    else this.tables[table].set(ifname, guard.chain);
  }
  async listGuarded(table: TableName = 'bridge'): Promise<string[]> {
    return [...this.tables[table].keys()];
  }
  async getVlans({ ifindex }: Link): Promise<PortVlans> {
    await this.step(ifindex);
    return this.vlans.get(ifindex) ?? NO_VLANS;
  }
  async setVlans({ ifindex }: Link, vlans: PortVlans): Promise<void> {
    await this.step(ifindex);
    this.vlans.set(ifindex, vlans);
  }
  readonly openVSwitch: OvsSwitch = {
    read: () => Promise.reject(new AttachError('ENOOVS', 'no Open vSwitch', '')),
    setPort: () => Promise.reject(new AttachError('ENOOVS', 'no Open vSwitch', '')),
    removePort: async () => undefined,
    ownPorts: async () => [],
  };
  async setPort({ ifindex }: Link, port: PortSettings): Promise<void> {
    await this.step(ifindex);
    const link = this.links.get(ifindex) as Link;
    this.links.set(ifindex, { ...link, port: { ...link.port, ...port } });
  }
  private add(more: Partial<Link> & { ifname: string }): number {
    const ifindex = this.nextIndex++;
    const link = {
      up: false,
      address: 'fe:ff:ff:ff:ff:ff',
      mtu: 1500,
      txqlen: 1000,
      master: 0,
      kind: '',
      alias: '',
      port: undefined,
      lower: 0,
      vlanFiltering: false,
    };
    this.links.set(ifindex, { ...link, parentDev: '', addrGenMode: 0, ...more, ifindex });
    this.onChange(more.ifname);
    return ifindex;
  }
  async remove(ifname: string): Promise<void> {
    for (const [index, link] of this.links)
      if (link.ifname === ifname) {
        this.links.delete(index);
        this.forgetLink(index);
      }
    this.onChange(ifname);
  }
  find(ifname: string): Link | undefined {
    return [...this.links.values()].find((link) => link.ifname === ifname);
  }
  /** Another program's hand. */
  change(ifname: string, change: Partial<Link>): void {
    const link = this.find(ifname) as Link;
    this.links.set(link.ifindex, { ...link, ...change });
    this.onChange(ifname);
  }
  protected async step(ifindex?: number): Promise<void> {
    await this.beforeCall(this.calls++);
    if (ifindex !== undefined && !this.links.has(ifindex))
      throw new NetlinkError('ENODEV', 'touch', `if${ifindex}`, 19);
  }
  async getLink(ifname: string): Promise<Link | undefined> {
    await this.step();
    return this.find(ifname);
  }
  async listLinks(): Promise<Link[]> {
    await this.step();
    return [...this.links.values()];
  }
  async setLink({ ifindex, ifname }: Link, change: LinkChange): Promise<void> {
    await this.step(ifindex);
    await this.beforeChange(change, ifname);
    if (change.master && !this.links.has(change.master)) throw new NetlinkError('EINVAL', 'set master of', ifname, 22);
    const { forwarding, proxyArp, rpFilter, ...rest } = change;
    const { ipv4 = { forwarding: false, proxyArp: false, rpFilter: 0 }, ...link } = this.links.get(ifindex) as Link;
    const conf = Object.fromEntries(
      Object.entries({ forwarding, proxyArp, rpFilter }).filter(([, value]) => value !== undefined),
    );
    this.links.set(ifindex, { ...link, ...rest, ipv4: { ...ipv4, ...conf } });
  }
  async getFeatures({ ifindex }: Link): Promise<Features> {
    await this.step(ifindex);
    return { ...NO_FEATURES, wanted: new Set(this.cleared.has(ifindex) ? [] : ['tx-checksum-ipv4']) };
  }
  async setFeatures({ ifindex }: Link): Promise<void> {
    await this.step(ifindex);
    this.cleared.add(ifindex);
  }
}

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
  private laterMs = 0;

  /** With the bridge br0. */
  async start(): Promise<void> {
    Object.assign(this, { beforeMessage: () => {}, deaf: false, laterMs: 0, config: DEFAULTS });
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
