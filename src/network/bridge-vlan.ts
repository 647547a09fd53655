/** The VLANs of bridge ports (linux/if_bridge.h), read and set by the AF_BRIDGE family of rtnetlink. Pure. */
import { type Attribute, eachAttribute, encodeAttributes, LITTLE_ENDIAN, parseAttributes } from './attributes.js';

/** What a port lets through. */
export interface PortVlans {
  /** The VLAN of packets that come in without a tag; undefined: such packets are dropped. */
  readonly pvid: number | undefined;
  /** All VLANs of the port; true: its packets leave without a tag. */
  readonly untagged: ReadonlyMap<number, boolean>;
}

export const NO_VLANS: PortVlans = { pvid: undefined, untagged: new Map() };

const AF_BRIDGE = 7;
const IFINFOMSG = 16;
const IFLA_AF_SPEC = 26;
const IFLA_EXT_MASK = 29;
const RTEXT_FILTER_BRVLAN_COMPRESSED = 4;
const IFLA_BRIDGE_VLAN_INFO = 2;
/** struct bridge_vlan_info: u16 flags, u16 vid. */
const VLAN_INFO = 4;
const BRIDGE_VLAN_INFO_PVID = 2;
const BRIDGE_VLAN_INFO_UNTAGGED = 4;
const BRIDGE_VLAN_INFO_RANGE_BEGIN = 8;
const BRIDGE_VLAN_INFO_RANGE_END = 16;
/** 0 and 4095 are none (IEEE 802.1Q). */
const VID_MAX = 4094;

/** The payload of RTM_GETLINK with NLM_F_DUMP: all ports of all bridges, for the kernel knows no smaller question. */
export const encodeGetVlans = (): Uint8Array => message(0, [[IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN_COMPRESSED]]);

/** The payload of RTM_SETLINK, which adds or alters these VLANs, or of RTM_DELLINK, which removes them. */
export const encodeVlans = (ifindex: number, vlans: PortVlans): Uint8Array =>
  message(ifindex, [[IFLA_AF_SPEC, vlanInfos(vlans).map((info): Attribute => [IFLA_BRIDGE_VLAN_INFO, info])]]);

/** The interface that one answer speaks of: they speak of all, and few are wanted. */
export const isOfPort = (payload: Uint8Array, ifindex: number): boolean =>
  payload.length >= IFINFOMSG &&
  new DataView(payload.buffer, payload.byteOffset, IFINFOMSG).getInt32(4, LITTLE_ENDIAN) === ifindex;

/** The port and its VLANs in one answer to encodeGetVlans; undefined for what is none. */
export function parsePortVlans(payload: Uint8Array): { ifindex: number; vlans: PortVlans } | undefined {
  if (payload.length < IFINFOMSG) return undefined;
  const ifindex = new DataView(payload.buffer, payload.byteOffset, IFINFOMSG).getInt32(4, LITTLE_ENDIAN);
  const spec = parseAttributes(payload.subarray(IFINFOMSG)).get(IFLA_AF_SPEC);
  const infos: Uint8Array[] = [];
  eachAttribute(spec ?? new Uint8Array(0), (type, info) => {
    if (type === IFLA_BRIDGE_VLAN_INFO && info.length >= VLAN_INFO) infos.push(info);
  });
  return { ifindex, vlans: collect(infos) };
}

function collect(infos: readonly Uint8Array[]): PortVlans {
  const untagged = new Map<number, boolean>();
  let pvid: number | undefined;
  let begin: number | undefined;
  let next = 1; // they come in ascending order (br_fill_ifvlaninfo_compressed)
  for (const info of infos) {
    const view = new DataView(info.buffer, info.byteOffset, VLAN_INFO);
    const flags = view.getUint16(0, LITTLE_ENDIAN);
    const vid = view.getUint16(2, LITTLE_ENDIAN);
    if (vid < next || vid > VID_MAX) continue;
    const from = (flags & BRIDGE_VLAN_INFO_RANGE_END) !== 0 ? Math.max(begin ?? vid, next) : vid;
    next = vid + 1;
    begin = (flags & BRIDGE_VLAN_INFO_RANGE_BEGIN) !== 0 ? vid : undefined;
    for (let each = from; each <= vid; each++) untagged.set(each, (flags & BRIDGE_VLAN_INFO_UNTAGGED) !== 0);
    if ((flags & BRIDGE_VLAN_INFO_PVID) !== 0) pvid = vid;
  }
  return { pvid, untagged };
}

/** Neighbours with the same flags as one range: 4094 VLANs are two entries and no message too long. */
function vlanInfos({ pvid, untagged }: PortVlans): Uint8Array[] {
  const runs: { from: number; to: number; flags: number }[] = [];
  for (const [vid, bare] of [...untagged].sort(([a], [b]) => a - b)) {
    const flags = (bare ? BRIDGE_VLAN_INFO_UNTAGGED : 0) | (vid === pvid ? BRIDGE_VLAN_INFO_PVID : 0);
    const last = runs.at(-1);
    if (last !== undefined && last.to === vid - 1 && last.flags === flags && vid !== pvid) last.to = vid;
    else runs.push({ from: vid, to: vid, flags });
  }
  return runs.flatMap(({ from, to, flags }) =>
    from === to
      ? [vlanInfo(flags, from)]
      : [vlanInfo(flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, from), vlanInfo(flags | BRIDGE_VLAN_INFO_RANGE_END, to)],
  );
}

function vlanInfo(flags: number, vid: number): Uint8Array {
  const info = new Uint8Array(VLAN_INFO);
  const view = new DataView(info.buffer);
  view.setUint16(0, flags, LITTLE_ENDIAN);
  view.setUint16(2, vid, LITTLE_ENDIAN);
  return info;
}

function message(ifindex: number, attributes: readonly Attribute[]): Uint8Array {
  const tail = encodeAttributes(attributes);
  const bytes = new Uint8Array(IFINFOMSG + tail.length);
  bytes[0] = AF_BRIDGE;
  new DataView(bytes.buffer).setInt32(4, ifindex, LITTLE_ENDIAN);
  bytes.set(tail, IFINFOMSG);
  return bytes;
}

/** Whether a port with the one lets through what one with the other does, in the same way. */
export function sameVlans(a: PortVlans, b: PortVlans): boolean {
  const { add, remove } = vlanChange(a, b);
  return add.untagged.size === 0 && remove.untagged.size === 0;
}

/** What has to be added or altered, and what has to go, to make `want` of `seen`. */
export function vlanChange(want: PortVlans, seen: PortVlans): { add: PortVlans; remove: PortVlans } {
  const changed = [...want.untagged].filter(
    ([vid, bare]) => seen.untagged.get(vid) !== bare || (vid === want.pvid) !== (vid === seen.pvid),
  );
  const extra = [...seen.untagged].filter(([vid]) => !want.untagged.has(vid));
  return {
    add: { pvid: want.pvid, untagged: new Map(changed) },
    remove: { pvid: undefined, untagged: new Map(extra) },
  };
}
