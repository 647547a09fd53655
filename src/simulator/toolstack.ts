/**
 * dom0's toolstack as far as vifs in a driver domain go: what libxl writes, waits for and deletes
 * (tools/libs/light/libxl_device.c, libxl_nic.c, libxl_create.c; shared/contract.md section 2), and what xl prints.
 */
import { hasCode } from '../errors.js';
import { XenbusState } from '../vif/backend.js';
import type { StoreOperations, Watch, XenstoreClient } from '../xenstore/client.js';
import {
  backendDir,
  backendNodes,
  defaultMac,
  domainDir,
  frontendDir,
  frontendNodes,
  libxlDir,
  type Nodes,
  type Vif,
} from './nic.js';

export type { Vif } from './nic.js';

/** What the functions of this file need to know of a domain. */
export interface Guest {
  readonly domid: number;
  readonly name: string;
  /** `driver_domain=1` in its configuration. */
  readonly driverDomain?: boolean;
}

export interface ToolstackOptions {
  /** Which Xen 4.x: 17 writes hotplug-status, 15 mtu, 19 vlan. Default 20; 14 is the old one. */
  readonly xenMinor?: number;
  /** LIBXL_INIT_TIMEOUT, 10 s. */
  readonly initTimeoutMs?: number;
  /** LIBXL_DESTROY_TIMEOUT, 10 s; counts for each of the two waits of a removal. */
  readonly destroyTimeoutMs?: number;
  /**
   * What xl needs from a watch event to its read, one event after the other: 0 here, tens of milliseconds in a busy dom0.
   * The later it reads `state` 6, the longer the agent has to leave the directory (contract 10.4).
   */
  readonly eventMs?: number;
}

/** How an xl command went. `errors` is what it prints; ok means that it printed none. */
export interface Outcome {
  readonly ok: boolean;
  readonly errors: readonly string[];
  readonly waitedMs: number;
}

/** LIBXL__FORCE_AUTO begins gently and forces after the first time-out; LIBXL__FORCE_ON forces at once. */
type Force = 'auto' | 'on';

/** xl and libxl in dom0. Every call plays one xl command to its end and resolves with what it prints. */
export class Toolstack {
  private readonly guests = new Map<number, { guest: Guest; vifs: Map<number, Vif> }>();
  private readonly xenMinor: number;
  private readonly initTimeoutMs: number;
  private readonly destroyTimeoutMs: number;
  private readonly eventMs: number;
  private turn: Promise<unknown> = Promise.resolve();
  private transactions: Promise<unknown> = Promise.resolve();

  /** `store`: a connection as dom0. */
  constructor(
    private readonly store: XenstoreClient,
    options: ToolstackOptions = {},
  ) {
    this.xenMinor = options.xenMinor ?? 20;
    this.initTimeoutMs = options.initTimeoutMs ?? 10_000;
    this.destroyTimeoutMs = options.destroyTimeoutMs ?? 10_000;
    this.eventMs = options.eventMs ?? 0;
  }

  /** xen-init-dom0: dom0's own nodes. */
  async initDom0(): Promise<void> {
    await writeAll(this.store, domainDir(0), [
      ['domid', '0'],
      ['name', 'Domain-0'],
    ]);
  }

  /** libxl__domain_make and libxl__build_post: the domain's home with the parts that it may write itself. */
  async createDomain(guest: Guest): Promise<void> {
    const { domid } = guest;
    const home = domainDir(domid);
    const writable = [...DOMAIN_WRITABLE, ...(guest.driverDomain ? DRIVER_DOMAIN_WRITABLE : [])];
    await this.transaction(async (tx) => {
      await makeDir(tx, home, [`n0`, `r${domid}`]);
      await makeDir(tx, vmDir(domid), [`n0`, `r${domid}`]);
      await makeDir(tx, `/libxl/${domid}`, ['n0']);
      for (const dir of ['cpu', 'memory', 'device', 'control'])
        await makeDir(tx, `${home}/${dir}`, ['n0', `r${domid}`]);
      for (const dir of writable) await makeDir(tx, `${home}/${dir}`, [`n${domid}`]);
      await writeAll(tx, vmDir(domid), [['name', guest.name]]);
      await writeAll(tx, home, [
        ['vm', vmDir(domid)],
        ['name', guest.name],
        ['domid', String(domid)],
      ]);
    });
    this.guests.set(domid, { guest, vifs: new Map() });
  }

  /** `xl create` of a guest: its home, then all its vifs at once (libxl__add_nics). A vif that fails ends the guest. */
  async createGuest(guest: Guest, vifs: readonly Vif[]): Promise<Outcome> {
    const startedAt = performance.now();
    await this.createDomain(guest);
    const errors = (await Promise.all(vifs.map((vif) => this.addVif(vif)))).flat();
    if (errors.length > 0) {
      errors.push(libxlError('domcreate_attach_devices', guest.domid, 'unable to add vif devices'));
      errors.push(...(await this.destroyDomain(guest.domid)).errors);
    }
    return outcome(errors, startedAt);
  }

  /** `xl network-attach`: libxl__device_nic_add. Resolves when the backend is in state 2; the agent is not waited for. */
  async attachVif(vif: Vif): Promise<Outcome> {
    const startedAt = performance.now();
    const errors = await this.addVif(vif);
    if (errors.length > 0) errors.push('libxl_device_nic_add failed.');
    return outcome(errors, startedAt);
  }

  /** `xl network-detach`: libxl_device_nic_remove, gentle at first. */
  async detachVif(vif: Vif): Promise<Outcome> {
    const startedAt = performance.now();
    const errors = await this.removeDevice(vif, 'auto');
    if (errors.length > 0) errors.push('libxl_device_nic_remove failed.');
    return outcome(errors, startedAt);
  }

  /** `xl destroy`: libxl__devices_destroy for all vifs side by side, then the domain's home. The caller stops the guest. */
  async destroyDomain(domid: number): Promise<Outcome> {
    const startedAt = performance.now();
    const vifs = await this.listVifs(domid);
    const errors = (await Promise.all(vifs.map((vif) => this.removeDevice(vif, 'on')))).flat();
    if (errors.length > 0) errors.push(libxlError('devices_destroy_cb', domid, 'libxl__devices_destroy failed'));
    await this.store.rm(vmDir(domid));
    await this.store.rm(domainDir(domid));
    await this.store.rm(`/libxl/${domid}`);
    this.guests.delete(domid);
    return outcome(errors, startedAt);
  }

  /** A guest's reboot: xl destroys the domain and makes it anew under another id, with the same vifs. */
  async rebootDomain(domid: number, newDomid: number): Promise<Outcome> {
    const startedAt = performance.now();
    const known = this.guests.get(domid);
    if (known === undefined) throw new Error(`no domain ${domid}`);
    const vifs = [...known.vifs.values()].map((vif) => ({ mac: defaultMac(vif), ...vif, domid: newDomid }));
    const destroyed = await this.destroyDomain(domid);
    const created = await this.createGuest({ ...known.guest, domid: newDomid }, vifs);
    return outcome([...destroyed.errors, ...created.errors], startedAt);
  }

  /** The vifs that libxl would find: it trusts only its own copy below /libxl. */
  private async listVifs(domid: number): Promise<Vif[]> {
    const root = `/libxl/${domid}/device/vif`;
    const devids = await this.store.directory(root).catch((error) => {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    });
    const vifs = devids.map(async (devid) => {
      const backend = await this.store.read(`${root}/${devid}/backend`);
      return { domid, devid: Number(devid), backendDomid: Number(backend.split('/')[3]) };
    });
    return Promise.all(vifs);
  }

  /** libxl__device_add_async, then libxl__wait_device_connection. */
  private async addVif(vif: Vif): Promise<string[]> {
    const path = backendDir(vif);
    if ((await this.store.readOptional(libxlDir(vif))) !== undefined)
      return [libxlError('libxl__device_add_async', vif.domid, 'device already exists in xenstore')];
    await this.transaction((tx) => this.writeVif(tx, vif));
    this.guests.get(vif.domid)?.vifs.set(vif.devid, vif);
    const state = await this.waitForState(path, XenbusState.InitWait, this.initTimeoutMs);
    if (state === 'reached') return [];
    return [libxlError('device_backend_callback', vif.domid, `unable to add device with path ${path}`)];
  }

  /** libxl__device_generic_add: /libxl first, then the frontend, then the backend, in this order of nodes. */
  async writeVif(tx: StoreOperations, vif: Vif): Promise<void> {
    const { domid, backendDomid } = vif;
    const [own, front, back] = [libxlDir(vif), frontendDir(vif), backendDir(vif)];
    const nodes = backendNodes(vif, this.xenMinor);
    await makeDir(tx, own, ['n0']);
    await writeAll(tx, own, [
      ['frontend', front],
      ['backend', back],
    ]);
    await makeDir(tx, front, [`n${domid}`, `r${backendDomid}`]);
    await writeAll(tx, front, [['backend', back], ...frontendNodes(vif, this.xenMinor)]);
    if (this.xenMinor >= 15) {
      await tx.write(`${front}/mtu`, String(vif.mtu ?? 1500));
      await tx.setPerms(`${front}/mtu`, [`n${backendDomid}`, `r${domid}`]);
    }
    await makeDir(tx, back, [`n${backendDomid}`, `r${domid}`]);
    await writeAll(tx, back, [['frontend', front], ...nodes]);
    await writeAll(tx, own, nodes);
  }

  /** libxl__initiate_device_generic_remove and the callbacks behind it. Resolves with what libxl prints. */
  private async removeDevice(vif: Vif, force: Force): Promise<string[]> {
    const path = backendDir(vif);
    if (!(await this.goOffline(vif, force))) return this.deviceDestroy(vif); // "backend already removed, cleanup frontend only"
    const state = await this.waitForState(path, XenbusState.Closed, this.destroyTimeoutMs);
    if (state === 'timed out' && force === 'auto') return this.removeDevice(vif, 'on');
    const errors: string[] = [];
    if (state !== 'reached')
      errors.push(libxlError('device_backend_callback', vif.domid, `unable to remove device with path ${path}`));
    else if ((await this.waitForRemoval(path)) === 'timed out')
      errors.push(
        libxlError('device_destroy_be_watch_cb', vif.domid, `timed out while waiting for ${path} to be removed`),
      );
    if (force === 'on' || errors.length === 0) await this.deviceDestroy(vif);
    return errors;
  }

  /** The transaction that begins a removal. False: there is no backend any more. */
  private goOffline(vif: Vif, force: Force): Promise<boolean> {
    const path = backendDir(vif);
    return this.transaction(async (tx) => {
      const state = await tx.readOptional(`${path}/state`);
      if (state === undefined) return false;
      if (force === 'on') await pathCleanup(tx, frontendDir(vif));
      await tx.write(`${path}/online`, '0');
      if (Number(state) !== XenbusState.Closed) await tx.write(`${path}/state`, String(XenbusState.Closing));
      return true;
    });
  }

  /** libxl__device_destroy: the frontend, libxl's copy, and from Xen 4.15 on what is left of the backend. */
  private async deviceDestroy(vif: Vif): Promise<string[]> {
    await this.transaction(async (tx) => {
      await pathCleanup(tx, frontendDir(vif));
      await pathCleanup(tx, libxlDir(vif));
      if (this.xenMinor >= 15) await pathCleanup(tx, backendDir(vif));
    });
    this.guests.get(vif.domid)?.vifs.delete(vif.devid);
    return [];
  }

  /** libxl__ev_devstate_wait: fails at once when the node is missing. */
  private waitForState(path: string, wanted: number, timeoutMs: number): Promise<'reached' | 'missing' | 'timed out'> {
    return this.xswait(`${path}/state`, timeoutMs, (value) => {
      if (value === undefined) return 'missing';
      return Number(value) === wanted ? 'reached' : undefined;
    });
  }

  private waitForRemoval(path: string): Promise<'gone' | 'timed out'> {
    return this.xswait(path, this.destroyTimeoutMs, (value) => (value === undefined ? 'gone' : undefined));
  }

  /** libxl__xswait_start: reads the node at every event of a watch on it until `judge` has a verdict. */
  private async xswait<T>(
    path: string,
    timeoutMs: number,
    judge: (value: string | undefined) => T | undefined,
  ): Promise<T | 'timed out'> {
    let watch: Watch | undefined;
    const verdict = await new Promise<T | 'timed out'>((resolve, reject) => {
      const timer = setTimeout(() => resolve('timed out'), timeoutMs);
      const look = async () => {
        await this.nextTurn();
        const found = judge(await this.store.readOptional(path));
        if (found === undefined) return;
        clearTimeout(timer);
        resolve(found);
      };
      const opened = this.store.watch(path, () => void look().catch(reject));
      opened.then((value) => {
        watch = value;
      }, reject);
    });
    await watch?.close();
    return verdict;
  }

  /** libxl runs each of its transactions to the end before anything else. */
  private transaction<T>(body: (tx: StoreOperations) => Promise<T>): Promise<T> {
    const done = this.transactions.then(() => this.store.transaction(body));
    this.transactions = done.catch(() => undefined);
    return done;
  }

  /** xl is one thread: events are served one after the other. */
  private nextTurn(): Promise<unknown> {
    if (this.eventMs > 0) this.turn = this.turn.then(() => new Promise((resolve) => setTimeout(resolve, this.eventMs)));
    return this.turn;
  }
}

const DOMAIN_WRITABLE = [
  'control/shutdown',
  'device/suspend/event-channel',
  'data',
  'drivers',
  'feature',
  'attr',
  'error',
];
const DRIVER_DOMAIN_WRITABLE = ['libxl', 'device-model'];

const vmDir = (domid: number): string => `/vm/00000000-0000-0000-0000-${String(domid).padStart(12, '0')}`;

const libxlError = (callback: string, domid: number, message: string): string =>
  `libxl: error: ${callback}: Domain ${domid}:${message}`;

const outcome = (errors: readonly string[], startedAt: number): Outcome => ({
  ok: errors.length === 0,
  errors,
  waitedMs: Math.round(performance.now() - startedAt),
});

/** xs_rm, xs_mkdir, xs_set_permissions. */
async function makeDir(tx: StoreOperations, path: string, perms: readonly string[]): Promise<void> {
  await tx.rm(path).catch((error) => {
    if (!hasCode(error, 'ENOENT')) throw error;
  });
  await tx.mkdir(path);
  await tx.setPerms(path, perms);
}

/** libxl__xs_writev: children inherit the directory's permissions. */
async function writeAll(tx: StoreOperations, dir: string, nodes: Nodes): Promise<void> {
  await Promise.all(nodes.map(([name, value]) => tx.write(`${dir}/${name}`, value)));
}

/** libxl__xs_path_cleanup: the node, and its parents as far up as they are empty. */
async function pathCleanup(tx: StoreOperations, path: string): Promise<void> {
  await tx.rm(path).catch((error) => {
    if (!hasCode(error, 'ENOENT')) throw error;
  });
  for (let parent = dirname(path); parent !== ''; parent = dirname(parent)) {
    const value = await tx.readOptional(parent);
    if (value === undefined || value !== '') return;
    if ((await tx.directory(parent)).length > 0) return;
    await tx.rm(parent);
  }
}

const dirname = (path: string): string => path.slice(0, path.lastIndexOf('/'));
