/**
 * What an interface does with IP: the values below /proc/sys/net/ipv4/conf and ipv6/conf, as rtnetlink carries them within
 * IFLA_AF_SPEC (linux/ip.h, IPV4_DEVCONF_*; linux/ipv6.h, DEVCONF_*). Pure.
 *
 * By netlink and not by those files: the service sees them read-only, and CAP_NET_ADMIN is all that this asks for. The kernel
 * takes IPv4's so; IPv6's it only tells.
 */
import { type Attribute, type AttributeMap, LITTLE_ENDIAN, parseAttributes } from './attributes.js';

export interface Ipv4Conf {
  /** Whether packets that come in by it are passed on. */
  readonly forwarding: boolean;
  /** Whether it answers ARP for all that is reached by other interfaces. */
  readonly proxyArp: boolean;
  /** 0: any source address; 1: those that are routed to it; 2: those that are routed at all. */
  readonly rpFilter: number;
}

export interface Ipv6Conf {
  readonly forwarding: boolean;
  /** Whether it answers for proxied neighbours. */
  readonly proxyNdp: boolean;
  readonly disabled: boolean;
}

const AF_INET = 2;
const AF_INET6 = 10;
const IFLA_INET_CONF = 1;
const IFLA_INET6_CONF = 2;

/** Counted from 1. */
const IPV4_DEVCONF = { forwarding: 1, proxyArp: 3, rpFilter: 8 } as const;
/** Counted from 0. */
const DEVCONF = { forwarding: 0, proxyNdp: 22, disabled: 26 } as const;

/** What stands within IFLA_AF_SPEC of RTM_SETLINK; nothing where nothing is to change. */
export function encodeIpv4Conf(change: Partial<Ipv4Conf>): Attribute[] {
  const values = Object.entries(IPV4_DEVCONF).flatMap(([name, type]): Attribute[] => {
    const value = change[name as keyof Ipv4Conf];
    return value === undefined ? [] : [[type, Number(value)]];
  });
  return values.length === 0 ? [] : [[AF_INET, [[IFLA_INET_CONF, values]]]];
}

/** Undefined where the kernel does not tell. */
export function parseIpv4Conf(families: AttributeMap): Ipv4Conf | undefined {
  const value = valuesOf(families, AF_INET, IFLA_INET_CONF);
  if (value === undefined) return undefined;
  const { forwarding, proxyArp, rpFilter } = IPV4_DEVCONF;
  return {
    forwarding: value(forwarding - 1) !== 0,
    proxyArp: value(proxyArp - 1) !== 0,
    rpFilter: value(rpFilter - 1),
  };
}

/** Undefined where the kernel runs without IPv6. */
export function parseIpv6Conf(families: AttributeMap): Ipv6Conf | undefined {
  const value = valuesOf(families, AF_INET6, IFLA_INET6_CONF);
  if (value === undefined) return undefined;
  const { forwarding, proxyNdp, disabled } = DEVCONF;
  return { forwarding: value(forwarding) !== 0, proxyNdp: value(proxyNdp) !== 0, disabled: value(disabled) !== 0 };
}

/** Both families tell theirs as an array of 32-bit numbers. */
function valuesOf(families: AttributeMap, family: number, type: number): ((index: number) => number) | undefined {
  const bytes = parseAttributes(families.get(family) ?? new Uint8Array(0)).get(type);
  if (bytes === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return (index) => (4 * index + 4 > bytes.length ? 0 : view.getInt32(4 * index, LITTLE_ENDIAN));
}
