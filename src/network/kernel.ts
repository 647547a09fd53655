/** EDGE: what vifd asks of this kernel's network and tells it. Knows interfaces and bridges, nothing of vifs. */

import { Children } from '../child.js';
import { hasCode, NetlinkError } from '../errors.js';
import type { Keep } from './attributes.js';
import { describePort, type PortSettings } from './bridge-port.js';
import {
  encodeGetVlans,
  encodeVlans,
  isOfPort,
  NO_VLANS,
  type PortVlans,
  parsePortVlans,
  vlanChange,
} from './bridge-vlan.js';
import {
  encodeGetFamily,
  encodeGetFeatures,
  encodeSetFeatures,
  type FeatureChange,
  type Features,
  GENL_ID_CTRL,
  NO_FEATURES,
  parseFamilyId,
  parseFeatures,
} from './ethtool.js';
import { Generation } from './generation.js';
import { type Guard, TABLES, type TableName } from './guard-table.js';
import { type Expect, NETLINK_GENERIC, NETLINK_ROUTE, NetlinkSocket, NLM_F_CREATE, NLM_F_EXCL } from './netlink.js';
import { Nft } from './nft.js';
import { type GuardLook, Nftables } from './nftables.js';
import { OpenVSwitch, type OvsSwitch } from './openvswitch.js';
import { type Family, formatPrefix, type Prefix } from './prefix.js';
import {
  describeRoute,
  encodeAddAddress,
  encodeGetProxies,
  encodeGetRoutes,
  encodeGetRules,
  encodeProxy,
  encodeRoute,
  encodeRule,
  isProxyOf,
  isRouteOf,
  isRuleOf,
  parseProxy,
  parseRoute,
  parseRule,
  type Route,
  type RoutesOf,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_GETNEIGH,
  RTM_GETROUTE,
  RTM_GETRULE,
  RTM_NEWADDR,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTM_NEWRULE,
  type SeenProxy,
  type SeenRoute,
  type SourceRule,
} from './routes.js';
import {
  describeChange,
  encodeDeleteAddress,
  encodeGetAddresses,
  encodeGetLink,
  encodeSetLink,
  encodeSetPort,
  isAddressOf,
  type Link,
  type LinkAddress,
  type LinkChange,
  parseAddress,
  parseLink,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_SETLINK,
} from './rtnetlink.js';

/** The reconciler's view of the kernel; tests put faults between. All reject with NetlinkError. */
export interface KernelNetwork {
  /** The interface of this name (or alternative name); undefined when there is none. */
  getLink(ifname: string): Promise<Link | undefined>;
  listLinks(): Promise<Link[]>;
  setLink(link: LinkName, change: LinkChange): Promise<void>;
  /** Of a link that is a port of a bridge. */
  setPort(link: LinkName, port: PortSettings): Promise<void>;
  /** The chain that guards the interface of this name, there or not. Rejects with AttachError where nft does not answer. */
  getGuard(ifname: string, look: GuardLook, table?: TableName): Promise<string | undefined>;
  /** Rejects with AttachError. */
  setGuard(ifname: string, guard: Guard | undefined, table?: TableName): Promise<void>;
  /** All names that stand in the table. */
  listGuarded(table?: TableName): Promise<string[]>;
  /** None for a link that is no port of a bridge. */
  getVlans(link: LinkName): Promise<PortVlans>;
  /** These and no others; what the port has already stays without a gap. */
  setVlans(link: LinkName, vlans: PortVlans): Promise<void>;
  listAddresses(ifindex: number): Promise<LinkAddress[]>;
  deleteAddress(link: LinkName, address: LinkAddress): Promise<void>;
  /** One that it has already is no error. */
  addAddress(link: LinkName, prefix: Prefix): Promise<void>;
  /** Of all tables. None where the kernel runs without this family. */
  listRoutes(family: Family, of?: RoutesOf): Promise<SeenRoute[]>;
  /** Rejects with EEXIST where there is one of the same destination, metric and table, wherever it leads. The link must be up. */
  addRoute(link: LinkName, route: Route): Promise<void>;
  /** One that is gone is no error. */
  deleteRoute(link: LinkName, route: Route): Promise<void>;
  /** vifd's; `of`: for these only. None where the kernel runs without this family or without policy rules. */
  listRules(family: Family, of?: readonly Prefix[]): Promise<SourceRule[]>;
  addRule(rule: SourceRule): Promise<void>;
  deleteRule(rule: SourceRule): Promise<void>;
  /** `of`: for these only. */
  listProxies(family: Family, of?: readonly Prefix[]): Promise<SeenProxy[]>;
  addProxy(link: LinkName, address: string): Promise<void>;
  deleteProxy(link: LinkName, address: string): Promise<void>;
  getFeatures(link: LinkName): Promise<Features>;
  setFeatures(link: LinkName, change: FeatureChange): Promise<void>;
  readonly openVSwitch: OvsSwitch;
}

/** The index is what the kernel is told, the name is for messages. */
export type LinkName = Pick<Link, 'ifindex' | 'ifname'>;

export class Kernel implements KernelNetwork {
  private readonly route = new NetlinkSocket(NETLINK_ROUTE);
  private readonly generic = new NetlinkSocket(NETLINK_GENERIC);
  /** What works for vifs; and for this domain's own network. */
  readonly vifChildren = new Children();
  readonly ownChildren = new Children();
  private readonly nft = new Nft(this.vifChildren);
  private readonly ownNft = new Nft(this.ownChildren);
  /** One for each that may wait for its nft: neither holds up the other. */
  private readonly generation = new Generation();
  private readonly ownGeneration = new Generation();
  private readonly nftables: Readonly<Record<TableName, Nftables>> = {
    bridge: new Nftables(TABLES.bridge, this.nft, this.generation),
    inet: new Nftables(TABLES.inet, this.nft, this.generation),
    nat: new Nftables(TABLES.nat, this.nft, this.generation),
    bound: new Nftables(TABLES.bound, this.ownNft, this.ownGeneration),
  };
  readonly openVSwitch: OvsSwitch = new OpenVSwitch(this.vifChildren);
  private ethtoolFamily: Promise<number> | undefined;

  /**
   * Asks every question once, of the loopback link: opens the sockets, looks the ethtool family up, and has the code
   * compiled. On a slow host the first attach took six times as long as the next without it.
   */
  async prepare(): Promise<void> {
    const lo = await this.getLink('lo');
    // Without an ethtool family a vif says so, where it is needed.
    const features = async (link: Link) => void (await this.getFeatures(link).catch(() => undefined));
    if (lo !== undefined) await Promise.all([this.listAddresses(lo.ifindex), features(lo)]);
  }

  close(): void {
    this.route.close();
    this.generic.close();
    this.nft.close();
    this.ownNft.close();
    this.generation.close();
    this.ownGeneration.close();
  }

  async getLink(ifname: string): Promise<Link | undefined> {
    try {
      const [answer] = await this.ask('get-link', ifname, RTM_GETLINK, encodeGetLink(ifname), 'one');
      return answer === undefined ? undefined : parseLink(answer);
    } catch (error) {
      if (hasCode(error, 'ENODEV')) return undefined;
      throw error;
    }
  }

  async listLinks(): Promise<Link[]> {
    const answers = await this.ask('list-links', '', RTM_GETLINK, encodeGetLink(), 'dump');
    return answers.flatMap((answer) => parseLink(answer) ?? []);
  }

  async setLink({ ifindex, ifname }: LinkName, change: LinkChange): Promise<void> {
    await this.ask(`set ${describeChange(change)} of`, ifname, RTM_SETLINK, encodeSetLink(ifindex, change), 'ack');
  }

  async setPort({ ifindex, ifname }: LinkName, port: PortSettings): Promise<void> {
    await this.ask(`set ${describePort(port)} of port`, ifname, RTM_NEWLINK, encodeSetPort(ifindex, port), 'ack');
  }

  getGuard(ifname: string, look: GuardLook, table: TableName = 'bridge'): Promise<string | undefined> {
    return this.nftables[table].chainOf(ifname, look);
  }

  setGuard(ifname: string, guard: Guard | undefined, table: TableName = 'bridge'): Promise<void> {
    return this.nftables[table].set(ifname, guard);
  }

  listGuarded(table: TableName = 'bridge'): Promise<string[]> {
    return this.nftables[table].names();
  }

  async getVlans({ ifindex, ifname }: LinkName): Promise<PortVlans> {
    const answers = await this.ask('get the VLANs of', ifname, RTM_GETLINK, encodeGetVlans(), 'dump');
    const answer = answers.find((one) => isOfPort(one, ifindex));
    return (answer && parsePortVlans(answer)?.vlans) ?? NO_VLANS;
  }

  async setVlans(link: LinkName, vlans: PortVlans): Promise<void> {
    const { ifindex, ifname } = link;
    const { add, remove } = vlanChange(vlans, await this.getVlans(link));
    if (add.untagged.size > 0) await this.ask('add VLANs to', ifname, RTM_SETLINK, encodeVlans(ifindex, add), 'ack');
    if (remove.untagged.size > 0)
      await this.ask('remove VLANs from', ifname, RTM_DELLINK, encodeVlans(ifindex, remove), 'ack');
  }

  async listAddresses(ifindex: number): Promise<LinkAddress[]> {
    const answers = await this.dump('list-addresses', RTM_GETADDR, encodeGetAddresses(), isAddressOf(ifindex));
    return answers.flatMap((answer) => parseAddress(answer) ?? []);
  }

  async deleteAddress({ ifname }: LinkName, address: LinkAddress): Promise<void> {
    await ignoring(
      this.ask('remove an address of', ifname, RTM_DELADDR, encodeDeleteAddress(address), 'ack'),
      'EADDRNOTAVAIL',
    );
  }

  /** `protocol`: who is to be said to have added it; undefined: vifd. */
  async addAddress({ ifindex, ifname }: LinkName, prefix: Prefix, protocol?: number): Promise<void> {
    const op = `add ${prefix.address}/${prefix.length} to`;
    await ignoring(this.make(op, ifname, RTM_NEWADDR, encodeAddAddress(ifindex, prefix, protocol)), 'EEXIST');
  }

  async listRoutes(family: Family, of?: RoutesOf): Promise<SeenRoute[]> {
    const answers = await this.listOf('routes', RTM_GETROUTE, encodeGetRoutes(family), of && isRouteOf(of));
    return answers.flatMap((answer) => parseRoute(answer) ?? []);
  }

  async addRoute({ ifname }: LinkName, route: Route): Promise<void> {
    await this.make(`add the route ${describeRoute(route)} to`, ifname, RTM_NEWROUTE, encodeRoute(route));
  }

  async deleteRoute({ ifname }: LinkName, route: Route): Promise<void> {
    const op = `remove the route ${describeRoute(route)} from`;
    await ignoring(this.ask(op, ifname, RTM_DELROUTE, encodeRoute(route), 'ack'), 'ESRCH', 'ENODEV');
  }

  async listRules(family: Family, of?: readonly Prefix[]): Promise<SourceRule[]> {
    const answers = await this.listOf('policy rules', RTM_GETRULE, encodeGetRules(family), of && isRuleOf(of));
    return answers.flatMap((answer) => parseRule(answer) ?? []);
  }

  async addRule(rule: SourceRule): Promise<void> {
    await ignoring(this.make(describeRule('add', rule), '', RTM_NEWRULE, encodeRule(rule)), 'EEXIST');
  }

  async deleteRule(rule: SourceRule): Promise<void> {
    await ignoring(this.ask(describeRule('remove', rule), '', RTM_DELRULE, encodeRule(rule), 'ack'), 'ENOENT');
  }

  async listProxies(family: Family, of?: readonly Prefix[]): Promise<SeenProxy[]> {
    const keep = of && isProxyOf(of);
    const answers = await this.listOf('proxied neighbours', RTM_GETNEIGH, encodeGetProxies(family), keep);
    return answers.flatMap((answer) => parseProxy(answer) ?? []);
  }

  async addProxy({ ifindex, ifname }: LinkName, address: string): Promise<void> {
    await this.make(`answer for ${address} on`, ifname, RTM_NEWNEIGH, encodeProxy({ address, ifindex }));
  }

  async deleteProxy({ ifindex, ifname }: LinkName, address: string): Promise<void> {
    const op = `answer no more for ${address} on`;
    await ignoring(this.ask(op, ifname, RTM_DELNEIGH, encodeProxy({ address, ifindex }), 'ack'), 'ENOENT', 'ENODEV');
  }

  async getFeatures({ ifindex, ifname }: LinkName): Promise<Features> {
    const [answer] = await this.askEthtool('get the features of', ifname, encodeGetFeatures(ifindex), 'one');
    return answer === undefined ? NO_FEATURES : parseFeatures(answer);
  }

  async setFeatures({ ifindex, ifname }: LinkName, change: FeatureChange): Promise<void> {
    await this.askEthtool('set features of', ifname, encodeSetFeatures(ifindex, change), 'ack');
  }

  /** Empty where the kernel runs without the family. */
  protected async listOf(what: string, type: number, payload: Uint8Array, keep?: Keep): Promise<Uint8Array[]> {
    try {
      return await this.dump(`list the ${what}`, type, payload, keep);
    } catch (error) {
      if (!hasCode(error, 'EAFNOSUPPORT', 'EOPNOTSUPP', 'ENOTSUP', 'EPFNOSUPPORT')) throw error;
      return [];
    }
  }

  private dump(op: string, type: number, payload: Uint8Array, keep?: Keep): Promise<Uint8Array[]> {
    return this.route.request({ op, ifname: '', type, payload, expect: 'dump', keep });
  }

  protected make(op: string, ifname: string, type: number, payload: Uint8Array): Promise<Uint8Array[]> {
    const flags = NLM_F_CREATE | NLM_F_EXCL;
    return this.route.request({ op, ifname, type, payload, expect: 'ack', flags });
  }

  protected ask(op: string, ifname: string, type: number, payload: Uint8Array, expect: Expect): Promise<Uint8Array[]> {
    return this.route.request({ op, ifname, type, payload, expect });
  }

  private async askEthtool(op: string, ifname: string, payload: Uint8Array, expect: Expect): Promise<Uint8Array[]> {
    return this.generic.request({ op, ifname, type: await this.family(), payload, expect });
  }

  /** The id of the generic netlink family `ethtool` (Linux 5.6 and later). Looked up once; a failure is not kept. */
  private family(): Promise<number> {
    this.ethtoolFamily ??= this.lookUpFamily().catch((error) => {
      this.ethtoolFamily = undefined;
      throw error;
    });
    return this.ethtoolFamily;
  }

  private async lookUpFamily(): Promise<number> {
    const [answer] = await this.generic.request({
      op: 'find the ethtool family',
      ifname: '',
      type: GENL_ID_CTRL,
      payload: encodeGetFamily('ethtool'),
      expect: 'one',
    });
    const id = answer === undefined ? undefined : parseFamilyId(answer);
    if (id === undefined) throw new NetlinkError('ENOENT', 'find the ethtool family (Linux 5.6 or later)', '', 2);
    return id;
  }
}

const describeRule = (verb: string, { from, table, priority }: SourceRule): string =>
  `${verb} the rule from ${formatPrefix(from)} table ${table} priority ${priority}`;

/** What is so already, or gone already. */
export async function ignoring(request: Promise<unknown>, ...codes: string[]): Promise<void> {
  try {
    await request;
  } catch (error) {
    if (!hasCode(error, ...codes)) throw error;
  }
}
