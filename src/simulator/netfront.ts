/**
 * A guest's network driver (Linux drivers/net/xen-netfront.c), on the guest's own connection to xenstore: it follows
 * the backend's state, closes and comes back as a driver reload does, and misbehaves where a test asks for it.
 */
import { ConnectionError, hasCode } from '../errors.js';
import { XenbusState } from '../vif/backend.js';
import type { Watch, XenstoreClient } from '../xenstore/client.js';

export interface NetfrontOptions {
  /** How long the guest takes from its start until its driver looks at the device. */
  readonly bootMs?: number;
  /** False: a guest without a driver, that neither connects nor closes by itself. Default true. */
  readonly connects?: boolean;
  /** Passes through 3 Initialised, as the drivers of some other systems do. */
  readonly initialised?: boolean;
}

/** The nodes of talk_to_netback() for one queue. */
const RING_NODES: readonly (readonly [string, string])[] = [
  ['tx-ring-ref', '8'],
  ['rx-ring-ref', '9'],
  ['event-channel-tx', '11'],
  ['event-channel-rx', '12'],
  ['request-rx-copy', '1'],
  ['feature-rx-notify', '1'],
  ['feature-sg', '1'],
  ['feature-gso-tcpv4', '1'],
  ['feature-gso-tcpv6', '1'],
  ['feature-ipv6-csum-offload', '1'],
];

/** xennet_bus_close and xennet_create_dev wait for the backend, and look again every so often. */
const BACKEND_WAIT_MS = 10_000;

export class Netfront {
  /** Relative: the guest's own device directory. */
  readonly dir: string;
  /** What this driver last wrote (dev->state). */
  private written: number = XenbusState.Initialising;
  private backendState: number = XenbusState.Unknown;
  private watch: Watch | undefined;
  private backendStatePath = '';
  private waiters: (() => void)[] = [];
  private turn: Promise<void> = Promise.resolve();
  private connects: boolean;
  private running = false;
  /** Came back, and has not seen the backend come along yet: what it sees there is still the end of the last time. */
  private reopening = false;

  constructor(
    private readonly store: XenstoreClient,
    devid: number,
    private readonly options: NetfrontOptions = {},
  ) {
    this.dir = `device/vif/${devid}`;
    this.connects = options.connects ?? true;
  }

  /** xennet_probe and xenbus_dev_probe: finds the backend and follows its state from now on. */
  async start(): Promise<void> {
    this.running = true;
    if (this.options.bootMs !== undefined) await new Promise((resolve) => setTimeout(resolve, this.options.bootMs));
    if (!this.running) return;
    this.backendStatePath = `${await this.store.read(`${this.dir}/backend`)}/state`;
    this.watch = await this.store.watch(this.backendStatePath, () => this.kick());
  }

  /** The guest runs no more (libxl pauses it before it destroys its devices): it answers nothing from here on. */
  async stop(): Promise<void> {
    this.running = false;
    const watch = this.watch;
    this.watch = undefined;
    await watch?.close().catch(ignoreEnd);
    await this.turn;
  }

  /** xennet_bus_close (`modprobe -r`, unbind): 5, the backend's 5, 6, the backend's 6. */
  async close(): Promise<void> {
    this.connects = false;
    await this.switchState(XenbusState.Closing);
    await this.waitForBackend([XenbusState.Closing, XenbusState.Closed, XenbusState.Unknown]);
    await this.switchState(XenbusState.Closed);
    await this.waitForBackend([XenbusState.Closed, XenbusState.Unknown]);
  }

  /** The driver comes back (xennet_create_dev): 1, the backend's 2, and connects again. Resolves once the backend is in 4. */
  async reopen(): Promise<void> {
    this.connects = true;
    this.reopening = true;
    await this.switchState(XenbusState.Initialising);
    this.kick();
    await this.waitForBackend([XenbusState.Connected]);
  }

  /** A driver reload in the guest: `online` stays 1 all the time. */
  async reload(): Promise<void> {
    await this.close();
    await this.reopen();
  }

  /**
   * A hostile guest: runs through the states as fast as xenstore takes them, without any regard to the backend. A decent
   * driver takes over in the end; resolves once the backend is in 4.
   */
  async flap(rounds: number): Promise<void> {
    this.running = false;
    for (let round = 0; round < rounds; round++) {
      for (const state of [XenbusState.Closed, XenbusState.Initialising, XenbusState.Connected])
        await this.store.write(`${this.dir}/state`, String(state));
    }
    this.running = true;
    await this.reload();
  }

  /** A hostile guest: removes its own device directory, which it may. Netback sees XenbusStateUnknown. */
  async removeDirectory(): Promise<void> {
    await this.store.rm(this.dir);
  }

  /** Writes any state, without the waiting of a decent driver. Does nothing when the directory is gone. */
  async switchState(state: number): Promise<void> {
    this.written = state;
    await this.update([['state', String(state)]]);
  }

  /** Resolves with the backend's state once it is one of these. Rejects after `timeoutMs`. */
  async waitForBackend(states: readonly number[], timeoutMs = BACKEND_WAIT_MS): Promise<number> {
    const until = performance.now() + timeoutMs;
    while (!states.includes(this.backendState)) {
      const leftMs = until - performance.now();
      if (leftMs <= 0) throw new Error(`${this.dir}: backend state ${this.backendState}, not ${states.join('/')}`);
      await this.nextChange(leftMs);
    }
    return this.backendState;
  }

  private nextChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.waiters.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  private kick(): void {
    this.turn = this.turn.then(() => this.look()).catch(ignoreEnd);
  }

  /** netback_changed. */
  private async look(): Promise<void> {
    if (!this.running) return;
    const before = this.backendState;
    this.backendState = Number((await this.store.readOptional(this.backendStatePath)) ?? XenbusState.Unknown);
    const { InitWait, Initialising, Closing, Closed } = XenbusState;
    if (this.backendState === InitWait) this.reopening = false;
    if (this.backendState === InitWait && this.written === Initialising && this.connects) await this.connect();
    const closes = this.backendState === Closing || this.backendState === Closed;
    if (closes && this.backendState !== before && !this.reopening) await this.frontendClosed();
    for (const wake of this.waiters.splice(0)) wake();
  }

  /** xennet_connect, talk_to_netback: rings and features, then 4. Linux leaves out 3. */
  private async connect(): Promise<void> {
    if (this.options.initialised) await this.switchState(XenbusState.Initialised);
    this.written = XenbusState.Connected;
    await this.update([...RING_NODES, ['state', String(XenbusState.Connected)]]);
  }

  /** xenbus_frontend_closed. A driver that closes by itself has its own order. */
  private async frontendClosed(): Promise<void> {
    if (this.written === XenbusState.Closed || this.written === XenbusState.Closing || !this.connects) return;
    await this.switchState(XenbusState.Closed);
  }

  /** __xenbus_switch_state: in one transaction, and never making a device anew that is gone. */
  private async update(nodes: readonly (readonly [string, string])[]): Promise<void> {
    try {
      await this.store.transaction(async (tx) => {
        await tx.read(`${this.dir}/state`);
        await Promise.all(nodes.map(([name, value]) => tx.write(`${this.dir}/${name}`, value)));
      });
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'EACCES')) throw error;
    }
  }
}

/** The end of the connection is the end of the domain. */
function ignoreEnd(error: unknown): void {
  if (!(error instanceof ConnectionError)) throw error;
}
