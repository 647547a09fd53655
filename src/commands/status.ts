/** `vifd status`: all vifs as xenstore and the kernel show them, whether an agent runs or not. Changes nothing. */

import { setTimeout as sleep } from 'node:timers/promises';
import { surround, withConnections } from '../doctor/surroundings.js';
import { VifdError } from '../errors.js';
import type { Kernel } from '../network/kernel.js';
import { formatFamilies, upFamily, vifFamilies, withoutFamilies } from '../service/metrics-text.js';
import { askAgent } from '../service/status-socket-client.js';
import { asciiJson, widthOf } from '../text.js';
import { lookAtVifs } from '../vif/look.js';
import { formatStatus, reportStatus, type StatusReport } from '../vif/report.js';
import type { XenstoreClient } from '../xenstore/client.js';

export interface StatusOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly json?: boolean;
  readonly watch?: boolean;
  readonly prometheus?: boolean;
}

const REDRAW_MS = 2_000;

/** The exit code says whether any vif has failed. */
export async function status(options: StatusOptions): Promise<void> {
  await withConnections(options.xenstore, async (store, kernel) => {
    if (options.prometheus) return showMetrics(store, kernel, options);
    const healthy = await show(store, kernel, options);
    process.exitCode = healthy ? 0 : 1;
  });
}

/** Resolves with whether all was well when it was last shown. */
async function show(store: XenstoreClient, kernel: Kernel, options: StatusOptions): Promise<boolean> {
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

async function look(store: XenstoreClient, kernel: Kernel, { config }: StatusOptions): Promise<StatusReport> {
  const io = await surround(store, kernel, config);
  return reportStatus(io.around.programs, await lookAtVifs(io));
}

/** The vifs as they are seen from here; of the agent what only it knows. */
async function showMetrics(store: XenstoreClient, kernel: Kernel, options: StatusOptions): Promise<void> {
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

function print(report: StatusReport, { json, watch }: StatusOptions): void {
  if (json) return console.log(asciiJson(report));
  if (watch) process.stdout.write(process.stdout.isTTY ? '\x1b[H\x1b[2J' : '\n');
  console.log(formatStatus(report, widthOf(process.stdout)).join('\n'));
}
