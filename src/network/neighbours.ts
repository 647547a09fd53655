/** Neighbours as rtnetlink speaks of them (linux/neighbour.h): whether a host on a link answers, by ARP or ND. Pure. */
import { encodeAttributes, LITTLE_ENDIAN, parseAttributes } from './attributes.js';
import { addressBytes, addressText, isAddress } from './prefix.js';

const AF_INET = 2;
const AF_INET6 = 10;
const NDMSG = 12;
const NDA_DST = 1;
const NTF_USE = 1;
const NUD_REACHABLE = 2;
const NUD_FAILED = 0x20;

/** `asking`: it has not answered yet, or an older answer has become doubtful. */
export type NeighbourState = 'answers' | 'silent' | 'asking';

/** RTM_NEWNEIGH makes the kernel ask for it if it does not know it, RTM_DELNEIGH makes it forget. */
export function encodeNeighbour(ifindex: number, address: string): Uint8Array {
  const tail = encodeAttributes([[NDA_DST, addressBytes(address)]]);
  const bytes = new Uint8Array(NDMSG + tail.length);
  bytes[0] = familyOf(address);
  new DataView(bytes.buffer).setInt32(4, ifindex, LITTLE_ENDIAN);
  bytes[10] = NTF_USE;
  bytes.set(tail, NDMSG);
  return bytes;
}

/** RTM_GETNEIGH with NLM_F_DUMP. */
export function encodeGetNeighbours(address: string): Uint8Array {
  const bytes = new Uint8Array(NDMSG);
  bytes[0] = familyOf(address);
  return bytes;
}

/** The payload of an RTM_NEWNEIGH. */
export function parseNeighbour(
  payload: Uint8Array,
): { ifindex: number; address: string; state: NeighbourState } | undefined {
  if (payload.length < NDMSG) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, NDMSG);
  const bytes = parseAttributes(payload.subarray(NDMSG)).get(NDA_DST);
  if (bytes === undefined || !(isAddress(bytes, 'ipv4') || isAddress(bytes, 'ipv6'))) return undefined;
  const state = view.getUint16(8, LITTLE_ENDIAN);
  return {
    ifindex: view.getInt32(4, LITTLE_ENDIAN),
    address: addressText(bytes),
    state: state & NUD_REACHABLE ? 'answers' : state & NUD_FAILED ? 'silent' : 'asking',
  };
}

const familyOf = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET);
