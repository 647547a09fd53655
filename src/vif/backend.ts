/**
 * A vif's backend directory as one validated value. Pure. The nodes are those that libxl writes (contract 2.1,
 * tools/libs/light/libxl_nic.c); every value comes from another domain and is checked before anything uses it.
 */
import { isIP, isIPv4 } from 'node:net';
import { NodeError } from '../errors.js';
import { type BackendKey, frontendDir, parseDevid, parseId } from '../xenstore/paths.js';
import { parseOvsBridge } from './openvswitch.js';
import { parseVlans, VLANS_RULE } from './vlan.js';

/** An interface name that the kernel accepts (dev_valid_name) and that is no pattern. */
export type Ifname = string & { readonly brand: 'Ifname' };
/** Six lower-case hexadecimal bytes. */
export type MacAddress = string & { readonly brand: 'MacAddress' };

/** enum xenbus_state (xen/include/public/io/xenbus.h). */
export const XenbusState = {
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const;

/** What dom0 writes once, when it makes the vif. */
export interface VifBackend {
  readonly key: BackendKey;
  readonly type: 'vif' | 'vif_ioemu';
  /** The script dom0 named. Never executed; two names choose something, see policy.ts. */
  readonly script: string;
  /** Names the kernel's interface, `vif<domid>.<handle>`. */
  readonly handle: number;
  readonly mac: MacAddress | undefined;
  /** For Open vSwitch it may have VLANs behind the name. */
  readonly bridge: string | undefined;
  readonly vifname: Ifname | undefined;
  readonly gatewaydev: Ifname | undefined;
  /** Bytes; only set by dom0 when it is not 1500. */
  readonly mtu: number | undefined;
  /** Addresses or prefixes, IPv4 and IPv6. */
  readonly ip: readonly string[];
  /** Why `ip` is empty although dom0 wrote something. */
  readonly ipFault: NodeError | undefined;
  /** As parseVlans reads it. */
  readonly vlan: string | undefined;
  /** netback's own rate limit: bytes in every so many microseconds. */
  readonly rate: { readonly bytes: number; readonly usec: number } | undefined;
  /** What is wrong with values that bridge mode does not use: worth a warning, no reason to leave the guest without a network. */
  readonly complaints: readonly string[];
}

/** What changes while the vif lives. `undefined` state: the directory is gone, or not written yet. */
export interface VifLive {
  readonly state: number | undefined;
  readonly online: boolean;
  readonly hotplugStatus: string | undefined;
  readonly hotplugError: string | undefined;
}

/** Nodes that change while the vif lives. */
export const LIVE_NODES = ['state', 'online', 'hotplug-status', 'hotplug-error'] as const;

/** Nodes that dom0 writes once and that parseBackend reads. */
export const FIXED_NODES = [
  'frontend',
  'frontend-id',
  'script',
  'handle',
  'type',
  'mac',
  'bridge',
  'vifname',
  'gatewaydev',
  'mtu',
  'ip',
  'vlan',
  'rate',
] as const;

export const isLiveNode = (node: string): boolean => (LIVE_NODES as readonly string[]).includes(node);
export const isFixedNode = (node: string): boolean => (FIXED_NODES as readonly string[]).includes(node);

export type RawNodes = ReadonlyMap<string, string>;

/** `vif5.0`: the name netback gives the interface (xenvif_alloc). */
export const kernelName = ({ key, handle }: Pick<VifBackend, 'key' | 'handle'>): Ifname =>
  `vif${key.domid}.${handle}` as Ifname;

/** The fixed part. Throws NodeError for the first value that cannot be accepted. */
export function parseBackend(key: BackendKey, nodes: RawNodes): VifBackend {
  const own = <T>(name: string, parse: (text: string) => T | undefined, expected: string) =>
    required(nodes, name, parse, expected);
  const maybe = <T>(name: string, parse: (text: string) => T | undefined, expected: string) =>
    optional(nodes, name, parse, expected);
  const complaints: string[] = [];
  let ipFault: NodeError | undefined;
  const unused = <T>(name: string, parse: (text: string) => T | undefined, expected: string) => {
    try {
      return optional(nodes, name, parse, expected);
    } catch (error) {
      if (!(error instanceof NodeError)) throw error;
      if (name === 'ip') ipFault = error;
      complaints.push(`${error.message}; left out${name === 'ip' ? ', so the guest is not held to it' : ''}`);
      return undefined;
    }
  };
  const frontend = frontendDir(key);
  own('frontend', (text) => (text === frontend ? text : undefined), `"${frontend}"`);
  own(
    'frontend-id',
    (text) => (text === String(key.domid) ? text : undefined),
    `"${key.domid}", the domain of its path`,
  );
  return {
    key,
    type: own('type', (text) => (text === 'vif' || text === 'vif_ioemu' ? text : undefined), '"vif" or "vif_ioemu"'),
    script: own('script', parseScript, 'the absolute path of a script, at most 1024 printable characters'),
    handle: own('handle', parseDevid, 'a decimal device number without leading zeros'),
    mac: maybe('mac', parseMac, 'a MAC address such as 00:16:3e:01:02:03'),
    bridge: maybe('bridge', (text) => parseIfname(text) ?? (parseOvsBridge(text) && text), IFNAME_RULE),
    vifname: maybe(
      'vifname',
      (text) => parseVifname(text, key),
      `${IFNAME_RULE}, and none that netback gives another vif`,
    ),
    gatewaydev: unused('gatewaydev', parseIfname, IFNAME_RULE),
    mtu: maybe('mtu', parseMtu, 'a number of bytes from 68 to 65517'),
    ip: unused('ip', parseAddresses, 'IPv4 or IPv6 addresses or prefixes, separated by spaces') ?? [],
    vlan: maybe('vlan', (text) => parseVlans(text) && text, VLANS_RULE),
    rate: unused('rate', parseRate, '<bytes>,<microseconds>'),
    complaints,
    ipFault,
  };
}

/** The live part. Throws NodeError for a state or an online that Xen cannot have written. */
export function parseLive(nodes: RawNodes): VifLive {
  const state = optional(nodes, 'state', (text) => parseId(text, 9), 'a XenbusState from 0 to 8');
  return {
    state,
    online: state !== undefined && required(nodes, 'online', parseOnline, '"0" or "1"'),
    hotplugStatus: nodes.get('hotplug-status'),
    hotplugError: nodes.get('hotplug-error'),
  };
}

function parseOnline(text: string): boolean | undefined {
  return text === '0' ? false : text === '1' ? true : undefined;
}

function required<T>(nodes: RawNodes, name: string, parse: (text: string) => T | undefined, expected: string): T {
  const text = nodes.get(name);
  const value = text === undefined ? undefined : parse(text);
  if (value === undefined) throw new NodeError(name, text, expected);
  return value;
}

/** Missing and empty both mean that dom0 asks for nothing. */
function optional<T>(
  nodes: RawNodes,
  name: string,
  parse: (text: string) => T | undefined,
  expected: string,
): T | undefined {
  const text = nodes.get(name);
  if (text === undefined || text === '') return undefined;
  const value = parse(text);
  if (value === undefined) throw new NodeError(name, text, expected);
  return value;
}

const IFNAME_RULE = 'an interface name of 1 to 15 printable characters without space, "/", ":" and "%"';

/** Stricter than the kernel: no `%`, which would make a rename pick a number, and nothing unprintable. */
export function parseIfname(text: string): Ifname | undefined {
  return /^[!-~]{1,15}$/.test(text) && !/[/:%]/.test(text) && text !== '.' && text !== '..'
    ? (text as Ifname)
    : undefined;
}

/** Under the name of a vif to come netback could not make that one. */
function parseVifname(text: string, { domid, devid }: BackendKey): Ifname | undefined {
  return /^vif\d+\.\d+$/.test(text) && text !== `vif${domid}.${devid}` ? undefined : parseIfname(text);
}

export function parseMac(text: string): MacAddress | undefined {
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text) ? (text.toLowerCase() as MacAddress) : undefined;
}

/** ETH_MIN_MTU to what netback allows (65535 - VLAN_ETH_HLEN). */
export function parseMtu(text: string): number | undefined {
  const mtu = parseId(text, 65518);
  return mtu !== undefined && mtu >= 68 ? mtu : undefined;
}

function parseScript(text: string): string | undefined {
  return /^\/[ -~]{1,1023}$/.test(text) ? text : undefined;
}

function parseAddresses(text: string): string[] | undefined {
  const words = text.split(/[ \t]+/).filter((word) => word !== '');
  return words.every(isAddressOrPrefix) ? words : undefined;
}

function isAddressOrPrefix(word: string): boolean {
  const [address = '', prefix, ...rest] = word.split('/');
  if (isIP(address) === 0 || address.includes('%') || rest.length > 0) return false;
  return prefix === undefined || parseId(prefix, isIPv4(address) ? 33 : 129) !== undefined;
}

function parseRate(text: string): { bytes: number; usec: number } | undefined {
  const [bytesText = '', usecText = '', ...rest] = text.split(',');
  const [bytes, usec] = [parseRateNumber(bytesText), parseRateNumber(usecText)];
  return bytes === undefined || usec === undefined || rest.length > 0 ? undefined : { bytes, usec };
}

/** netback reads both with strtoul. */
const parseRateNumber = (text: string): number | undefined => (/^[0-9]{1,20}$/.test(text) ? Number(text) : undefined);
