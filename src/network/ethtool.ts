/** Device features over generic netlink (linux/genetlink.h, linux/ethtool_netlink.h). Pure. */
import { attributeString, attributeU16, eachAttribute, encodeAttributes, parseAttributes } from './attributes.js';

/** The fixed family through which the others are found. */
export const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;

const ETHTOOL_MSG_FEATURES_GET = 11;
const ETHTOOL_MSG_FEATURES_SET = 12;
const ETHTOOL_A_FEATURES_HEADER = 1;
const ETHTOOL_A_FEATURES_WANTED = 3;
const ETHTOOL_A_HEADER_DEV_INDEX = 1;
const ETHTOOL_A_HEADER_FLAGS = 3;
const ETHTOOL_FLAG_OMIT_REPLY = 2;
const ETHTOOL_A_BITSET_BITS = 3;
const ETHTOOL_A_BITSET_BITS_BIT = 1;
const ETHTOOL_A_BITSET_BIT_NAME = 2;
const GENLMSGHDR = 4;

/** The features that `ethtool -K DEV tx off` clears (net/ethtool/ioctl.c, ETHTOOL_STXCSUM). */
export const TX_CHECKSUM_FEATURES = [
  'tx-checksum-ipv4',
  'tx-checksum-ip-generic',
  'tx-checksum-ipv6',
  'tx-checksum-fcoe-crc',
  'tx-checksum-sctp',
];

function genl(command: number, attributes: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(GENLMSGHDR + attributes.length);
  bytes[0] = command;
  bytes[1] = 1; // version
  bytes.set(attributes, GENLMSGHDR);
  return bytes;
}

export const encodeGetFamily = (name: string): Uint8Array =>
  genl(CTRL_CMD_GETFAMILY, encodeAttributes([[CTRL_ATTR_FAMILY_NAME, name]]));

/** The family's message type, from the answer to encodeGetFamily. */
export function parseFamilyId(payload: Uint8Array): number | undefined {
  return attributeU16(parseAttributes(payload.subarray(GENLMSGHDR)), CTRL_ATTR_FAMILY_ID);
}

export function encodeGetFeatures(ifindex: number): Uint8Array {
  return genl(
    ETHTOOL_MSG_FEATURES_GET,
    encodeAttributes([[ETHTOOL_A_FEATURES_HEADER, [[ETHTOOL_A_HEADER_DEV_INDEX, ifindex]]]]),
  );
}

/** Turns these features off; others stay. Names the device does not have are accepted and do nothing. */
export function encodeClearFeatures(ifindex: number, names: readonly string[]): Uint8Array {
  return genl(
    ETHTOOL_MSG_FEATURES_SET,
    encodeAttributes([
      [
        ETHTOOL_A_FEATURES_HEADER,
        [
          [ETHTOOL_A_HEADER_DEV_INDEX, ifindex],
          [ETHTOOL_A_HEADER_FLAGS, ETHTOOL_FLAG_OMIT_REPLY],
        ],
      ],
      // A listed bit is in the mask; without ETHTOOL_A_BITSET_BIT_VALUE it is to be 0.
      [
        ETHTOOL_A_FEATURES_WANTED,
        [
          [
            ETHTOOL_A_BITSET_BITS,
            names.map((name) => [ETHTOOL_A_BITSET_BITS_BIT, [[ETHTOOL_A_BITSET_BIT_NAME, name]]] as const),
          ],
        ],
      ],
    ]),
  );
}

/**
 * The features that are wanted. Not those that are active: netback masks some until the guest has connected, and turns
 * them on then, unless they are no longer wanted.
 */
export function parseWantedFeatures(payload: Uint8Array): Set<string> {
  return bitNames(parseAttributes(payload.subarray(GENLMSGHDR)).get(ETHTOOL_A_FEATURES_WANTED));
}

/** The names in a list without a mask (ETHTOOL_A_BITSET_NOMASK), as the kernel sends what is wanted: the bits that are 1. */
function bitNames(bitset: Uint8Array | undefined): Set<string> {
  const names = new Set<string>();
  const bits = bitset === undefined ? undefined : parseAttributes(bitset).get(ETHTOOL_A_BITSET_BITS);
  for (const [, bit] of eachAttribute(bits ?? new Uint8Array(0))) {
    const name = attributeString(parseAttributes(bit), ETHTOOL_A_BITSET_BIT_NAME);
    if (name !== undefined) names.add(name);
  }
  return names;
}
