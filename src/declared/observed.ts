/** What a plan for this domain's own network looks at. Pure. */
import type { PortVlans } from '../network/bridge-vlan.js';
import { addressBytes, addressText, type Prefix } from '../network/prefix.js';
import { type Route, RTPROT_VIFD, RTPROT_VIFD_OWN, type SeenRoute } from '../network/routes.js';
import type { Link, LinkAddress } from '../network/rtnetlink.js';

/** The kernel's side, read in one go. */
export interface Observed {
  readonly links: readonly Link[];
  readonly addresses: readonly SeenAddress[];
  /** Of both families and all tables. */
  readonly routes: readonly SeenRoute[];
  /** Of ports, by ifindex; read only where any are wanted. */
  readonly vlans: ReadonlyMap<number, PortVlans>;
}

export interface SeenAddress {
  readonly ifindex: number;
  readonly prefix: Prefix;
  /** RTPROT_VIFD_OWN: added for [bridge] or [bind]. */
  readonly protocol: number;
}

/** Made for [bridge] or [bind]; vifd 0.1.0 marked as it marks a vif's, of which a route has no gateway. */
export const isOwnAddress = ({ protocol }: SeenAddress): boolean =>
  protocol === RTPROT_VIFD_OWN || protocol === RTPROT_VIFD;
export const isOwnRoute = ({ protocol, gateway }: SeenRoute): boolean =>
  protocol === RTPROT_VIFD_OWN || (protocol === RTPROT_VIFD && gateway !== undefined);

/** A route without its interface, which a step names. */
export type RouteOn = Omit<Route, 'ifindex'>;

const AF_INET6 = 10;

export const seenAddress = ({ ifindex, family, prefixLength, bytes, protocol }: LinkAddress): SeenAddress => ({
  ifindex,
  prefix: { family: family === AF_INET6 ? 'ipv6' : 'ipv4', address: addressText(bytes), length: prefixLength },
  protocol: protocol ?? 0,
});

export const linkNamed = ({ links }: Observed, ifname: string): Link | undefined =>
  links.find((link) => link.ifname === ifname);

/** `192.168.1.4/24`, in one spelling for each, with the bits behind the prefix. */
export const prefixText = ({ address, length }: Prefix): string => `${addressText(addressBytes(address))}/${length}`;

export const samePrefix = (a: Prefix, b: Prefix): boolean => prefixText(a) === prefixText(b);

/** fe80::/10: each interface has its own. */
export const isLinkLocal = ({ address }: Prefix): boolean => /^fe[89ab]/i.test(address);
