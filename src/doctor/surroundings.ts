/** EDGE: opens xenstore and the kernel for one look at all vifs: `status`, `explain` and `doctor` begin here. */
import { existsSync } from 'node:fs';
import { loadConfig } from '../config/load.js';
import { type Config, DEFAULTS } from '../config/schema.js';
import { hasCode } from '../errors.js';
import { Kernel } from '../network/kernel.js';
import { readStatistics } from '../network/statistics.js';
import type { LookIo } from '../vif/look.js';
import type { Program, Surroundings } from '../vif/seen.js';
import { connectXenstore, type XenstoreClient } from '../xenstore/client.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';
import { findPrograms } from './processes.js';

/** Everything that is read once for all vifs. */
export async function surround(store: XenstoreClient, kernel: Kernel, configFile?: string): Promise<LookIo> {
  const [programs, statistics, links] = await Promise.all([findPrograms(), readStatistics(), kernel.listLinks()]);
  const { config, configFault } = await configInForce(configFile, programs);
  if (configFault !== undefined) console.error(`vifd: judged by the defaults, for ${configFault}`);
  return { store, kernel, config, statistics, links, around: { programs, netback: netbackModule() } };
}

/**
 * The file that was named, else that of the agent that runs: what it was not asked for is not missing. Rejects with code
 * ECONFIG for a file that was named; else a fault is told, for the diagnosis is wanted when something is wrong.
 */
export async function configInForce(
  file: string | undefined,
  programs: readonly Program[],
): Promise<{ config: Config; configFault?: string }> {
  if (file !== undefined) return { config: (await loadConfig(file)).config };
  try {
    return { config: (await loadConfig(programs.find(({ config }) => config !== undefined)?.config)).config };
  } catch (error) {
    if (!hasCode(error, 'ECONFIG')) throw error;
    return { config: DEFAULTS, configFault: error.message };
  }
}

export function netbackModule(): Surroundings['netback'] {
  if (!existsSync('/sys/bus/xen-backend')) return 'no bus';
  return existsSync('/sys/bus/xen-backend/drivers/vif') ? 'loaded' : 'missing';
}

/** Runs `work` with open connections, and closes them whatever happens. */
export async function withConnections<T>(
  path: string | undefined,
  work: (store: XenstoreClient, kernel: Kernel) => Promise<T>,
): Promise<T> {
  const store = await connectXenstore(path);
  const kernel = new Kernel();
  try {
    return await work(store, kernel);
  } finally {
    kernel.close();
    await closeStore(store);
  }
}

export async function closeStore(store: XenstoreClient): Promise<void> {
  await store.close().catch(endDespiteBlockedRead);
}
