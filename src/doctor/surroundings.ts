/** EDGE: opens xenstore and the kernel for one look at all vifs: `status`, `explain` and `doctor` begin here. */
import { existsSync } from 'node:fs';
import { lookAtOwnNetwork } from '../binding/state.js';
import { isConnected, seenVif } from '../binding/vif-directory.js';
import { loadConfig, lookAtConfig } from '../config/load.js';
import { configOf, type WholeConfig } from '../config/schema.js';
import { ConnectionError, hasCode } from '../errors.js';
import { HostKernel } from '../network/host-kernel.js';
import { readStatistics } from '../network/statistics.js';
import { askAgent } from '../service/status-socket-client.js';
import type { LookIo } from '../vif/look.js';
import type { Program, Surroundings, VifSeen } from '../vif/seen.js';
import { connectXenstore, type XenstoreClient } from '../xenstore/client.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';
import type { OwnState } from './own-network.js';
import { findPrograms } from './programs.js';

/** Everything that is read once for all vifs; a vifd that only observes may be where there is no xenstore. */
export interface Around extends Omit<LookIo, 'store'> {
  readonly config: WholeConfig;
}

export async function surround(kernel: HostKernel, configFile?: string): Promise<Around> {
  const [programs, statistics, links] = await Promise.all([findPrograms(), readStatistics(), kernel.listLinks()]);
  const { config, configFault, judgedBy } = await configInForce(configFile, programs);
  if (configFault !== undefined) console.error(`vifd: judged by ${judgedBy}, for ${configFault}`);
  return { kernel, config, statistics, links, around: { programs, netback: netbackModule() } };
}

export interface InForce {
  readonly config: WholeConfig;
  readonly configFault?: string;
  readonly judgedBy?: string;
}

/**
 * The file that was named, else that of the agent that runs: what it was not asked for is not missing. Rejects with code
 * ECONFIG for a file that was named; else a fault is told, for the diagnosis is wanted when something is wrong.
 */
export async function configInForce(file: string | undefined, programs: readonly Program[]): Promise<InForce> {
  if (file !== undefined) return { config: (await lookAtConfig(file)).config };
  try {
    return { config: (await loadConfig(programs.find(({ config }) => config !== undefined)?.config)).config };
  } catch (error) {
    if (!hasCode(error, 'ECONFIG')) throw error;
    const values = await askValues();
    const judgedBy = values === undefined ? 'the defaults' : 'the configuration that vifd runs with';
    return { config: configOf(values ?? []), configFault: error.message, judgedBy };
  }
}

/** Undefined where no agent says. */
async function askValues(): Promise<Parameters<typeof configOf>[0] | undefined> {
  try {
    let text = '';
    for await (const line of askAgent('config')) text += line;
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function netbackModule(): Surroundings['netback'] {
  if (!existsSync('/sys/bus/xen-backend')) return 'no bus';
  return existsSync('/sys/bus/xen-backend/drivers/vif') ? 'loaded' : 'missing';
}

/** Runs `work` with open connections, and closes them whatever happens. */
export async function withConnections<T>(
  path: string | undefined,
  work: (store: XenstoreClient | ConnectionError, kernel: HostKernel) => Promise<T>,
): Promise<T> {
  const store = await connectXenstore(path).catch(unreachable);
  const kernel = new HostKernel();
  try {
    return await work(store, kernel);
  } finally {
    kernel.close();
    if (!(store instanceof ConnectionError)) await closeStore(store);
  }
}

/** A finding like any other, or the reason to end. */
export function unreachable(error: unknown): ConnectionError {
  if (error instanceof ConnectionError) return error;
  throw error;
}

/** Throws what is no connection. */
export function needStore(store: XenstoreClient | ConnectionError): XenstoreClient {
  if (store instanceof ConnectionError) throw store;
  return store;
}

/** Of [bridge] and [bind]. */
export function lookAtOwn(config: WholeConfig, kernel: HostKernel, vifs: readonly VifSeen[]): Promise<OwnState[]> {
  const connected = vifs.filter(({ live }) => live !== undefined && isConnected(live));
  const seen = connected.flatMap(({ backend }) => (backend === undefined ? [] : [seenVif(backend)]));
  return lookAtOwnNetwork(config, kernel, seen);
}

export async function closeStore(store: XenstoreClient): Promise<void> {
  await store.close().catch(endDespiteBlockedRead);
}
