/** Ports of Open vSwitch, in the words of ovs-vsctl(8) and ovs-vswitchd.conf.db(5). Pure. */
import { AttachError, printable } from '../errors.js';

/** A port with one interface of the same name. Nothing here may need quotes: see parseOvsBridge and checkOvsName. */
export interface OvsPort {
  readonly bridge: string;
  readonly vlans: OvsVlans;
  /** Exchanges no packets with other protected ports. */
  readonly protected: boolean;
  /** Of the interface. */
  readonly ids: Readonly<Record<string, string>>;
  /** Bytes; undefined: nothing is asked for. */
  readonly mtu: number | undefined;
}

export interface OvsVlans {
  /** Of packets without a tag. */
  readonly tag: number | undefined;
  /** With a tag; in ascending order. */
  readonly trunks: readonly number[];
}

/** What the database has of a port. */
export interface SeenOvsPort extends OvsPort {
  readonly vlanMode: string;
  /** Of the interface that ovs-vswitchd has opened; 0 when there is none. */
  readonly ifindex: number;
  /** Above 0 when ovs-vswitchd uses it. */
  readonly ofport: number;
}

export interface OvsState {
  readonly bridges: readonly string[];
  readonly ports: ReadonlyMap<string, SeenOvsPort>;
}

/** Marks an interface as vifd's. */
export const OVS_MARK = 'vifd';

/** All of what parseOvsState reads, from one transaction. */
export const READ_ARGS: readonly string[] = [
  ...['--', '--columns=name,ports', 'list', 'Bridge'],
  ...['--', '--columns=_uuid,name,tag,trunks,vlan_mode,protected', 'list', 'Port'],
  ...['--', '--columns=name,external_ids,ifindex,ofport,mtu_request', 'list', 'Interface'],
];

/** One transaction. */
export function setPortArgs(ifname: string, port: OvsPort): string[] {
  const { bridge, vlans, ids, mtu } = port;
  const { tag, trunks } = vlans;
  return [
    ...['--', '--may-exist', 'add-port', bridge, ifname],
    ...['--', 'set', 'Port', ifname, `tag=${tag ?? '[]'}`, `trunks=${trunks.length === 0 ? '[]' : trunks.join(',')}`],
    ...[`vlan_mode=${modeOf(vlans) || '[]'}`, `protected=${port.protected}`],
    ...['--', 'set', 'Interface', ifname, `mtu_request=${mtu ?? '[]'}`],
    ...Object.entries(ids).map(([name, value]) => `external_ids:${name}="${value}"`),
  ];
}

export const removePortArgs = (ifname: string): string[] => ['--', '--if-exists', 'del-port', ifname];

/** Said in full: without it a port with a tag and trunks would be an access port. */
function modeOf({ tag, trunks }: OvsVlans): string {
  if (tag === undefined) return trunks.length === 0 ? '' : 'trunk';
  return trunks.length === 0 ? 'access' : 'native-untagged';
}

/** What is asked for of the same interface. */
export function isInPlace(want: OvsPort, seen: SeenOvsPort | undefined, ifindex: number): boolean {
  return (
    seen !== undefined &&
    canStay(want, seen, ifindex) &&
    seen.vlans.tag === want.vlans.tag &&
    seen.vlans.trunks.join() === want.vlans.trunks.join() &&
    seen.vlanMode === modeOf(want.vlans) &&
    seen.protected === want.protected &&
    seen.mtu === want.mtu &&
    Object.entries(want.ids).every(([name, value]) => seen.ids[name] === value)
  );
}

/** Its bridge, and the interface that ovs-vswitchd uses, are the ones. */
export const canStay = (want: OvsPort, seen: SeenOvsPort, ifindex: number): boolean =>
  seen.ofport > 0 && seen.bridge === want.bridge && !isStale(seen, ifindex);

/** Of an interface of the same name that is gone. ovs-vswitchd tells 0 for a moment after it has opened one. */
const isStale = (seen: SeenOvsPort, ifindex: number): boolean => seen.ifindex !== 0 && seen.ifindex !== ifindex;

/** `ovs0 tag=10 trunks=20,30`, for people. */
export function describeOvsPort({ bridge, vlans: { tag, trunks } }: OvsPort): string {
  const words = [
    bridge,
    tag === undefined ? '' : `tag=${tag}`,
    trunks.length === 0 ? '' : `trunks=${trunks.join(',')}`,
  ];
  return words.filter((word) => word !== '').join(' ');
}

/** The tables that READ_ARGS asks for, a line of JSON each. Throws AttachError for anything else. */
export function parseOvsState(text: string): OvsState {
  const [bridges, ports, interfaces] = text.trim().split('\n', 3).map(parseTable);
  if (bridges === undefined || ports === undefined || interfaces === undefined)
    throw new AttachError(
      'EOVS',
      'ovs-vsctl has answered with something else than the tables that it was asked for',
      `it said ${printable(text)}`,
    );
  const bridgeOfPort = new Map(
    bridges.flatMap((row) => uuids(row.ports).map((uuid) => [uuid, text1(row.name)] as const)),
  );
  const byName = new Map(interfaces.map((row) => [text1(row.name), row]));
  const seen = ports.map((port): [string, SeenOvsPort] => {
    const name = text1(port.name);
    const own = byName.get(name) ?? {};
    const bridge = bridgeOfPort.get(uuids(port._uuid)[0] ?? '') ?? '';
    const vlans = { tag: numbers(port.tag)[0], trunks: numbers(port.trunks).sort((a, b) => a - b) };
    const [ifindex = 0] = numbers(own.ifindex);
    const [ofport = 0] = numbers(own.ofport);
    const [mtu] = numbers(own.mtu_request);
    const ids = Object.fromEntries(pairs(own.external_ids));
    return [
      name,
      { bridge, vlans, vlanMode: text1(port.vlan_mode), protected: port.protected === true, ids, mtu, ifindex, ofport },
    ];
  });
  return { bridges: bridges.map(({ name }) => text1(name)).sort(), ports: new Map(seen) };
}

type Row = Readonly<Record<string, unknown>>;

/** ovs-vsctl --format=json: RFC 7047, 5.1. Undefined for what is none. */
function parseTable(line: string): Row[] | undefined {
  const { headings, data } = (parseJson(line) ?? {}) as { headings?: unknown; data?: unknown };
  if (!Array.isArray(headings) || !Array.isArray(data) || !data.every(Array.isArray)) return undefined;
  return data.map((row) => Object.fromEntries(headings.map((heading, i) => [text1(heading), row[i]])));
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** One value stands for itself, none and several are `["set",[...]]`. */
function members(value: unknown): unknown[] {
  if (!Array.isArray(value) || value[0] !== 'set') return value === undefined ? [] : [value];
  return Array.isArray(value[1]) ? value[1] : [];
}
const numbers = (value: unknown): number[] => members(value).filter((one) => typeof one === 'number');
const uuids = (value: unknown): string[] => members(value).map((one) => (Array.isArray(one) ? wordOf(one[1]) : ''));
const pairs = (value: unknown): [string, string][] =>
  Array.isArray(value) && value[0] === 'map' && Array.isArray(value[1])
    ? value[1].filter(Array.isArray).map(([name, one]) => [wordOf(name), wordOf(one)])
    : [];
const text1 = (value: unknown): string => wordOf(members(value)[0]);
const wordOf = (value: unknown): string => (typeof value === 'string' ? value : '');
