/**
 * One vif in the driver domain's kernel: the xenbus device and its driver xen-netback
 * (drivers/xen/xenbus/xenbus_probe.c, drivers/net/xen-netback/xenbus.c). netback.ts finds and loses these.
 *
 * INVARIANTS
 * - `state` is written only where it exists: a device that dom0 removed is never made anew.
 * - What the agent owes is seen here and nowhere else: state 4 comes when `hotplug-status` is exactly `connected`.
 */
import { constants } from 'node:os';
import { ConnectionError, hasCode, VifdError } from '../errors.js';
import { XenbusState } from '../vif/backend.js';
import type { Watch, XenstoreClient } from '../xenstore/client.js';
import type { LinkFactory } from './links.js';

export interface NetbackOptions {
  readonly links: LinkFactory;
  /** Linux up to 5.5: the interface is there before state 2, which waits for the frontend's state 1. */
  readonly linkFirst?: boolean;
  /** How long register_netdev takes. Holds up all other vifs, as it does in the kernel. */
  readonly linkDelayMs?: number;
  /** The interface never comes. */
  readonly neverLink?: boolean;
  /** Some Linux 5.x: removes hotplug-status at each disconnect, so that the agent has to write it once more. */
  readonly rmStatusOnDisconnect?: boolean;
  /** Called with what the simulator itself did wrong. Default: the process ends with it. */
  readonly onFault?: (error: Error) => void;
}

/** What netback_probe writes in one transaction, and then on its own. */
const FEATURES = [
  ['feature-sg', '1'],
  ['feature-gso-tcpv4', '1'],
  ['feature-gso-tcpv6', '1'],
  ['feature-ipv6-csum-offload', '1'],
  ['feature-rx-copy', '1'],
  ['feature-xdp-headroom', '1'],
  ['feature-rx-flip', '0'],
  ['feature-multicast-control', '1'],
  ['feature-dynamic-multicast-control', '1'],
] as const;
const OPTIONAL_FEATURES = [
  ['feature-split-event-channels', '1'],
  ['multi-queue-max-queues', '8'],
  ['feature-ctrl-ring', '1'],
] as const;

/** What a device needs of its bus. */
export interface Bus {
  later(task: () => Promise<void>): void;
  unregistered(): void;
}

/** xenbus_dev_fatal ended the probe. */
class ProbeFailed extends Error {}

/** One xenbus device with its struct backend_info and struct xenvif. */
export class VifDevice {
  private frontend = '';
  private frontendId = '';
  /** dev->state: what xenstore was last told. */
  private told: number = XenbusState.Initialising;
  /** be->state: where netback is. Xenstore learns of it later while `hotplugWatch` is armed. */
  private state: number = XenbusState.Initialising;
  private ifname: string | undefined;
  private frontendWatch: Watch | undefined;
  private frontendPending = false;
  private hotplugWatch: Watch | undefined;
  /** xen_register_watchers: of the guest's wishes while it is connected. Nothing comes of them here, but the quota is used up. */
  private guestWatches: Watch[] = [];

  constructor(
    private readonly nodename: string,
    private readonly store: XenstoreClient,
    private readonly options: NetbackOptions,
    private readonly bus: Bus,
  ) {}

  /** xenbus_dev_probe: talk_to_otherend, netback_probe, watch_otherend. */
  async probe(): Promise<void> {
    try {
      await this.readOtherend();
      await this.netbackProbe();
    } catch (error) {
      if (!(error instanceof ProbeFailed)) throw error;
      await this.netbackRemove();
      return;
    }
    this.frontendWatch = await this.watchPath(`${this.frontend}/state`, () => {
      if (this.frontendPending) return; // frontend_will_handle: one waiting event is enough (XSA-349)
      this.frontendPending = true;
      this.bus.later(() => this.otherendChanged());
    });
  }

  private async readOtherend(): Promise<void> {
    const [id, frontend] = await Promise.all([this.read('frontend-id'), this.read('frontend')]);
    if (id === undefined || frontend === undefined)
      return this.fail('ENOENT', `reading other end details from ${this.nodename}`);
    if (frontend === '' || !(await exists(this.store, frontend)))
      return this.fail('ENOENT', `unable to read other end from ${this.nodename}.  missing or inaccessible.`);
    [this.frontendId, this.frontend] = [id, frontend];
  }

  /** netback_probe: features, state 2, `script`, and only then the interface. */
  private async netbackProbe(): Promise<void> {
    await this.writeFeatures();
    if (!this.options.linkFirst) await this.switchBackend(XenbusState.InitWait);
    if ((await this.read('script')) === undefined) await this.fail('ENOENT', 'reading script');
    await this.createInterface();
  }

  private async writeFeatures(): Promise<void> {
    try {
      await this.store.transaction(async (tx) => {
        for (const [name, value] of FEATURES) await tx.write(`${this.nodename}/${name}`, value);
      });
    } catch (error) {
      if (error instanceof ConnectionError || !(error instanceof VifdError)) throw error;
      await this.fail(error.code, 'writing feature-sg');
    }
    for (const [name, value] of OPTIONAL_FEATURES)
      await this.store.write(`${this.nodename}/${name}`, value).catch(ignoreRefused);
  }

  /** backend_create_xenvif: `vif<domid>.<handle>`. */
  private async createInterface(): Promise<void> {
    const text = await this.read('handle');
    const handle = Number.parseInt(text ?? '', 10);
    if (Number.isNaN(handle)) await this.fail(text === undefined ? 'ENOENT' : 'ERANGE', 'reading handle');
    if (this.options.linkDelayMs !== undefined) await sleep(this.options.linkDelayMs);
    if (this.options.neverLink) return;
    const ifname = `vif${this.frontendId}.${handle}`;
    try {
      const mac = await this.read('mac');
      await this.options.links.create(ifname, { domid: Number(this.frontendId), handle, mac });
    } catch (error) {
      if (error instanceof ConnectionError) throw error;
      await this.fail('EEXIST', 'creating interface');
    }
    this.ifname = ifname;
  }

  /** frontend_changed. */
  private async otherendChanged(): Promise<void> {
    this.frontendPending = false;
    if (this.frontendWatch === undefined) return;
    const state = await readState(this.store, this.frontend);
    switch (state) {
      case XenbusState.Initialising:
        return this.setBackendState(XenbusState.InitWait);
      case XenbusState.Initialised:
        return;
      case XenbusState.Connected:
        return this.setBackendState(XenbusState.Connected);
      case XenbusState.Reconfiguring:
        return this.switchState(XenbusState.Reconfigured);
      case XenbusState.Closing:
        return this.setBackendState(XenbusState.Closing);
      case XenbusState.Closed:
        await this.setBackendState(XenbusState.Closed);
        return Number(await this.read('online')) > 0 ? undefined : this.unregister();
      case XenbusState.Unknown:
        await this.setBackendState(XenbusState.Closed);
        return this.unregister();
      default:
        return this.devFatal('EINVAL', `saw state ${state} at frontend`);
    }
  }

  /** set_backend_state: the shortest way through the states, each of them written. */
  private async setBackendState(goal: number): Promise<void> {
    const { InitWait, Connected, Closing } = XenbusState;
    while (this.state !== goal) {
      const next = nextState(this.state, goal);
      if (this.state === InitWait && next === Connected) await this.connect();
      if (this.state === Connected && next === Closing) await this.disconnect();
      await this.switchBackend(next);
    }
  }

  /** backend_switch_state: xenstore is not told while the hotplug script is waited for. */
  private async switchBackend(state: number): Promise<void> {
    this.state = state;
    if (this.hotplugWatch === undefined) await this.switchState(state);
  }

  /** connect(): the rings, and then the watch on hotplug-status that defers every state from here on. */
  private async connect(): Promise<void> {
    if (this.ifname === undefined) return;
    if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test((await this.read('mac')) ?? ''))
      return this.devFatal('ENOENT', `parsing ${this.nodename}/mac`);
    if ((await this.store.readOptional(`${this.frontend}/tx-ring-ref`)) === undefined)
      return this.devFatal('ENOENT', `reading ${this.frontend}/ring-ref`);
    for (const path of [`${this.nodename}/rate`, `${this.frontend}/request-multicast-control`]) {
      const watch = await this.store.watch(path, () => {}).catch(ignoreRefused); // pr_warn, and on it goes
      if (watch) this.guestWatches.push(watch);
    }
    await this.unregisterHotplugWatch();
    this.hotplugWatch = await this.watchPath(`${this.nodename}/hotplug-status`, () =>
      this.bus.later(() => this.hotplugStatusChanged()),
    );
  }

  /** xenbus_watch_path. Undefined when the domain has no watch left. */
  private async watchPath(path: string, listener: () => void): Promise<Watch | undefined> {
    try {
      return await this.store.watch(path, listener);
    } catch (error) {
      if (!hasCode(error, 'E2BIG', 'ENOSPC')) throw error;
      await this.devFatal(error.code, `adding watch on ${path}`);
      return undefined;
    }
  }

  /** hotplug_status_changed: exactly these nine bytes. */
  private async hotplugStatusChanged(): Promise<void> {
    if (this.hotplugWatch === undefined || (await this.read('hotplug-status')) !== 'connected') return;
    await this.switchState(this.state);
    await this.unregisterHotplugWatch();
  }

  private async unregisterHotplugWatch(): Promise<void> {
    const watch = this.hotplugWatch;
    this.hotplugWatch = undefined;
    await watch?.close();
  }

  /** backend_disconnect. The interface stays. */
  private async disconnect(): Promise<void> {
    await this.unregisterGuestWatches();
    if (this.options.rmStatusOnDisconnect) await this.rmHotplugStatus();
  }

  private async rmHotplugStatus(): Promise<void> {
    await this.store.rm(`${this.nodename}/hotplug-status`).catch(ignoreRefused);
  }

  /** device_unregister and xenbus_dev_remove: a removal that dom0 began ends in state 6 even now. */
  async unregister(): Promise<void> {
    this.bus.unregistered();
    await this.dropWatches();
    await this.netbackRemove();
    if ((await readState(this.store, this.nodename)) === XenbusState.Closing)
      await this.switchState(XenbusState.Closed);
  }

  /** The simulator's end: no kernel any more, so nobody writes. */
  async abandon(): Promise<void> {
    await this.dropWatches();
    await this.freeInterface();
  }

  private async dropWatches(): Promise<void> {
    const watch = this.frontendWatch;
    this.frontendWatch = undefined;
    await watch?.close().catch(() => undefined);
    await this.unregisterHotplugWatch().catch(() => undefined);
    await this.unregisterGuestWatches();
  }

  private async unregisterGuestWatches(): Promise<void> {
    for (const watch of this.guestWatches.splice(0)) await watch.close().catch(() => undefined);
  }

  /** netback_remove. */
  private async netbackRemove(): Promise<void> {
    await this.unregisterHotplugWatch();
    await this.rmHotplugStatus();
    await this.freeInterface();
  }

  private async freeInterface(): Promise<void> {
    const ifname = this.ifname;
    this.ifname = undefined;
    if (ifname !== undefined) await this.options.links.remove(ifname);
  }

  /** __xenbus_switch_state. */
  private async switchState(state: number): Promise<void> {
    if (state === this.told) return;
    try {
      await this.store.transaction(async (tx) => {
        await tx.read(`${this.nodename}/state`);
        await tx.write(`${this.nodename}/state`, String(state));
      });
      this.told = state;
    } catch (error) {
      ignoreRefused(error);
    }
  }

  /** A failed probe: its own message, which xenbus_dev_probe's overwrites. */
  private async fail(code: string, message: string): Promise<never> {
    await this.devFatal(code, message);
    await this.devError(code, `xenbus_dev_probe on ${this.nodename}`);
    throw new ProbeFailed(message);
  }

  /** xenbus_dev_fatal: an error node, and state 5. */
  private async devFatal(code: string, message: string): Promise<void> {
    await this.devError(code, message);
    await this.switchState(XenbusState.Closing);
  }

  /** xenbus_va_dev_error: lost when the domain has no writable `error` directory. */
  private async devError(code: string, message: string): Promise<void> {
    const errno = (constants.errno as Record<string, number>)[code] ?? constants.errno.EIO;
    await this.store.write(`error/${this.nodename}/error`, `${errno} ${message}`).catch(ignoreRefused);
  }

  private read(name: string): Promise<string | undefined> {
    return this.store.readOptional(`${this.nodename}/${name}`);
  }
}

/** The table in set_backend_state. */
function nextState(from: number, goal: number): number {
  const { Initialising, InitWait, Connected, Closing, Closed } = XenbusState;
  switch (from) {
    case Initialising:
      return goal === Closed ? Closed : InitWait;
    case InitWait:
      return goal === Connected ? Connected : Closing;
    case Connected:
      return Closing;
    case Closing:
      return Closed;
    default:
      return goal === Closing ? Closing : InitWait;
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** xenbus_read_driver_state: a missing node is XenbusStateUnknown. */
export async function readState(store: XenstoreClient, dir: string): Promise<number> {
  return Number((await store.readOptional(`${dir}/state`)) ?? XenbusState.Unknown);
}

/** xenbus_exists. */
export async function exists(store: XenstoreClient, path: string): Promise<boolean> {
  return (await store.readOptional(path)) !== undefined;
}

/** What the kernel does not look at: the node is gone, or may not be written any more, or the quota is used up. */
function ignoreRefused(error: unknown): void {
  if (!hasCode(error, 'ENOENT', 'EACCES', 'ENOSPC', 'E2BIG')) throw error;
}
