/** `vifd run`: the agent in the foreground, until SIGTERM or SIGINT; SIGHUP makes it read its configuration again. */
import { runAgent } from '../agent.js';
import { LiveConfig } from '../config/live.js';
import { createLogger } from '../logger.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

export interface RunOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly logLevel: string;
}

/** `$VIFD_RUN_DIR`, which scripts/vif-vifd obeys, too; empty: scripts cannot ask. */
function requestsDir(): string | undefined {
  const dir = process.env.VIFD_RUN_DIR ?? '/run/vifd';
  return dir === '' ? undefined : dir;
}

export async function run(options: RunOptions): Promise<void> {
  const log = await createLogger(options.logLevel);
  const abort = new AbortController();
  // Not once(): execa's signal-exit ends the process by the signal when no other listener is left.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => abort.abort());
  const config = await LiveConfig.load(options.config, log);
  process.on('SIGHUP', () => void config.reload());
  try {
    await runAgent({ xenstore: options.xenstore, config, log, requestsDir: requestsDir(), signal: abort.signal });
    log.info('stopped; the vifs stay as they are');
  } finally {
    endDespiteBlockedRead();
  }
}
