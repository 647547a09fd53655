/**
 * Times an agent from dom0: one watcher on dom0's own xenstored, the same for every agent, which needs no cooperation of it.
 * Emulated times are 20-50 times those of a real machine: only the ratio of two agents says something.
 */
import { createClient, vifSpec, xl } from './guests.js';
import { Lab } from './lab.js';
import { measureRest, type Rest, type Row, restRows } from './rest.js';

export interface Burst {
  readonly vifs: number;
  readonly connected: number;
  /** state 2 -> connected, sorted, milliseconds. */
  readonly attachMs: readonly number[];
  /** From the first vif in state 2 until the last one connected. */
  readonly wholeMs: number;
  readonly destroyMs: number;
  readonly libxlErrors: number;
  /** Of the driver domain, by Xen's own account. */
  readonly cpuSecondsPerAttach: number;
}

export interface Figures {
  readonly agent: string;
  /** First attach after the agent's start. */
  readonly firstMs: number;
  readonly attachMs: readonly number[];
  /** dom0 writes state 5 -> the backend directory is gone. */
  readonly detachMs: readonly number[];
  /** `xl network-detach` from start to return. */
  readonly xlDetachMs: readonly number[];
  readonly cpuSecondsPerAttach: number;
  readonly bursts: readonly Burst[];
  /** At rest, with one connected vif. */
  readonly rest: Rest;
}

interface Change {
  readonly t: number;
  readonly vif: string;
  readonly node: string;
  readonly value: string | null;
}

const WATCH_FILE = '/run/watcher.jsonl';

export async function measureAgent(agent: 'vifd' | 'devd', bursts: readonly number[]): Promise<Figures> {
  const lab = await Lab.boot({ xenstored: 'oxenstored', agent, quiet: true });
  try {
    const figures = await measure(lab, bursts);
    await lab.assertHealthy();
    await lab.stop();
    return figures;
  } catch (error) {
    await lab.stop({ failed: true });
    throw error;
  }
}

async function measure(lab: Lab, bursts: readonly number[]): Promise<Figures> {
  await lab.must(`setsid node /lab/watcher.mjs $(xl domid nicdom) ${WATCH_FILE} >/run/watcher.log 2>&1 </dev/null &`);
  await lab.until('the watcher watches', async () => (await lab.dom0(`grep ready ${WATCH_FILE}`)).code === 0, 60_000);
  const domid = await createClient(lab, { name: 'alpha', number: 11 });
  await untilConnectedOrLate(lab, domid, 1);
  await lab.must('sleep 12'); // the guest boots
  const idle = await cpuSeconds(lab);
  const xlDetachMs: number[] = [];
  for (let devid = 1; devid <= 5; devid++) {
    await xl(lab, `network-attach alpha ${vifSpec(11, devid)}`);
    await untilConnectedOrLate(lab, domid, devid + 1);
  }
  const busy = await cpuSeconds(lab);
  for (let devid = 1; devid <= 5; devid++) xlDetachMs.push(await xl(lab, `network-detach alpha ${devid}`));
  await lab.must('sleep 3');
  const singles = await changes(lab);
  const result = [];
  for (const vifs of bursts) result.push(await burst(lab, vifs));
  const rest = await measureRest(lab);
  const one = Array.from({ length: 5 }, (_, i) => `${domid}/${i + 1}`);
  return {
    agent: lab.options.agent,
    firstMs: attachTimes(singles, [`${domid}/0`])[0] ?? Number.NaN,
    attachMs: attachTimes(singles, one),
    detachMs: detachTimes(singles, one),
    xlDetachMs: xlDetachMs.sort((a, b) => a - b),
    cpuSecondsPerAttach: (busy - idle) / 5,
    bursts: result,
    rest,
  };
}

async function burst(lab: Lab, vifs: number): Promise<Burst> {
  const idle = await cpuSeconds(lab);
  const domid = await createClient(lab, { name: `burst${vifs}`, number: 100 + vifs, vifs });
  await untilConnectedOrLate(lab, domid, vifs);
  const busy = await cpuSeconds(lab);
  await lab.must('sleep 12'); // the guest boots
  const seen = (await changes(lab)).filter(({ vif }) => vif.startsWith(`${domid}/`));
  const ids = Array.from({ length: vifs }, (_, i) => `${domid}/${i}`);
  const attachMs = attachTimes(seen, ids);
  const at = (node: string, value: string) =>
    seen.filter((change) => change.node === node && change.value === value).map(({ t }) => t);
  const { out } = await lab.dom0(
    `a=$(date +%s%N); xl destroy burst${vifs}; echo "took $((($(date +%s%N) - a) / 1000000))"`,
    180_000,
  );
  return {
    vifs,
    connected: attachMs.length,
    attachMs,
    wholeMs:
      attachMs.length === 0
        ? Number.NaN
        : Math.max(...at('hotplug-status', 'connected')) - Math.min(...at('state', '2')),
    destroyMs: Number(/took (\d+)/.exec(out)?.[1]),
    libxlErrors: out.split('libxl: error').length - 1,
    cpuSecondsPerAttach: (busy - idle) / vifs,
  };
}

/** Cheap in dom0, which the measured domain shares its CPU with; gives up quietly, the figures show what is missing. */
async function untilConnectedOrLate(lab: Lab, domid: number, count: number): Promise<void> {
  const probe = `for i in $(seq 35); do
    [ "$(grep -c '"vif":"${domid}/[0-9]*","node":"hotplug-status","value":"connected"' ${WATCH_FILE})" -ge ${count} ] && exit; sleep 2; done`;
  await lab.dom0(probe, 120_000);
}

async function cpuSeconds(lab: Lab): Promise<number> {
  return Number(await lab.must("xl list nicdom | awk 'END { print $NF }'"));
}

async function changes(lab: Lab): Promise<Change[]> {
  const text = await lab.must(`grep '"node"' ${WATCH_FILE}`);
  return text.split('\n').map((line) => JSON.parse(line) as Change);
}

/** Sorted; without those that never got there. */
function attachTimes(seen: readonly Change[], vifs: readonly string[]): number[] {
  return between(
    seen,
    vifs,
    ({ node, value }) => node === 'state' && value === '2',
    ({ node, value }) => node === 'hotplug-status' && value === 'connected',
  );
}

function detachTimes(seen: readonly Change[], vifs: readonly string[]): number[] {
  return between(
    seen,
    vifs,
    ({ node, value }) => node === 'state' && (value === '5' || value === '6'),
    ({ node, value }) => node === '' && value === null,
  );
}

function between(
  seen: readonly Change[],
  vifs: readonly string[],
  from: (c: Change) => boolean,
  to: (c: Change) => boolean,
): number[] {
  return vifs
    .map((vif) => seen.filter((change) => change.vif === vif))
    .map((own) => (own.find(to)?.t ?? Number.NaN) - (own.find(from)?.t ?? Number.NaN))
    .filter((ms) => !Number.isNaN(ms))
    .sort((a, b) => a - b);
}

export function median(sorted: readonly number[]): number {
  const half = sorted.length / 2;
  const [below, above] = [sorted[Math.ceil(half) - 1], sorted[Math.floor(half)]];
  return below === undefined || above === undefined ? Number.NaN : (below + above) / 2;
}

/** A table of both agents beside each other, and how many times faster the first is. */
export function table(ours: Figures, theirs: Figures): string {
  const ms = (value: number) => value.toFixed(0);
  const row = (name: string, a: number, b: number, show = ms) => [
    name,
    ...[a, b].map((value) => (Number.isFinite(value) ? show(value) : '-')),
    Number.isFinite(b / a) ? `${(b / a).toFixed(1)}x` : '',
  ];
  const rows = [
    ['milliseconds, emulated', ours.agent, `xl ${theirs.agent}`, 'ratio'],
    row('first vif after start: state 2 -> connected', ours.firstMs, theirs.firstMs),
    row('one vif: state 2 -> connected, median of 5', median(ours.attachMs), median(theirs.attachMs)),
    row('one vif: detach (state 5) -> directory gone', median(ours.detachMs), median(theirs.detachMs)),
    row('xl network-detach returns after', median(ours.xlDetachMs), median(theirs.xlDetachMs)),
    row('driver domain: CPU seconds per attach', ours.cpuSecondsPerAttach, theirs.cpuSecondsPerAttach, (s) =>
      s.toFixed(2),
    ),
    ...ours.bursts.flatMap((burst, i) => burstRows(burst, theirs.bursts[i] ?? burst, row)),
    ...restRows(ours.rest, theirs.rest, row),
  ];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  return rows
    .map((cells) =>
      cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
    )
    .join('\n');
}

function burstRows(a: Burst, b: Burst, row: Row): string[][] {
  const name = `${a.vifs} vifs at once`;
  return [
    [`${name}: connected`, `${a.connected}/${a.vifs}`, `${b.connected}/${b.vifs}`, ''],
    row(`${name}: state 2 -> connected, median`, median(a.attachMs), median(b.attachMs)),
    row(`${name}: the same, slowest`, a.attachMs.at(-1) ?? Number.NaN, b.attachMs.at(-1) ?? Number.NaN),
    row(`${name}: first state 2 -> all connected`, a.wholeMs, b.wholeMs),
    row(`${name}: CPU seconds per attach`, a.cpuSecondsPerAttach, b.cpuSecondsPerAttach, (s) => s.toFixed(2)),
    row(`${name}: xl destroy returns after`, a.destroyMs, b.destroyMs),
    [`${name}: errors of libxl in xl destroy`, String(a.libxlErrors), String(b.libxlErrors), ''],
  ];
}
