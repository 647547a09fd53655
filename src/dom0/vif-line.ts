/**
 * A vif's settings as `xl network-attach` takes them (tools/xl/xl_parse.c, parse_nic_config), from the copy that libxl keeps
 * of the nodes it wrote (tools/libs/light/libxl_nic.c, libxl__set_xenstore_nic). Pure.
 */
import { printable } from '../errors.js';
import type { RawNodes } from '../vif/backend.js';

/** What `xl list -l` says of one vif beyond its nodes. */
export interface RecordedVif {
  /** As the vif line named it: mostly a name. Undefined: none was named. */
  readonly backend: string | undefined;
  readonly untrusted: boolean;
  readonly model: string | undefined;
}

/** Nodes whose value goes into the line as it is; the others are below. */
const AS_IT_IS = ['mac', 'bridge', 'script', 'vifname', 'ip', 'gatewaydev', 'mtu', 'vlan'] as const;

/** Checked before anything else: xl takes a MAC address that it cannot read for another. */
const SHAPES: Readonly<Record<string, RegExp>> = {
  mac: /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i,
  mtu: /^[1-9]\d{0,4}$/,
  rate: /^[1-9]\d{0,15},[1-9]\d{0,6}$/,
  type: /^vif(_ioemu)?$/,
};
const PLAIN = /^[\x20-\x7e]{1,1000}$/;

/** The words behind `xl network-attach GUEST`, or why they cannot be had. */
export function vifLine(
  devid: number,
  backend: string,
  nodes: RawNodes,
  recorded: RecordedVif | undefined,
): { words: string[] } | { why: string } {
  const bad = [...AS_IT_IS, 'rate', 'type'].find((name) => !isSound(name, nodes.get(name)));
  if (bad !== undefined) return { why: `its ${bad} is ${printable(nodes.get(bad) ?? '')}, which xl would not take` };
  if (!nodes.has('mac')) return { why: 'libxl has no record of its MAC address' };
  const colo = [...nodes.keys()].find((name) => name === 'forwarddev' || name.startsWith('colo_'));
  if (colo !== undefined) return { why: `it has COLO settings (${colo}), which are not carried over` };
  return {
    words: [
      `devid=${devid}`,
      ...AS_IT_IS.flatMap((name) => (nodes.has(name) ? [`${name}=${nodes.get(name)}`] : [])),
      ...rate(nodes.get('rate')),
      ...(nodes.get('type') === 'vif_ioemu' ? ['type=ioemu', ...model(recorded)] : []),
      ...(recorded?.untrusted ? ['untrusted'] : []),
      `backend=${backend}`,
    ],
  };
}

function isSound(name: string, value: string | undefined): boolean {
  return value === undefined || (PLAIN.test(value) && (SHAPES[name]?.test(value) ?? true));
}

const model = (recorded: RecordedVif | undefined): string[] =>
  recorded?.model !== undefined && PLAIN.test(recorded.model) ? [`model=${recorded.model}`] : [];

/** The largest number that xl takes in a rate (tools/libs/util/libxlu_vif.c). */
const UINT32_MAX = 0xffff_ffffn;

/** `<bytes>,<usec>` as bytes in a second, rounded up: xl cuts what is left over, and comes to the same bytes. */
function rate(value: string | undefined): string[] {
  if (value === undefined) return [];
  const [bytes, usec] = value.split(',').map(BigInt) as [bigint, bigint];
  const second = (bytes * 1_000_000n + usec - 1n) / usec;
  const word = second > UINT32_MAX ? `${(second + 999n) / 1000n}KB/s` : `${second}B/s`;
  return [`rate=${word}@${usec}us`];
}

/** The vifs of one domain in what `xl list -l DOMID` printed, by devid. Undefined: it is not that. */
export function parseXlList(text: string, domid: number): Map<number, RecordedVif> | undefined {
  const all = parseJson(text);
  const one = (Array.isArray(all) ? all : [all]).find((entry) => isObject(entry) && entry.domid === domid);
  const config = isObject(one) && isObject(one.config) ? one.config : undefined;
  if (config === undefined) return undefined;
  const nics = Array.isArray(config.nics) ? config.nics.filter(isObject) : [];
  return new Map(nics.map((nic) => [typeof nic.devid === 'number' ? nic.devid : 0, recordedVif(nic)]));
}

const recordedVif = (nic: Record<string, unknown>): RecordedVif => ({
  backend: typeof nic.backend_domname === 'string' ? nic.backend_domname : undefined,
  untrusted: nic.trusted === 'False',
  model: typeof nic.model === 'string' ? nic.model : undefined,
});

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
