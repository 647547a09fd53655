/**
 * Addresses, routes, policy rules and proxied neighbours as rtnetlink speaks of them (linux/rtnetlink.h, linux/fib_rules.h,
 * linux/neighbour.h). Pure: payloads behind the nlmsghdr, in and out.
 */
import {
  type Attribute,
  type AttributeMap,
  attributeU32,
  encodeAttributes,
  LITTLE_ENDIAN,
  parseAttributes,
} from './attributes.js';
import { addressBytes, addressText, type Family, formatPrefix, type Prefix } from './prefix.js';

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
  // The kernel refuses bits behind the prefix.
  if (destination.length > 0)
    attributes.push([RTA_DST, addressBytes(formatPrefix(destination).split('/')[0] as string)]);
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

/** The payload of an RTM_NEWROUTE; undefined for what is no route to hosts elsewhere, such as local and multicast ones. */
export function parseRoute(payload: Uint8Array): SeenRoute | undefined {
  const family = familyOf(payload[0]);
  if (payload.length < RTMSG || family === undefined || payload[7] !== RTN_UNICAST) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, RTMSG);
  if (view.getUint32(8, LITTLE_ENDIAN) & RTM_F_CLONED) return undefined;
  const attributes = parseAttributes(payload.subarray(RTMSG));
  return {
    destination: prefixOf(family, attributes.get(RTA_DST), payload[1] ?? 0),
    ifindex: attributeU32(attributes, RTA_OIF) ?? 0,
    gateway: addressOf(attributes, RTA_GATEWAY),
    source: addressOf(attributes, RTA_PREFSRC),
    metric: attributeU32(attributes, RTA_PRIORITY) ?? 0,
    table: attributeU32(attributes, RTA_TABLE) ?? payload[4] ?? 0,
    protocol: payload[5] ?? 0,
  };
}

/** Whether the kernel has this route, by vifd or by another. */
export function isSameRoute(wanted: Route, seen: SeenRoute): boolean {
  const { destination, ifindex, gateway, source, metric = 0, table = RT_TABLE_MAIN } = wanted;
  return (
    formatPrefix(destination) === formatPrefix(seen.destination) &&
    (ifindex === 0 || ifindex === seen.ifindex) &&
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
    [FRA_SRC, addressBytes(formatPrefix(from).split('/')[0] as string)],
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

/** The payload of an RTM_NEWRULE; undefined for one that is not vifd's. */
export function parseRule(payload: Uint8Array): SourceRule | undefined {
  const family = familyOf(payload[0]);
  if (payload.length < FIB_RULE_HDR || family === undefined) return undefined;
  const attributes = parseAttributes(payload.subarray(FIB_RULE_HDR));
  if (attributes.get(FRA_PROTOCOL)?.[0] !== RTPROT_VIFD) return undefined;
  return {
    from: prefixOf(family, attributes.get(FRA_SRC), payload[2] ?? 0),
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

/** The payload of an RTM_NEWNEIGH. */
export function parseProxy(payload: Uint8Array): SeenProxy | undefined {
  if (payload.length < NDMSG || ((payload[10] ?? 0) & NTF_PROXY) === 0) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, NDMSG);
  const attributes = parseAttributes(payload.subarray(NDMSG));
  const address = addressOf(attributes, NDA_DST);
  if (address === undefined) return undefined;
  return { address, ifindex: view.getInt32(4, LITTLE_ENDIAN), protocol: attributes.get(NDA_PROTOCOL)?.[0] ?? 0 };
}

/** `192.0.2.0/24 via 10.0.0.1 metric 5`, for people. */
export function describeRoute({ destination, gateway, metric = 0, table = RT_TABLE_MAIN }: Route): string {
  const via = gateway === undefined ? '' : ` via ${gateway}`;
  const rank = metric === 0 ? '' : ` metric ${metric}`;
  return `${formatPrefix(destination)}${via}${rank}${table === RT_TABLE_MAIN ? '' : ` table ${table}`}`;
}

function prefixOf(family: Family, bytes: Uint8Array | undefined, length: number): Prefix {
  const none = family === 'ipv4' ? '0.0.0.0' : '::';
  return { family, address: bytes === undefined ? none : addressText(bytes), length };
}

function addressOf(attributes: AttributeMap, type: number): string | undefined {
  const bytes = attributes.get(type);
  return bytes === undefined ? undefined : addressText(bytes);
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
