/** Samples to figures, and figures to the printed table. Pure. */
import type { AgentName } from './stage.js';

/** For one agent and one size of burst: per vif, and per burst the time until its last vif. */
export interface Samples {
  readonly each: number[];
  readonly last: number[];
}

export interface Case {
  readonly count: number;
  readonly samples: Record<AgentName, Samples>;
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1);
  const value = sorted[Math.max(at, 0)];
  if (value === undefined) throw new Error('no samples');
  return value;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

export interface Row {
  readonly label: string;
  readonly values: Record<AgentName, readonly number[]>;
  /** Of the medians. */
  readonly scriptToVifd: number;
  readonly vifdToFloor: number;
}

/** One row for a single vif; for a burst one for its vifs and one for its end. */
export function rows(cases: readonly Case[]): Row[] {
  return cases.flatMap(({ count, samples }) => {
    if (count === 1) return [row('1 vif', pick(samples, 'each'))];
    return [row(`${count} at once, each`, pick(samples, 'each')), row(`${count} at once, last`, pick(samples, 'last'))];
  });
}

const pick = (samples: Case['samples'], which: keyof Samples): Row['values'] => ({
  vifd: samples.vifd[which],
  'vif-bridge': samples['vif-bridge'][which],
  floor: samples.floor[which],
});

function row(label: string, values: Row['values']): Row {
  const vifd = median(values.vifd);
  return {
    label,
    values,
    scriptToVifd: median(values['vif-bridge']) / vifd,
    vifdToFloor: vifd / median(values.floor),
  };
}

/** Milliseconds, with as many digits as mean something. */
const ms = (value: number): string => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);

/** Below 100 samples there is no 99th percentile: the greatest, marked. */
function tail(values: readonly number[]): string {
  return values.length < 100 ? `${ms(Math.max(...values))}*` : ms(quantile(values, 0.99));
}

const summary = (values: readonly number[]): string[] => [ms(median(values)), tail(values), String(values.length)];

export function table(list: readonly Row[]): string {
  const head = ['ms, state 2 → connected', ...['vif-bridge', 'vifd', 'floor'].flatMap((name) => [name, 'p99', 'n'])];
  const lines = list.map(({ label, values, scriptToVifd, vifdToFloor }) => [
    label,
    ...summary(values['vif-bridge']),
    ...summary(values.vifd),
    ...summary(values.floor),
    `${scriptToVifd.toFixed(1)}x`,
    `${vifdToFloor.toFixed(2)}x`,
  ]);
  return align([[...head, 'vif-bridge/vifd', 'vifd/floor'], ...lines]);
}

/** The first column to the left, the others to the right. */
export function align(lines: readonly (readonly string[])[]): string {
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  return lines
    .map((line) =>
      line
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  '),
    )
    .join('\n');
}
