/** What people are told of routed vifs. Pure. */
import { type Family, formatPrefix, hostIn, type Prefix, shortPrefix } from '../network/prefix.js';
import { describeRoute } from '../network/routes.js';
import type { Link } from '../network/rtnetlink.js';
import type { RoutedAttachment } from './attachment.js';
import { dhcpFault } from './dhcp.js';
import { familiesOf, hasFamily, isIpv4, type RoutedPlace, type RoutedStep } from './routed.js';

interface Warning {
  readonly says: string;
  readonly remedy: string;
}

/** What keeps packets from coming through although all that vifd does is done. */
export function routedWarnings(want: RoutedAttachment, link: Link, place: RoutedPlace): Warning[] {
  const off = want.addresses.filter(({ family }) => !hasFamily(link, family)).map(shortPrefix);
  const stuck = familiesOf(want).filter((family) => hasFamily(link, family) && !place.forwards[family]);
  const { uplink, proxied } = place;
  const asked = proxied.some((address) => !isIpv4(address)) && uplink?.ipv6?.proxyNdp === false ? uplink : undefined;
  return [
    ...(off.length === 0
      ? []
      : [{ says: `IPv6 is off here, so ${off.join(', ')} cannot be routed to the vif`, remedy: IPV6_OFF }]),
    ...stuck.map((family) => ({
      says: `this domain passes no ${family === 'ipv4' ? 'IPv4' : 'IPv6'} packets on`,
      remedy: FORWARDING[family],
    })),
    ...(asked === undefined
      ? []
      : [
          {
            says: `${asked.ifname} does not answer for the guest's IPv6 addresses`,
            remedy: `sysctl -w net.ipv6.conf.${asked.ifname.replaceAll('.', '/')}.proxy_ndp=1`,
          },
        ]),
    ...[dhcpFault(want, place.gateways) ?? []].flat(),
  ];
}

const IPV6_OFF = 'see net.ipv6.conf.all.disable_ipv6, or leave them out of ip=';

/** vifd does not do it itself: it changes what the whole domain is. */
export const FORWARDING: Readonly<Record<Family, string>> = {
  ipv4: 'sysctl -w net.ipv4.ip_forward=1',
  ipv6: "sysctl -w net.ipv6.conf.all.forwarding=1, and where the domain's own address comes by router advertisements net.ipv6.conf.eth0.accept_ra=2 before it",
};

/** What makes the vif work inside a Linux guest. */
export function guestSnippet({ addresses }: RoutedAttachment, gateways: readonly Prefix[]): string {
  const own = addresses.map((prefix) => `ip addr add ${hostIn(prefix)}/${prefix.length} dev eth0`);
  const ways = gateways
    .filter(({ family }, i) => gateways.findIndex((other) => other.family === family) === i)
    .map(
      ({ family, address }) => `ip ${family === 'ipv6' ? '-6 ' : ''}route add default via ${address} dev eth0 onlink`,
    );
  return [...own, ...ways].join('; ');
}

export const routedText = ({ addresses }: RoutedAttachment): string => addresses.map(shortPrefix).join(', ');

export function describeRoutedStep(step: RoutedStep): string {
  switch (step.do) {
    case 'add-address':
      return `address ${step.prefix.address}`;
    case 'add-route':
      return `route ${describeRoute(step.route)}`;
    case 'delete-route':
      return `no route ${describeRoute(step.route)}`;
    case 'add-rule':
      return `rule from ${formatPrefix(step.rule.from)} table ${step.rule.table}`;
    case 'delete-rule':
      return `no rule from ${formatPrefix(step.rule.from)} table ${step.rule.table}`;
    case 'delete-proxy':
      return `answers no more for ${step.proxy.address} on interface ${step.proxy.ifindex}`;
    case 'add-proxy':
      return `answers for ${step.address} on ${step.link.ifname}`;
    default:
      return step satisfies never;
  }
}
