/** `vifd run`: the agent in the foreground, until SIGTERM or SIGINT. */
import { runAgent } from '../agent.js';
import { loadConfig } from '../config/load.js';
import { createLogger } from '../logger.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

export interface RunOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly logLevel: string;
}

export async function run(options: RunOptions): Promise<void> {
  const log = await createLogger(options.logLevel);
  const abort = new AbortController();
  // Not once(): execa's signal-exit ends the process by the signal when no other listener is left.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => abort.abort());
  const config = await loadConfig(options.config);
  try {
    await runAgent({ xenstore: options.xenstore, config, log, signal: abort.signal });
    log.info('stopped; the vifs stay as they are');
  } finally {
    endDespiteBlockedRead();
  }
}
