/** EDGE: reads from the kernel how this domain's routing stands to a vif. */
import type { KernelNetwork } from '../network/kernel.js';
import type { Family } from '../network/prefix.js';
import { type Link, prefixOf } from '../network/rtnetlink.js';
import { readSysctl } from '../network/sysctl.js';
import type { RoutedAttachment } from './attachment.js';
import { familiesOf, findGateways, proxiedAddresses, type RoutedPlace, uplinkName } from './routed.js';

export type FoundRoute = Pick<RoutedPlace, 'mode' | 'gateways' | 'uplink' | 'proxied'>;

/** Rejects with AttachError where the guest would have no gateway. */
export async function findRoute(want: RoutedAttachment, kernel: KernelNetwork): Promise<FoundRoute> {
  const uplink = await kernel.getLink(uplinkName(want));
  const networks = uplink === undefined ? [] : (await kernel.listAddresses(uplink.ifindex)).map(prefixOf);
  return {
    mode: want.mode,
    gateways: findGateways(want, uplink, networks),
    uplink,
    proxied: proxiedAddresses(want, networks),
  };
}

export async function observeRoute(
  want: RoutedAttachment,
  found: FoundRoute,
  link: Link,
  kernel: KernelNetwork,
): Promise<RoutedPlace> {
  const families = familiesOf(want);
  const all = async <T>(list: (family: Family) => Promise<T[]>) => (await Promise.all(families.map(list))).flat();
  const [routes, rules, proxies, masquerade, forwards] = await Promise.all([
    link.up ? all((family) => kernel.listRoutes(family, link)) : [], // the kernel has none to one that is down
    all((family) => kernel.listRules(family, want.addresses)),
    all((family) => kernel.listProxies(family, want.addresses)),
    want.masquerade === undefined ? undefined : kernel.getGuard(want.ifname, 'now', 'nat'),
    readForwarding(),
  ]);
  const ipv4 = forwards.ipv4 || found.uplink?.ipv4?.forwarding === true; // the vif's own is set for it
  return { ...found, routes, rules, proxies, masquerade, forwards: { ...forwards, ipv4 } };
}

/** IPv4 looks at the interface that a packet comes in by, IPv6 only at all together. */
export async function readForwarding(): Promise<RoutedPlace['forwards']> {
  const [ipv4, ipv6] = await Promise.all([
    readSysctl('net.ipv4.ip_forward'),
    readSysctl('net.ipv6.conf.all.forwarding'),
  ]);
  return { ipv4: ipv4 !== '0', ipv6: ipv6 !== '0' };
}
