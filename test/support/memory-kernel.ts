/** A kernel's network in memory only: netback makes interfaces here, and each question or change can be hit. */
import { AttachError, NetlinkError } from '../../src/errors.js';
import type { PortSettings } from '../../src/network/bridge-port.js';
import { NO_VLANS, type PortVlans } from '../../src/network/bridge-vlan.js';
import { type Features, NO_FEATURES } from '../../src/network/ethtool.js';
import type { Guard, TableName } from '../../src/network/guard-table.js';
import type { KernelNetwork } from '../../src/network/kernel.js';
import type { GuardLook } from '../../src/network/nftables.js';
import type { OvsSwitch } from '../../src/network/openvswitch.js';
import type { Link, LinkChange } from '../../src/network/rtnetlink.js';
import type { LinkFactory } from '../../src/simulator/links.js';
import { MemoryRoutes } from './memory-routes.js';

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
  readonly tables = {
    bridge: this.guards,
    inet: new Map<string, string>(),
    nat: new Map<string, string>(),
    bound: new Map<string, string>(),
  };
  async getGuard(ifname: string, _: GuardLook, table: TableName = 'bridge'): Promise<string | undefined> {
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
    const holder = change.ifname === undefined ? undefined : this.find(change.ifname);
    if (holder !== undefined && holder.ifindex !== ifindex)
      throw new NetlinkError('EEXIST', `set ifname=${change.ifname} of`, ifname, 17);
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
  /** Whether its checksum offload is off. */
  isCleared(ifindex: number): boolean {
    return this.cleared.has(ifindex);
  }
  async setFeatures({ ifindex }: Link): Promise<void> {
    await this.step(ifindex);
    this.cleared.add(ifindex);
  }
}
