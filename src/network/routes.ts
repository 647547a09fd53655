/**
 * Addresses, routes, policy rules and proxied neighbours as rtnetlink speaks of them (linux/rtnetlink.h, linux/fib_rules.h,
 * linux/neighbour.h). Pure: payloads behind the nlmsghdr, in and out.
 */
import {
  type Attribute,
  type AttributeMap,
  AttributeWalk,
  attributeU32,
  encodeAttributes,
  type Keep,
  LITTLE_ENDIAN,
  parseAttributes,
  viewOf,
} from './attributes.js';
import { addressBytes, addressText, type Family, formatPrefix, isAddress, type Prefix } from './prefix.js';

export const RTM_NEWADDR = 20;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;
export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
export const RTM_GETRULE = 34;

const AF_INET = 2;
const AF_INET6 = 10;
const IFADDRMSG = 8;
const RTMSG = 12;
const NDMSG = 12;
const FIB_RULE_HDR = 12;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_PROTO = 11;
const IFA_F_NODAD = 2;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_TABLE = 15;
const RTN_UNICAST = 1;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTM_F_CLONED = 0x200;

const NDA_DST = 1;
const NDA_PROTOCOL = 12;
const NTF_PROXY = 8;

const FRA_SRC = 2;
const FRA_PRIORITY = 6;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_PROTOCOL = 21;
const FR_ACT_TO_TBL = 1;

/** The table that is asked for every packet. */
export const RT_TABLE_MAIN = 254;
/** Marks routes and rules as vifd's: `proto 118` in ip(8). Not in iproute2's rt_protos. */
export const RTPROT_VIFD = 118;
/** The same for what [bridge] and [bind] ask for: of its own mark a vif takes away what it does not want. */
export const RTPROT_VIFD_OWN = 119;
/** What the kernel takes for an IPv6 route without one. */
export const IPV6_METRIC = 1024;

export interface Route {
  readonly destination: Prefix;
  /** The interface it leads to; 0: the gateway tells. */
  readonly ifindex: number;
  /** Undefined: the destination is on the link. */
  readonly gateway?: string | undefined;
  /** The address that this machine sends from (IPv4 only here). */
  readonly source?: string | undefined;
  /** Undefined: 0, and 1024 for IPv6. The lowest counts. */
  readonly metric?: number | undefined;
  /** Undefined: main. */
  readonly table?: number | undefined;
  /** Who made it; undefined: RTPROT_VIFD. */
  readonly protocol?: number | undefined;
}

/** A packet from these addresses is looked up in this table. */
export interface SourceRule {
  readonly from: Prefix;
  readonly table: number;
  /** The lowest is asked first; the main table is at 32766. */
  readonly priority: number;
  /** A default route in that table does not count. */
  readonly skipDefault?: boolean;
}

/** An address for which this machine answers on an interface, as if it were there. */
export interface ProxyNeighbour {
  readonly address: string;
  readonly ifindex: number;
}

/** As the kernel has it. */
export interface SeenProxy extends ProxyNeighbour {
  /** RTPROT_VIFD: made by vifd. */
  readonly protocol: number;
}

const afOf = (family: Family): number => (family === 'ipv4' ? AF_INET : AF_INET6);
const familyOf = (af: number | undefined): Family | undefined =>
  af === AF_INET ? 'ipv4' : af === AF_INET6 ? 'ipv6' : undefined;
const bytesOf = (prefix: Prefix): Uint8Array => addressBytes(prefix.address);
/** The kernel refuses bits behind the prefix. */
const networkBytes = (prefix: Prefix): Uint8Array => addressBytes(formatPrefix(prefix).split('/')[0] as string);

/** RTM_NEWADDR. Without duplicate address detection: the address can be used at once, and nobody else is to have it. */
export function encodeAddAddress(ifindex: number, prefix: Prefix, protocol = RTPROT_VIFD): Uint8Array {
  const bytes = bytesOf(prefix);
  const attributes: Attribute[] = [
    [IFA_LOCAL, bytes],
    [IFA_ADDRESS, bytes],
    ...(prefix.family === 'ipv6' ? [[IFA_FLAGS, IFA_F_NODAD] as const] : []),
    [IFA_PROTO, Uint8Array.of(protocol)], // before Linux 5.18 passed over
  ];
  return message(IFADDRMSG, attributes, (header, view) => {
    header[0] = afOf(prefix.family);
    header[1] = prefix.length;
    view.setUint32(4, ifindex, LITTLE_ENDIAN);
  });
}

/** RTM_NEWROUTE and RTM_DELROUTE. */
export function encodeRoute(route: Route): Uint8Array {
  const { destination, ifindex, gateway, source, metric = 0, table = RT_TABLE_MAIN, protocol = RTPROT_VIFD } = route;
  const attributes: Attribute[] = [[RTA_TABLE, table]];
  if (destination.length > 0) attributes.push([RTA_DST, networkBytes(destination)]);
  if (ifindex !== 0) attributes.push([RTA_OIF, ifindex]);
  if (gateway !== undefined) attributes.push([RTA_GATEWAY, addressBytes(gateway)]);
  if (source !== undefined) attributes.push([RTA_PREFSRC, addressBytes(source)]);
  if (metric !== 0) attributes.push([RTA_PRIORITY, metric]);
  return message(RTMSG, attributes, (header) => {
    header[0] = afOf(destination.family);
    header[1] = destination.length;
    header[4] = table < 256 ? table : 0;
    header[5] = protocol;
    header[6] = destination.family === 'ipv4' && gateway === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    header[7] = RTN_UNICAST;
  });
}

/** RTM_GETROUTE with NLM_F_DUMP: all tables. */
export const encodeGetRoutes = (family: Family): Uint8Array => withFamily(RTMSG, family);

/** As the kernel has it. */
export interface SeenRoute extends Route {
  readonly metric: number;
  readonly table: number;
  /** RTPROT_VIFD: made by vifd. */
  readonly protocol: number;
}

/** Those that lead to an interface, and default routes; or those that somebody has made. */
export type RoutesOf = { readonly ifindex: number } | { readonly protocol: number };

/** Whether an answer to encodeGetRoutes is one of them: with each link there are more of others. */
export const isRouteOf =
  (of: RoutesOf): Keep =>
  (view, start, end) => {
    if (end - start < RTMSG || view.getUint8(start + 7) !== RTN_UNICAST) return false;
    if ('protocol' in of) return view.getUint8(start + 5) === of.protocol;
    if (view.getUint8(start + 1) === 0) return true;
    const walk = new AttributeWalk(view).within(start + RTMSG, end);
    return walk.find(RTA_OIF, 4) && view.getUint32(walk.start, LITTLE_ENDIAN) === of.ifindex;
  };

/** The payload of an RTM_NEWROUTE; undefined for what is no route to hosts elsewhere, such as local and multicast ones. */
export function parseRoute(payload: Uint8Array): SeenRoute | undefined {
  const family = familyOf(payload[0]);
  if (payload.length < RTMSG || family === undefined || payload[7] !== RTN_UNICAST) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, RTMSG);
  if (view.getUint32(8, LITTLE_ENDIAN) & RTM_F_CLONED) return undefined;
  const attributes = parseAttributes(payload.subarray(RTMSG));
  const destination = prefixOf(family, attributes.get(RTA_DST), payload[1] ?? 0);
  if (destination === undefined) return undefined;
  return {
    destination,
    ifindex: attributeU32(attributes, RTA_OIF) ?? 0,
    gateway: addressOf(attributes, RTA_GATEWAY, family),
    source: addressOf(attributes, RTA_PREFSRC, family),
    metric: attributeU32(attributes, RTA_PRIORITY) ?? 0,
    table: attributeU32(attributes, RTA_TABLE) ?? payload[4] ?? 0,
    protocol: payload[5] ?? 0,
  };
}

/** Whether the kernel has this route, by vifd or by another. */
export function isSameRoute(wanted: Route, seen: SeenRoute): boolean {
  const { destination, ifindex, gateway, source, metric = 0, table = RT_TABLE_MAIN } = wanted;
  return (
    (ifindex === 0 || ifindex === seen.ifindex) &&
    formatPrefix(destination) === formatPrefix(seen.destination) &&
    sameAddress(gateway, seen.gateway) &&
    (source === undefined || sameAddress(source, seen.source)) &&
    (metric === 0 && destination.family === 'ipv6' ? IPV6_METRIC : metric) === seen.metric &&
    table === seen.table
  );
}

const sameAddress = (a: string | undefined, b: string | undefined): boolean =>
  a === undefined || b === undefined ? a === b : addressText(addressBytes(a)) === addressText(addressBytes(b));

/** RTM_NEWRULE and RTM_DELRULE. */
export function encodeRule({ from, table, priority, skipDefault }: SourceRule): Uint8Array {
  const attributes: Attribute[] = [
    [FRA_SRC, networkBytes(from)],
    [FRA_PRIORITY, priority],
    [FRA_TABLE, table],
    [FRA_PROTOCOL, Uint8Array.of(RTPROT_VIFD)],
    ...(skipDefault ? [[FRA_SUPPRESS_PREFIXLEN, 0] as const] : []),
  ];
  return message(FIB_RULE_HDR, attributes, (header) => {
    header[0] = afOf(from.family);
    header[2] = from.length;
    header[4] = table < 256 ? table : 0;
    header[7] = FR_ACT_TO_TBL;
  });
}

/** RTM_GETRULE with NLM_F_DUMP. */
export const encodeGetRules = (family: Family): Uint8Array => withFamily(FIB_RULE_HDR, family);

/** Whether an answer to encodeGetRules may be for one of these. A rule for all addresses names none. */
export const isRuleOf = (prefixes: readonly Prefix[]): Keep =>
  prefixes.some(({ length }) => length === 0) ? () => true : isFor(prefixes, FRA_SRC, FIB_RULE_HDR);

/** The payload of an RTM_NEWRULE; undefined for one that is not vifd's. */
export function parseRule(payload: Uint8Array): SourceRule | undefined {
  const family = familyOf(payload[0]);
  if (payload.length < FIB_RULE_HDR || family === undefined) return undefined;
  const attributes = parseAttributes(payload.subarray(FIB_RULE_HDR));
  const from = prefixOf(family, attributes.get(FRA_SRC), payload[2] ?? 0);
  if (attributes.get(FRA_PROTOCOL)?.[0] !== RTPROT_VIFD || from === undefined) return undefined;
  return {
    from,
    table: attributeU32(attributes, FRA_TABLE) ?? payload[4] ?? 0,
    priority: attributeU32(attributes, FRA_PRIORITY) ?? 0,
    ...(attributeU32(attributes, FRA_SUPPRESS_PREFIXLEN) === 0 && { skipDefault: true }),
  };
}

/** RTM_NEWNEIGH and RTM_DELNEIGH. */
export function encodeProxy({ address, ifindex }: ProxyNeighbour): Uint8Array {
  const attributes: Attribute[] = [
    [NDA_DST, addressBytes(address)],
    [NDA_PROTOCOL, Uint8Array.of(RTPROT_VIFD)],
  ];
  return message(NDMSG, attributes, (header, view) => {
    header[0] = address.includes(':') ? AF_INET6 : AF_INET;
    view.setInt32(4, ifindex, LITTLE_ENDIAN);
    header[10] = NTF_PROXY;
  });
}

/** RTM_GETNEIGH with NLM_F_DUMP: those of NTF_PROXY. */
export function encodeGetProxies(family: Family): Uint8Array {
  const header = withFamily(NDMSG, family);
  header[10] = NTF_PROXY;
  return header;
}

/** Whether an answer to encodeGetProxies is for one of these. */
export const isProxyOf = (prefixes: readonly Prefix[]): Keep => isFor(prefixes, NDA_DST, NDMSG);

/** The payload of an RTM_NEWNEIGH. */
export function parseProxy(payload: Uint8Array): SeenProxy | undefined {
  if (payload.length < NDMSG || ((payload[10] ?? 0) & NTF_PROXY) === 0) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, NDMSG);
  const attributes = parseAttributes(payload.subarray(NDMSG));
  const family = familyOf(payload[0]);
  const address = family && addressOf(attributes, NDA_DST, family);
  if (address === undefined) return undefined;
  return { address, ifindex: view.getInt32(4, LITTLE_ENDIAN), protocol: attributes.get(NDA_PROTOCOL)?.[0] ?? 0 };
}

/** `192.0.2.0/24 via 10.0.0.1 metric 5`, for people. */
export function describeRoute({ destination, gateway, metric = 0, table = RT_TABLE_MAIN }: Route): string {
  const via = gateway === undefined ? '' : ` via ${gateway}`;
  const rank = metric === 0 ? '' : ` metric ${metric}`;
  return `${formatPrefix(destination)}${via}${rank}${table === RT_TABLE_MAIN ? '' : ` table ${table}`}`;
}

/** By the attribute that has the address, behind a header of this size. */
function isFor(prefixes: readonly Prefix[], type: number, header: number): Keep {
  const views = prefixes.map((prefix) => viewOf(networkBytes(prefix)));
  return (view, start, end) => {
    const walk = new AttributeWalk(view).within(start + header, end);
    return walk.find(type, 4) && views.some((address) => isSame(address, view, walk));
  };
}

/** From the end on: what differs is there. */
function isSame(address: DataView, view: DataView, { start, end }: AttributeWalk): boolean {
  let at = address.byteLength;
  if (end - start !== at) return false;
  while (at > 0) {
    at -= 4;
    if (address.getUint32(at) !== view.getUint32(start + at)) return false;
  }
  return true;
}

/** Undefined for what no kernel of this family says. */
function prefixOf(family: Family, bytes: Uint8Array | undefined, length: number): Prefix | undefined {
  const none = new Uint8Array(family === 'ipv4' ? 4 : 16);
  const address = bytes ?? none;
  return isAddress(address, family) && length <= 8 * none.length
    ? { family, address: addressText(address), length }
    : undefined;
}

/** Undefined as well where IPv4 leads by an IPv6 gateway, which has an attribute of its own. */
function addressOf(attributes: AttributeMap, type: number, family: Family): string | undefined {
  const bytes = attributes.get(type);
  return bytes !== undefined && isAddress(bytes, family) ? addressText(bytes) : undefined;
}

function withFamily(size: number, family: Family): Uint8Array {
  const header = new Uint8Array(size);
  header[0] = afOf(family);
  return header;
}

function message(
  size: number,
  attributes: readonly Attribute[],
  fill: (header: Uint8Array, view: DataView) => void,
): Uint8Array {
  const tail = encodeAttributes(attributes);
  const whole = new Uint8Array(size + tail.length);
  fill(whole, new DataView(whole.buffer));
  whole.set(tail, size);
  return whole;
}
