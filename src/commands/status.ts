/** `vifd status`: all vifs as xenstore and the kernel show them, whether an agent runs or not. Changes nothing. */

import { setTimeout as sleep } from 'node:timers/promises';
import { byOthers, formatObservers, formatOwnStates, type OwnState } from '../doctor/own-network.js';
import { lookAtOwn, needStore, surround, withConnections } from '../doctor/surroundings.js';
import { ConnectionError, VifdError } from '../errors.js';
import type { HostKernel } from '../network/host-kernel.js';
import { formatFamilies, upFamily, vifFamilies, withoutFamilies } from '../service/metrics-text.js';
import { askAgent } from '../service/status-socket-client.js';
import { asciiJson, widthOf, wrap } from '../text.js';
import { lookAtVifs } from '../vif/look.js';
import { formatStatus, reportStatus, type StatusReport } from '../vif/report.js';
import type { VifSeen } from '../vif/seen.js';
import type { XenstoreClient } from '../xenstore/client.js';

export interface StatusOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly json?: boolean;
  readonly watch?: boolean;
  readonly prometheus?: boolean;
}

/** What the vifs' report has, and how vifd stands to them. */
interface WholeStatus extends StatusReport {
  readonly mode: 'attach' | 'observe';
  /** Of [bridge] and [bind]. */
  readonly own: readonly OwnState[];
  /** A sentence for those that may not be listed. */
  readonly hidden: readonly string[];
}

type Store = XenstoreClient | ConnectionError;

const REDRAW_MS = 2_000;

/** The exit code says whether any vif has failed, or lacks something of [bridge] and [bind]. */
export async function status(options: StatusOptions): Promise<void> {
  await withConnections(options.xenstore, async (store, kernel) => {
    if (options.prometheus) return showMetrics(store, kernel, options);
    const healthy = await show(store, kernel, options);
    process.exitCode = healthy ? 0 : 1;
  });
}

/** Resolves with whether all was well when it was last shown. */
async function show(store: Store, kernel: HostKernel, options: StatusOptions): Promise<boolean> {
  const stop = new AbortController();
  if (options.watch) {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort());
    process.stdout.on('error', () => stop.abort()); // the reader of the pipe has gone
  }
  for (;;) {
    const report = await look(store, kernel, options);
    print(report, options);
    if (options.watch) await sleep(REDRAW_MS, undefined, { signal: stop.signal }).catch(() => undefined);
    if (!options.watch || stop.signal.aborted) return report.healthy;
  }
}

async function look(connection: Store, kernel: HostKernel, { config: file }: StatusOptions): Promise<WholeStatus> {
  const io = await surround(kernel, file);
  const { config, around } = io;
  const { mode } = config.agent;
  const isWithout = mode === 'observe' && connection instanceof ConnectionError;
  const hidden: string[] = [];
  const seen = isWithout ? [] : await lookAtVifs({ ...io, store: needStore(connection) }, (why) => hidden.push(why));
  const report = reportStatus(around.programs, seen);
  const own = await lookAtOwn(config, kernel, seen);
  const isWhole = own.every(({ state }) => state !== 'incomplete') && hidden.length === 0;
  if (mode === 'attach') return { ...report, mode, own, hidden, healthy: report.healthy && isWhole };
  const vifs = report.vifs.map((vif, i) => byOthers(seen[i] as VifSeen, vif));
  return { ...report, mode, own, hidden, vifs, healthy: isWhole && vifs.every(({ health }) => health !== 'failed') };
}

/** The vifs as they are seen from here; of the agent what only it knows. */
async function showMetrics(store: Store, kernel: HostKernel, options: StatusOptions): Promise<void> {
  const [{ vifs }, agent] = await Promise.all([look(store, kernel, options), askMetrics()]);
  const own = [upFamily(agent !== ''), ...vifFamilies(vifs)];
  const names = own.map(({ name }) => name);
  process.stdout.write(formatFamilies(own) + withoutFamilies(agent, names));
}

/** Empty when no agent answers. */
async function askMetrics(): Promise<string> {
  let text = '';
  try {
    for await (const line of askAgent('metrics')) text += `${line}\n`;
    return text;
  } catch (error) {
    if (!(error instanceof VifdError)) throw error;
    if (error.code !== 'ENOAGENT') console.error(`vifd: ${error.message}`);
    return '';
  }
}

function lines(report: WholeStatus, width: number): string[] {
  const [agents = '', ...vifs] = formatStatus(report, width);
  const first = report.mode === 'observe' ? wrap('', formatObservers(report.agents), width) : [agents];
  const hidden = report.hidden.flatMap((why) => wrap('', why, width));
  return [...first, ...vifs, ...hidden, ...formatOwnStates(report.own, width)];
}

function print(report: WholeStatus, { json, watch }: StatusOptions): void {
  if (json) return console.log(asciiJson(report));
  if (watch) process.stdout.write(process.stdout.isTTY ? '\x1b[H\x1b[2J' : '\n');
  console.log(lines(report, widthOf(process.stdout)).join('\n'));
}
