/** The routing half of a kernel of memory. */
import { NetlinkError } from '../../src/errors.js';
import { addressBytes, addressText, type Family, formatPrefix, type Prefix } from '../../src/network/prefix.js';
import {
  isSameRoute,
  type Route,
  type RoutesOf,
  RT_TABLE_MAIN,
  RTPROT_VIFD,
  type SeenProxy,
  type SeenRoute,
  type SourceRule,
} from '../../src/network/routes.js';
import type { Link, LinkAddress } from '../../src/network/rtnetlink.js';

export abstract class MemoryRoutes {
  addresses: { ifindex: number; prefix: Prefix }[] = [];
  routes: SeenRoute[] = [];
  rules: SourceRule[] = [];
  proxies: SeenProxy[] = [];
  /** Each question and change passes here; rejects where the interface is gone. */
  protected abstract step(ifindex?: number): Promise<void>;

  async listAddresses(ifindex: number): Promise<LinkAddress[]> {
    await this.step();
    const own = this.addresses.filter((one) => one.ifindex === ifindex);
    return own.map(({ prefix: { family, address, length } }) => ({
      ifindex,
      family: family === 'ipv4' ? 2 : 10,
      prefixLength: length,
      bytes: addressBytes(address),
    }));
  }
  async deleteAddress({ ifindex }: Pick<Link, 'ifindex'>, { bytes }: LinkAddress): Promise<void> {
    await this.step();
    const text = addressText(bytes);
    this.addresses = this.addresses.filter((one) => one.ifindex !== ifindex || one.prefix.address !== text);
  }
  /** What the kernel takes along with an interface. */
  protected forgetLink(ifindex: number): void {
    const stays = (one: { ifindex: number }) => one.ifindex !== ifindex;
    this.addresses = this.addresses.filter(stays);
    this.routes = this.routes.filter(stays);
    this.proxies = this.proxies.filter(stays);
  }
  async addAddress({ ifindex }: Pick<Link, 'ifindex'>, prefix: Prefix): Promise<void> {
    await this.step(ifindex);
    this.addresses.push({ ifindex, prefix });
  }
  async listRoutes(family: Family, of?: RoutesOf): Promise<SeenRoute[]> {
    await this.step();
    const own = of !== undefined && 'protocol' in of ? of.protocol : undefined;
    return this.routes.filter(
      ({ destination, protocol }) => destination.family === family && (own === undefined || protocol === own),
    );
  }
  async addRoute({ ifname }: Pick<Link, 'ifname'>, route: Route): Promise<void> {
    await this.step(route.ifindex);
    const seen = { ...route, metric: route.metric ?? 0, table: route.table ?? RT_TABLE_MAIN, protocol: RTPROT_VIFD };
    const key = ({ destination, metric, table }: SeenRoute) => `${formatPrefix(destination)} ${metric} ${table}`;
    if (this.routes.some((other) => key(other) === key(seen)))
      throw new NetlinkError('EEXIST', 'add a route to', ifname, 17);
    this.routes.push(seen);
  }
  async deleteRoute(_: unknown, route: Route): Promise<void> {
    await this.step();
    this.routes = this.routes.filter((seen) => !isSameRoute(route, seen));
  }
  async listRules(family: Family): Promise<SourceRule[]> {
    await this.step();
    return this.rules.filter(({ from }) => from.family === family);
  }
  async addRule(rule: SourceRule): Promise<void> {
    await this.step();
    this.rules.push(rule);
  }
  async deleteRule(rule: SourceRule): Promise<void> {
    await this.step();
    this.rules = this.rules.filter((one) => JSON.stringify(one) !== JSON.stringify(rule));
  }
  async listProxies(family: Family): Promise<SeenProxy[]> {
    await this.step();
    return this.proxies.filter(({ address }) => address.includes(':') === (family === 'ipv6'));
  }
  async addProxy({ ifindex }: Pick<Link, 'ifindex'>, address: string): Promise<void> {
    await this.step(ifindex);
    this.proxies.push({ address, ifindex, protocol: RTPROT_VIFD });
  }
  async deleteProxy({ ifindex }: Pick<Link, 'ifindex'>, address: string): Promise<void> {
    await this.step();
    this.proxies = this.proxies.filter((one) => one.address !== address || one.ifindex !== ifindex);
  }
}
