/**
 * Links and addresses as rtnetlink speaks of them (linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h). Pure: payloads
 * behind the nlmsghdr, in and out.
 */
import {
  type Attribute,
  type AttributeMap,
  attributeString,
  attributeU32,
  encodeAttributes,
  type Keep,
  LITTLE_ENDIAN,
  parseAttributes,
} from './attributes.js';
import { encodePortSettings, type PortSettings, parsePortSettings } from './bridge-port.js';
import { type BridgeSettings, encodeBridgeSettings, parseBridgeSettings } from './bridge-settings.js';
import { encodeIpv4Conf, type Ipv4Conf, type Ipv6Conf, parseIpv4Conf, parseIpv6Conf } from './devconf.js';
import { addressText, isAddress, type Prefix } from './prefix.js';

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_SETLINK = 19;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_TXQLEN = 13;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_AF_SPEC = 26;
const IFLA_EXT_MASK = 29;
const IFLA_CARRIER = 33;
const IFLA_PARENT_DEV_NAME = 56;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_PROTO = 11;
const RTEXT_FILTER_SKIP_STATS = 8;
const IFF_UP = 1;
const AF_INET6 = 10;
const IFINFOMSG = 16;
const NONE = new Uint8Array(0);
const IFADDRMSG = 8;

/** IN6_ADDR_GEN_MODE_NONE: the kernel gives the link no IPv6 address of its own. */
export const ADDR_GEN_MODE_NONE = 1;

/** What vifd reads of an interface. */
export interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  readonly up: boolean;
  /** A link that is down has none. Undefined: the kernel has not said. */
  readonly carrier?: boolean | undefined;
  /** Lower-case MAC address; empty for links without one. */
  readonly address: string;
  /** Bytes. */
  readonly mtu: number;
  /** Packets. */
  readonly txqlen: number;
  /** ifindex of the bridge or bond it is a port of; 0 for none. */
  readonly master: number;
  /** `bridge`, `veth`, `vlan` ...; empty for hardware and for xen-netback. */
  readonly kind: string;
  /** ifindex of the link below, as of a VLAN's; 0 for none. */
  readonly lower: number;
  /** Of a bridge. */
  readonly vlanFiltering: boolean;
  /** Undefined when it is no bridge. */
  readonly bridge?: BridgeSettings | undefined;
  readonly alias: string;
  /** Undefined when it is no port of a bridge. */
  readonly port: PortSettings | undefined;
  /** The device behind it, such as `vif-5-0`; empty before Linux 5.14 and for purely virtual links. */
  readonly parentDev: string;
  /** Undefined when the kernel runs without IPv6. */
  readonly addrGenMode: number | undefined;
  readonly ipv4?: Ipv4Conf | undefined;
  /** Undefined when the kernel runs without IPv6. */
  readonly ipv6?: Ipv6Conf | undefined;
}

/** What a set-link request changes; absent fields stay. */
export interface LinkChange extends Partial<Ipv4Conf> {
  readonly ifname?: string;
  readonly alias?: string;
  readonly address?: string;
  readonly mtu?: number;
  readonly txqlen?: number;
  readonly master?: number;
  readonly addrGenMode?: number;
  readonly up?: boolean;
}

/** `mtu=1400 master=3`, for people. */
export const describeChange = (change: LinkChange): string =>
  Object.entries(change)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');

/** An address as the kernel knows it, kept whole so that the very same one can be removed. */
export interface LinkAddress {
  readonly ifindex: number;
  readonly family: number;
  readonly prefixLength: number;
  readonly bytes: Uint8Array;
  /** Who added it; 0 where that is not known, as before Linux 5.18. */
  readonly protocol?: number;
}

function ifinfomsg(ifindex: number, flags: number, change: number): Uint8Array {
  const bytes = new Uint8Array(IFINFOMSG);
  const view = new DataView(bytes.buffer);
  view.setInt32(4, ifindex, LITTLE_ENDIAN);
  view.setUint32(8, flags, LITTLE_ENDIAN);
  view.setUint32(12, change, LITTLE_ENDIAN);
  return bytes;
}

/** RTM_GETLINK for one name, or with NLM_F_DUMP for all when the name is absent. */
export function encodeGetLink(ifname?: string): Uint8Array {
  const attributes: Attribute[] = [[IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS]];
  if (ifname !== undefined) attributes.push([IFLA_IFNAME, ifname]);
  return join(ifinfomsg(0, 0, 0), encodeAttributes(attributes));
}

/**
 * RTM_SETLINK. Whatever the order here, the kernel applies address, MTU and name before the master, and queue length and
 * IPv6 part after it; the flags before the master, since Linux 6.2 after it (do_setlink).
 */
export function encodeSetLink(ifindex: number, change: LinkChange): Uint8Array {
  const attributes: Attribute[] = [];
  if (change.ifname !== undefined) attributes.push([IFLA_IFNAME, change.ifname]);
  if (change.alias !== undefined) attributes.push([IFLA_IFALIAS, change.alias]);
  if (change.address !== undefined) attributes.push([IFLA_ADDRESS, macBytes(change.address)]);
  if (change.mtu !== undefined) attributes.push([IFLA_MTU, change.mtu]);
  if (change.txqlen !== undefined) attributes.push([IFLA_TXQLEN, change.txqlen]);
  if (change.master !== undefined) attributes.push([IFLA_MASTER, change.master]);
  const families = encodeIpv4Conf(change);
  if (change.addrGenMode !== undefined)
    families.push([AF_INET6, [[IFLA_INET6_ADDR_GEN_MODE, Uint8Array.of(change.addrGenMode)]]]);
  if (families.length > 0) attributes.push([IFLA_AF_SPEC, families]);
  const mask = change.up === undefined ? 0 : IFF_UP;
  return join(ifinfomsg(ifindex, change.up ? IFF_UP : 0, mask), encodeAttributes(attributes));
}

/** RTM_NEWLINK for a link that is there and is a port of a bridge: RTM_SETLINK does not look at a port's settings. */
export const encodeSetPort = (ifindex: number, port: PortSettings): Uint8Array =>
  join(ifinfomsg(ifindex, 0, 0), encodeAttributes([[IFLA_LINKINFO, encodePortSettings(port)]]));

/** RTM_NEWLINK with NLM_F_CREATE, for a bridge that is not there; its address is its own where none is given. */
export const encodeNewBridge = (ifname: string, settings: BridgeSettings, address: string | undefined): Uint8Array =>
  join(
    ifinfomsg(0, 0, 0),
    encodeAttributes([
      [IFLA_IFNAME, ifname],
      ...(address === undefined ? [] : [[IFLA_ADDRESS, macBytes(address)] as const]),
      [IFLA_LINKINFO, encodeBridgeSettings(settings)],
    ]),
  );

/** RTM_NEWLINK for a bridge that is there. */
export const encodeSetBridge = (ifindex: number, settings: BridgeSettings): Uint8Array =>
  join(ifinfomsg(ifindex, 0, 0), encodeAttributes([[IFLA_LINKINFO, encodeBridgeSettings(settings)]]));

/** The payload of an RTM_NEWLINK; undefined when it is too short to be one. */
export function parseLink(payload: Uint8Array): Link | undefined {
  if (payload.length < IFINFOMSG) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, IFINFOMSG);
  const attributes = parseAttributes(payload.subarray(IFINFOMSG));
  const carrier = attributes.get(IFLA_CARRIER);
  const linkInfo = attributes.get(IFLA_LINKINFO);
  const info = parseAttributes(linkInfo ?? NONE);
  const kind = attributeString(info, IFLA_INFO_KIND) ?? '';
  const bridge = kind === 'bridge' ? parseBridgeSettings(parseAttributes(info.get(IFLA_INFO_DATA) ?? NONE)) : undefined;
  const families = parseAttributes(attributes.get(IFLA_AF_SPEC) ?? NONE);
  return {
    ifindex: view.getInt32(4, LITTLE_ENDIAN),
    ifname: attributeString(attributes, IFLA_IFNAME) ?? '',
    up: (view.getUint32(8, LITTLE_ENDIAN) & IFF_UP) !== 0,
    carrier: carrier === undefined ? undefined : carrier[0] === 1,
    address: hex(attributes.get(IFLA_ADDRESS)),
    mtu: attributeU32(attributes, IFLA_MTU) ?? 0,
    txqlen: attributeU32(attributes, IFLA_TXQLEN) ?? 0,
    master: attributeU32(attributes, IFLA_MASTER) ?? 0,
    kind,
    lower: attributeU32(attributes, IFLA_LINK) ?? 0,
    alias: attributeString(attributes, IFLA_IFALIAS) ?? '',
    vlanFiltering: bridge?.vlanFiltering ?? false,
    bridge,
    port: parsePortSettings(info),
    parentDev: attributeString(attributes, IFLA_PARENT_DEV_NAME) ?? '',
    addrGenMode: parseAddrGenMode(families),
    ipv4: parseIpv4Conf(families),
    ipv6: parseIpv6Conf(families),
  };
}

function parseAddrGenMode(families: AttributeMap): number | undefined {
  const inet6 = families.get(AF_INET6);
  return inet6 === undefined ? undefined : parseAttributes(inet6).get(IFLA_INET6_ADDR_GEN_MODE)?.[0];
}

/** RTM_GETADDR with NLM_F_DUMP: all addresses of all links. */
export const encodeGetAddresses = (): Uint8Array => new Uint8Array(IFADDRMSG);

/** Whether an answer to encodeGetAddresses is about this link: they are about all. */
export const isAddressOf =
  (ifindex: number): Keep =>
  (view, start, end) =>
    end - start >= IFADDRMSG && view.getUint32(start + 4, LITTLE_ENDIAN) === ifindex;

/** The payload of an RTM_NEWADDR; undefined when it is none. */
export function parseAddress(payload: Uint8Array): LinkAddress | undefined {
  if (payload.length < IFADDRMSG) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, IFADDRMSG);
  const attributes = parseAttributes(payload.subarray(IFADDRMSG));
  const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS); // IFA_ADDRESS is the peer on point-to-point links
  const family = payload[0] === AF_INET6 ? 'ipv6' : 'ipv4';
  const prefixLength = payload[1] ?? 0;
  if (bytes === undefined || !isAddress(bytes, family) || prefixLength > 8 * bytes.length) return undefined;
  return {
    family: payload[0] ?? 0,
    prefixLength,
    ifindex: view.getUint32(4, LITTLE_ENDIAN),
    bytes: bytes.slice(),
    protocol: attributes.get(IFA_PROTO)?.[0] ?? 0,
  };
}

/** In text. */
export const prefixOf = ({ family, bytes, prefixLength }: LinkAddress): Prefix => ({
  family: family === AF_INET6 ? 'ipv6' : 'ipv4',
  address: addressText(bytes),
  length: prefixLength,
});

/** RTM_DELADDR. */
export function encodeDeleteAddress({ ifindex, family, prefixLength, bytes }: LinkAddress): Uint8Array {
  const header = new Uint8Array(IFADDRMSG);
  header[0] = family;
  header[1] = prefixLength;
  new DataView(header.buffer).setUint32(4, ifindex, LITTLE_ENDIAN);
  return join(header, encodeAttributes([[IFA_LOCAL, bytes]]));
}

const macBytes = (mac: string): Uint8Array => Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16));

const hex = (bytes: Uint8Array | undefined): string =>
  bytes === undefined ? '' : Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');

function join(head: Uint8Array, tail: Uint8Array): Uint8Array {
  const whole = new Uint8Array(head.length + tail.length);
  whole.set(head);
  whole.set(tail, head.length);
  return whole;
}
