/**
 * A whole simulated Xen host around the agent: xenstored, dom0's toolstack, the driver domain's netback, guests. The agent
 * comes from outside, on the driver domain's socket, as it would in a real one. Behind `vifd demo`, the tests and benches.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XenstoreClient } from '../xenstore/client.js';
import { openSocket } from '../xenstore/transport.js';
import { Netback, type NetbackOptions } from './netback.js';
import { Netfront, type NetfrontOptions } from './netfront.js';
import type { Vif } from './nic.js';
import { SimulatedStore } from './store.js';
import { type Outcome, Toolstack, type ToolstackOptions } from './toolstack.js';
import type { Quotas } from './tree.js';

export const NICDOM = 1;

export interface HostOptions {
  readonly netback: NetbackOptions;
  readonly toolstack?: ToolstackOptions;
  readonly quotas?: Partial<Quotas>;
}

/** A vif as a guest's configuration names it. */
export type GuestVif = Omit<Vif, 'domid' | 'devid' | 'backendDomid'> & { readonly devid?: number };

interface Guest {
  readonly client: XenstoreClient;
  readonly netfronts: Map<number, Netfront>;
}

export class SimulatedHost {
  private readonly clients: XenstoreClient[] = [];
  private readonly guests = new Map<number, Guest>();
  private constructor(
    /** Of the sockets, mode 0700; gone after close(). */
    readonly directory: string,
    readonly store: SimulatedStore,
    readonly dom0: XenstoreClient,
    /** A connection as the driver domain, beside the agent's own. */
    readonly nicdom: XenstoreClient,
    readonly toolstack: Toolstack,
    readonly netback: Netback,
  ) {
    this.clients.push(dom0, nicdom);
  }

  static async start({ netback, toolstack, quotas = {} }: HostOptions): Promise<SimulatedHost> {
    const directory = await mkdtemp(join(tmpdir(), 'vifd-xenstore-'));
    const store = new SimulatedStore({ quotas });
    await Promise.all([0, NICDOM].map((domid) => store.listen(domid, join(directory, `${domid}.sock`))));
    const connect = async (domid: number) => new XenstoreClient(await openSocket(join(directory, `${domid}.sock`)));
    const dom0 = await connect(0);
    const xl = new Toolstack(dom0, toolstack);
    await xl.initDom0();
    await xl.createDomain({ domid: NICDOM, name: 'nicdom', driverDomain: true });
    const kernel = await connect(NICDOM);
    const host = new SimulatedHost(
      directory,
      store,
      dom0,
      await connect(NICDOM),
      xl,
      await Netback.start(kernel, netback),
    );
    host.clients.push(kernel);
    return host;
  }

  /** The unix socket on which a domain's programs reach xenstore. */
  socketOf(domid: number): string {
    return join(this.directory, `${domid}.sock`);
  }

  /** `xl create`: the guest's drivers start when the toolstack is done, as after unpausing. */
  async createGuest(domid: number, vifs: readonly GuestVif[], options: NetfrontOptions = {}): Promise<Outcome> {
    const full = vifs.map((vif, i) => ({ domid, devid: i, backendDomid: NICDOM, ...vif }));
    const outcome = await this.toolstack.createGuest({ domid, name: `guest${domid}` }, full);
    if (outcome.ok) for (const { devid } of full) await this.startNetfront(domid, devid, options);
    return outcome;
  }

  /** `xl network-attach` to a running guest. */
  async attachVif(domid: number, vif: GuestVif, options: NetfrontOptions = {}): Promise<Outcome> {
    const devid = vif.devid ?? this.guest(domid).netfronts.size;
    const outcome = await this.toolstack.attachVif({ domid, devid, backendDomid: NICDOM, ...vif });
    if (outcome.ok) await this.startNetfront(domid, devid, options);
    return outcome;
  }

  /** `xl network-detach`. */
  detachVif(domid: number, devid: number): Promise<Outcome> {
    return this.toolstack.detachVif({ domid, devid, backendDomid: NICDOM });
  }

  /** `xl destroy`: the guest stops at once, wherever its drivers are. */
  async destroyGuest(domid: number): Promise<Outcome> {
    await this.stopGuest(domid);
    return this.toolstack.destroyDomain(domid);
  }

  /** A reboot: the same vifs under a new domain id. */
  async rebootGuest(domid: number, newDomid: number): Promise<Outcome> {
    const devids = [...this.guest(domid).netfronts.keys()];
    await this.stopGuest(domid);
    const outcome = await this.toolstack.rebootDomain(domid, newDomid);
    for (const devid of devids) await this.startNetfront(newDomid, devid, {});
    return outcome;
  }

  netfront(domid: number, devid: number): Netfront {
    const netfront = this.guest(domid).netfronts.get(devid);
    if (netfront === undefined) throw new Error(`guest ${domid} has no vif ${devid}`);
    return netfront;
  }

  /** A node of a vif's backend directory; undefined when it is missing. */
  backendNode(domid: number, devid: number, node: string): Promise<string | undefined> {
    return this.nicdom.readOptional(`backend/vif/${domid}/${devid}/${node}`);
  }

  async close(): Promise<void> {
    for (const domid of [...this.guests.keys()]) await this.stopGuest(domid);
    await this.netback.stop();
    for (const client of this.clients) await client.close();
    await this.store.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  private guest(domid: number): Guest {
    const guest = this.guests.get(domid);
    if (guest === undefined) throw new Error(`no guest ${domid}`);
    return guest;
  }

  private async startNetfront(domid: number, devid: number, options: NetfrontOptions): Promise<void> {
    const guest = this.guests.get(domid) ?? (await this.connectGuest(domid));
    await guest.netfronts.get(devid)?.stop();
    const netfront = new Netfront(guest.client, devid, options);
    guest.netfronts.set(devid, netfront);
    await netfront.start();
  }

  private async connectGuest(domid: number): Promise<Guest> {
    await this.store.listen(domid, this.socketOf(domid));
    const guest = {
      client: new XenstoreClient(await openSocket(this.socketOf(domid))),
      netfronts: new Map<number, Netfront>(),
    };
    this.guests.set(domid, guest);
    return guest;
  }

  private async stopGuest(domid: number): Promise<void> {
    const guest = this.guests.get(domid);
    this.guests.delete(domid);
    for (const netfront of guest?.netfronts.values() ?? []) await netfront.stop();
    await guest?.client.close();
    await this.store.unlisten(domid);
  }
}
