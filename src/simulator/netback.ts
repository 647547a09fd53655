/**
 * The driver domain's kernel as far as vifs go: xenbus's backend bus (drivers/xen/xenbus/xenbus_probe_backend.c) with the
 * driver xen-netback (netback-device.ts), on the driver domain's own connection to xenstore. See shared/contract.md 6.
 *
 * INVARIANT: one thing at a time. In the kernel a single thread, xenwatch, serves the watches of all devices.
 */
import { ConnectionError, hasCode } from '../errors.js';
import { XenbusState } from '../vif/backend.js';
import type { Watch, XenstoreClient } from '../xenstore/client.js';
import { parseBackendPath } from '../xenstore/paths.js';
import { exists, type NetbackOptions, readState, VifDevice } from './netback-device.js';

export type { NetbackOptions } from './netback-device.js';

/** The backend bus: finds new directories below `backend/vif`, and notices removed ones. */
export class Netback {
  private readonly devices = new Map<string, VifDevice>();
  private xenwatch: Promise<void> = Promise.resolve();
  private watch: Watch | undefined;

  private constructor(
    private readonly store: XenstoreClient,
    private readonly options: NetbackOptions,
  ) {}

  /** `modprobe xen-netback`: xenbus_probe_devices and the watch on relative `backend`. */
  static async start(store: XenstoreClient, options: NetbackOptions): Promise<Netback> {
    const netback = new Netback(store, options);
    netback.watch = await store.watch('backend', ({ path }) => netback.later(() => netback.devChanged(path)));
    await netback.later(() => netback.probeAll());
    return netback;
  }

  /** Stops and takes the interfaces away; xenstore stays as it is. The connection is the caller's to close. */
  async stop(): Promise<void> {
    await this.watch?.close().catch(() => undefined);
    await this.later(async () => {
      for (const device of this.devices.values()) await device.abandon();
      this.devices.clear();
    });
  }

  /** A turn of xenwatch. */
  private later(task: () => Promise<void>): Promise<void> {
    this.xenwatch = this.xenwatch.then(task).catch((error) => {
      if (error instanceof ConnectionError) return;
      if (this.options.onFault === undefined) throw error;
      this.options.onFault(error);
    });
    return this.xenwatch;
  }

  private async probeAll(): Promise<void> {
    for (const domid of await list(this.store, 'backend/vif')) {
      for (const devid of await list(this.store, `backend/vif/${domid}`))
        await this.probeNode(`backend/vif/${domid}/${devid}`);
    }
  }

  /** xenbus_dev_changed. */
  private async devChanged(path: string): Promise<void> {
    const place = parseBackendPath(path);
    if (place?.node !== '') {
      if (place !== undefined) await this.probeNode(`backend/vif/${place.key.domid}/${place.key.devid}`);
      else await this.forgetBelow(path);
      return;
    }
    if (await exists(this.store, path)) await this.probeNode(path);
    else await this.forgetBelow(path);
  }

  /** xenbus_cleanup_devices: a directory that dom0 or the agent removed takes its devices along. */
  private async forgetBelow(path: string): Promise<void> {
    for (const [nodename, device] of this.devices) {
      if (nodename !== path && !nodename.startsWith(`${path}/`)) continue;
      if (!(await exists(this.store, nodename))) await device.unregister();
    }
  }

  /** xenbus_probe_node: a directory whose state is not 1 is not new, and is left alone. */
  private async probeNode(nodename: string): Promise<void> {
    if (this.devices.has(nodename)) return;
    if ((await readState(this.store, nodename)) !== XenbusState.Initialising) return;
    const device = new VifDevice(nodename, this.store, this.options, {
      later: (task) => void this.later(task),
      unregistered: () => this.devices.delete(nodename),
    });
    this.devices.set(nodename, device);
    await device.probe();
  }
}

async function list(store: XenstoreClient, path: string): Promise<string[]> {
  return store.directory(path).catch((error) => {
    if (hasCode(error, 'ENOENT', 'EACCES')) return [];
    throw error;
  });
}
