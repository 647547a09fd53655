/** EDGE: opens xenstore and the kernel for one look at all vifs: `status`, `explain` and `doctor` begin here. */
import { existsSync } from 'node:fs';
import { loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
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
  const config = await configInForce(configFile, programs);
  return { store, kernel, config, statistics, links, around: { programs, netback: netbackModule() } };
}

/** The file that was named, else that of the agent that runs: what it was not asked for is not missing. Rejects with ConfigError. */
export async function configInForce(file: string | undefined, programs: readonly Program[]): Promise<Config> {
  return (await loadConfig(file ?? programs.find(({ config }) => config !== undefined)?.config)).config;
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
