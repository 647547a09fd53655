/** Device features over generic netlink (linux/genetlink.h, linux/ethtool_netlink.h). Pure. */
import {
  type Attribute,
  AttributeWalk,
  attributeU16,
  encodeAttributes,
  parseAttributes,
  viewOf,
} from './attributes.js';

/** The fixed family through which the others are found. */
export const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;

const ETHTOOL_MSG_FEATURES_GET = 11;
const ETHTOOL_MSG_FEATURES_SET = 12;
const ETHTOOL_A_FEATURES_HEADER = 1;
const ETHTOOL_A_FEATURES_HW = 2;
const ETHTOOL_A_FEATURES_WANTED = 3;
const ETHTOOL_A_FEATURES_ACTIVE = 4;
const ETHTOOL_A_HEADER_DEV_INDEX = 1;
const ETHTOOL_A_HEADER_FLAGS = 3;
const ETHTOOL_FLAG_OMIT_REPLY = 2;
const ETHTOOL_A_BITSET_BITS = 3;
const ETHTOOL_A_BITSET_BITS_BIT = 1;
const ETHTOOL_A_BITSET_BIT_NAME = 2;
const ETHTOOL_A_BITSET_BIT_VALUE = 3;
const GENLMSGHDR = 4;
const NO_BYTES = new Uint8Array(0);

/** What `ethtool -K` calls tx, rx, tso and so on: groups of features (net/ethtool/ioctl.c, ethtool_get_feature_mask). */
export const FEATURE_GROUPS = {
  txChecksum: [
    'tx-checksum-ipv4',
    'tx-checksum-ip-generic',
    'tx-checksum-ipv6',
    'tx-checksum-fcoe-crc',
    'tx-checksum-sctp',
  ],
  rxChecksum: ['rx-checksum'],
  tso: [
    'tx-tcp-segmentation',
    'tx-tcp-ecn-segmentation',
    'tx-tcp-mangleid-segmentation',
    'tx-tcp6-segmentation',
    'tx-tcp-accecn-segmentation', // not before Linux 6.18
  ],
  gso: ['tx-generic-segmentation'],
  sg: ['tx-scatter-gather', 'tx-scatter-gather-fraglist'],
  gro: ['rx-gro'],
} as const;

export type Offload = keyof typeof FEATURE_GROUPS;
/** What is not named stays as it is. */
export type Offloads = Readonly<Partial<Record<Offload, boolean>>>;
/** By name; true: on. */
export type FeatureChange = Readonly<Record<string, boolean>>;

export interface Features {
  /** Not those that are active: netback masks some until the guest has connected, and turns them on then, if they are wanted. */
  readonly wanted: ReadonlySet<string>;
  /** Those that could be wanted. */
  readonly unwanted: ReadonlySet<string>;
  readonly active: ReadonlySet<string>;
}

export const NO_FEATURES: Features = { wanted: new Set(), unwanted: new Set(), active: new Set() };

/** Whether all kernels have the features, so that the device need not be asked for them. */
export const needNoAsking = (want: Offloads): boolean => Object.keys(want).every((offload) => offload === 'txChecksum');

/** What of it is not so, as far as the driver can do it. Undefined features: not asked, so any may be otherwise. */
export function featureChange(want: Offloads, features: Features | undefined): FeatureChange {
  const names = groups(want).flatMap(([, value, group]) => group.map((name) => [name, value] as const));
  const differs = ([name, value]: readonly [string, boolean]) =>
    features === undefined || (value ? features.unwanted : features.wanted).has(name);
  return Object.fromEntries(names.filter(differs));
}

/** What of it the driver does not let anyone change. */
export function fixedOffloads(want: Offloads, { wanted, unwanted, active }: Features): Offload[] {
  const isFixed = (name: string) => !wanted.has(name) && !unwanted.has(name);
  const cannot = groups(want).filter(([, value, group]) =>
    value
      ? group.every((name) => isFixed(name) && !active.has(name))
      : group.some((name) => isFixed(name) && active.has(name)),
  );
  return cannot.map(([offload]) => offload);
}

const groups = (want: Offloads): [Offload, boolean, readonly string[]][] =>
  (Object.entries(want) as [Offload, boolean][]).map(([offload, value]) => [offload, value, FEATURE_GROUPS[offload]]);

/** `off: a b, on: c`, for people. */
export function describeFeatures(change: FeatureChange): string {
  const names = (wanted: boolean) =>
    Object.entries(change).flatMap(([name, value]) => (value === wanted ? [name] : []));
  const [off, on] = [names(false), names(true)];
  return [off.length > 0 ? [`off: ${off.join(' ')}`] : [], on.length > 0 ? [`on: ${on.join(' ')}`] : []]
    .flat()
    .join(', ');
}

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

/**
 * Others stay. Names that the device does not have, or cannot change, are accepted and do nothing; one that the kernel does not
 * know is refused, with all others.
 */
export function encodeSetFeatures(ifindex: number, change: FeatureChange): Uint8Array {
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
            Object.entries(change).map(
              ([name, value]): Attribute => [
                ETHTOOL_A_BITSET_BITS_BIT,
                [
                  [ETHTOOL_A_BITSET_BIT_NAME, name],
                  ...(value ? [[ETHTOOL_A_BITSET_BIT_VALUE, NO_BYTES] as const] : []),
                ],
              ],
            ),
          ],
        ],
      ],
    ]),
  );
}

export function parseFeatures(payload: Uint8Array): Features {
  const sets = parseAttributes(payload.subarray(GENLMSGHDR));
  const wanted = bitNames(sets.get(ETHTOOL_A_FEATURES_WANTED), false);
  const changeable = bitNames(sets.get(ETHTOOL_A_FEATURES_HW), true);
  const unwanted = new Set([...changeable].filter((name) => !wanted.has(name)));
  return { wanted, unwanted, active: bitNames(sets.get(ETHTOOL_A_FEATURES_ACTIVE), false) };
}

/** The bits that are 1: in a list without a mask (ETHTOOL_A_BITSET_NOMASK) all of them, else those with a value. */
function bitNames(bitset: Uint8Array | undefined, masked: boolean): Set<string> {
  const names = new Set<string>();
  const bits = (bitset && parseAttributes(bitset).get(ETHTOOL_A_BITSET_BITS)) ?? NO_BYTES;
  const bytes = Buffer.from(bits.buffer, bits.byteOffset, bits.length);
  const view = viewOf(bits);
  const [all, bit] = [new AttributeWalk(view), new AttributeWalk(view)];
  while (all.next()) {
    const name = bitName(bit.within(all.start, all.end), bytes, masked);
    if (name !== undefined) names.add(name);
  }
  return names;
}

/** Makes nothing but the name: a device has some 60 bits in each set. */
function bitName(bit: AttributeWalk, bytes: Buffer, masked: boolean): string | undefined {
  let start = -1;
  let end = -1;
  let counts = !masked;
  while (bit.next()) {
    if (bit.type === ETHTOOL_A_BITSET_BIT_VALUE) counts = true;
    if (bit.type !== ETHTOOL_A_BITSET_BIT_NAME) continue;
    start = bit.start;
    end = bit.end;
  }
  if (start < 0 || !counts) return undefined;
  const nul = bytes.indexOf(0, start);
  return bytes.toString('utf8', start, nul < 0 || nul > end ? end : nul);
}
