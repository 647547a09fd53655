/** What `vifd status` says of the vifs, as data and as a table. Pure. */

import { printable } from '../errors.js';
import type { Counters } from '../network/ip-link.js';
import { shortPrefix } from '../network/prefix.js';
import { alignColumns, plainWord, wrap } from '../text.js';
import { type BackendKey, keyText, parseBackendPath, parseDevid, parseDomid } from '../xenstore/paths.js';
import { isRouted } from './attachment.js';
import { obstacle, stateName } from './explanation.js';
import { type Held, heldText, heldTo } from './guard-explanation.js';
import type { Program, VifSeen } from './seen.js';

/** `failed`: somebody has to do something. `waiting`: for the guest, the kernel or an agent that runs. */
export type Health = 'connected' | 'waiting' | 'leaving' | 'failed';

/** `vifd status --json`, version 1: fields may be added, none is removed or changes its meaning. */
export interface StatusReport {
  readonly version: 1;
  /** Processes that seem to attach vifs here. */
  readonly agents: readonly Program[];
  /** No vif has failed; the exit code is 0. */
  readonly healthy: boolean;
  readonly vifs: readonly VifReport[];
}

export interface VifReport {
  readonly domid: number;
  readonly devid: number;
  /** Null when there is none. */
  readonly ifname: string | null;
  readonly mode: string | null;
  /** The bridge it is a port of, or else the one dom0 named. */
  readonly bridge: string | null;
  /** What is routed to it, in the modes "routed" and "nat". */
  readonly addresses: readonly string[];
  /** What the guard holds the guest to; null without one in force. */
  readonly heldTo: Held | null;
  /** The guest's. */
  readonly mac: string | null;
  /** Bytes, of the host's end. */
  readonly mtu: number | null;
  readonly backendState: string;
  readonly frontendState: string;
  readonly hotplugStatus: string | null;
  readonly health: Health;
  /** What keeps the vif from working, and what to do; null when it works. */
  readonly problem: string | null;
  readonly remedy: string | null;
  /** As the agent or the script wrote it into xenstore. */
  readonly hotplugError: string | null;
  /** Seen from the guest; null when it cannot be read. */
  readonly sent: Counters | null;
  readonly received: Counters | null;
}

export function reportStatus(programs: readonly Program[], seen: readonly VifSeen[]): StatusReport {
  const vifs = seen.map(reportVif);
  return { version: 1, agents: programs, healthy: vifs.every(({ health }) => health !== 'failed'), vifs };
}

export function reportVif(seen: VifSeen): VifReport {
  const { key, backend, live, link, want, bridge, statistics, frontend } = seen;
  const problem = obstacle(seen);
  return {
    ...key,
    ifname: link?.ifname ?? null,
    mode: want?.mode ?? null,
    bridge: bridge?.link.ifname ?? (isRouted(want) ? null : (backend?.bridge ?? null)),
    addresses: isRouted(want) ? want.addresses.map(shortPrefix) : [],
    heldTo: heldTo(seen) ?? null,
    mac: backend?.mac ?? null,
    mtu: link?.mtu ?? null,
    backendState: live === undefined ? 'invalid' : stateName(live.state),
    frontendState: stateName(frontend.state),
    hotplugStatus: live?.hotplugStatus ?? null,
    health: healthOf(seen),
    problem: problem?.says ?? null,
    remedy: problem?.remedy ?? null,
    hotplugError: live?.hotplugError ?? null,
    sent: statistics?.rx ?? null,
    received: statistics?.tx ?? null,
  };
}

function healthOf(seen: VifSeen): Health {
  const problem = obstacle(seen);
  if (problem === undefined) return 'connected';
  if (problem.verdict === 'wrong') return 'failed';
  return seen.live?.online === false ? 'leaving' : 'waiting';
}

/** The lines for people; sentences are broken at `width` columns. */
export function formatStatus({ agents, vifs }: StatusReport, width: number): string[] {
  return [formatAgents(agents), ...(vifs.length === 0 ? ['no vifs'] : formatVifs(vifs, width))];
}

export function formatAgents(programs: readonly Program[]): string {
  if (programs.length === 0) return 'no agent seems to run here: new vifs will not be attached';
  return `an agent seems to run: ${programs.map(({ command, pid }) => `${command} (pid ${pid})`).join(', ')}`;
}

const HEADER = ['VIF', 'INTERFACE', 'MODE', 'BRIDGE', 'BACKEND', 'GUEST', 'HOTPLUG', 'HEALTH'];

function formatVifs(vifs: readonly VifReport[], width: number): string[] {
  const [header, ...rows] = alignColumns([HEADER, ...vifs.map(columns)]);
  return [header ?? '', ...vifs.flatMap((vif, i) => [rows[i] ?? '', ...details(vif, width)])];
}

const columns = (vif: VifReport): string[] => [
  keyText(vif),
  word(vif.ifname),
  word(vif.mode),
  word(vif.bridge),
  vif.backendState,
  vif.frontendState,
  word(vif.hotplugStatus),
  vif.health,
];

function details(vif: VifReport, width: number): string[] {
  const { health, addresses, mac, mtu, sent, received, problem, remedy, hotplugError } = vif;
  const counts =
    sent === null || received === null ? 'counters unknown' : `guest sent ${count(sent)}, got ${count(received)}`;
  const lines = wrap('  ', `${mac ?? 'no mac'} mtu ${mtu ?? '-'}  ${counts}`, width);
  if (addresses.length > 0) lines.push(...wrap('  routed:  ', addresses.join(' '), width));
  if (vif.heldTo !== null) lines.push(...wrap('  held to: ', heldText(vif.heldTo), width));
  if (problem !== null) lines.push(...wrap(health === 'failed' ? '  problem: ' : '  waits:   ', problem, width));
  if (remedy !== null && remedy !== '') lines.push(...wrap('  remedy:  ', remedy, width));
  if (hotplugError !== null && !problem?.includes(hotplugError) && !problem?.includes(printable(hotplugError, 240)))
    lines.push(...wrap('  told:    ', `hotplug-error is ${printable(hotplugError, 240)}`, width));
  return lines;
}

const count = ({ packets, dropped }: Counters): string => `${packets} (${dropped} dropped)`;

const word = (value: string | null): string => (value === null || value === '' ? '-' : plainWord(value));

/** The lines of `vifd explain`, of at most `width` columns. */
export function formatAccounts(
  accounts: readonly { verdict: string; station: string; says: string; remedy: string }[],
  width: number,
) {
  const last = accounts.at(-1);
  const lines = accounts.flatMap(({ verdict, station, says, remedy }) => [
    ...wrap(`${verdict.padEnd(5)}  ${station.padEnd(10)}  `, says, width),
    ...(remedy === '' ? [] : wrap(' '.repeat(19), `-> ${remedy}`, width)),
  ]);
  if (last === undefined || last.verdict === 'ok' || last.verdict === 'note') return [...lines, 'result: it works'];
  const what = last.verdict === 'wait' ? 'it waits at' : 'it fails at';
  return [...lines, ...wrap('result: ', `${what} "${last.station}"; what comes behind it was not looked at`, width)];
}

/** `vif5.0`, `5/0`, or a path in the vif's backend or frontend directory. Undefined: may be an interface's name. */
export function parseVifName(text: string): BackendKey | undefined {
  const path = parseBackendPath(text)?.key;
  if (path !== undefined) return path;
  const [, domidText = '', devidText = ''] =
    /^(?:vif)?(\d+)[./](\d+)$/.exec(text) ?? /^\/local\/domain\/(\d+)\/device\/vif\/(\d+)(?:\/.*)?$/.exec(text) ?? [];
  const [domid, devid] = [parseDomid(domidText), parseDevid(devidText)];
  return domid === undefined || devid === undefined ? undefined : { domid, devid };
}
