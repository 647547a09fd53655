/** `vifd run`: the agent in the foreground, until SIGTERM or SIGINT; SIGHUP makes it read its configuration again. */
import { runAgent } from '../agent.js';
import { LiveConfig } from '../config/live.js';
import { createLogger, type LogFormat } from '../logger.js';
import { notifyFromEnvironment } from '../service/notify.js';
import { Pidfile } from '../service/pidfile.js';
import { ServiceReport } from '../service/report.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

export interface RunOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly logLevel: string;
  readonly logFormat: LogFormat;
  readonly pidfile?: string;
}

export async function run(options: RunOptions): Promise<void> {
  const log = await createLogger(options.logLevel, options.logFormat);
  const abort = new AbortController();
  // Not once(): execa's signal-exit ends the process by the signal when no other listener is left.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => abort.abort());
  const config = await LiveConfig.load(options.config, log);
  process.on('SIGHUP', () => void config.reload());
  const notify = notifyFromEnvironment(log);
  const service = notify === undefined ? undefined : new ServiceReport(notify);
  const pidfile = options.pidfile === undefined ? undefined : await Pidfile.take(options.pidfile);
  try {
    await runAgent({ xenstore: options.xenstore, config, log, signal: abort.signal, service });
    log.info('stopped; the vifs stay as they are');
  } finally {
    await pidfile?.release();
    endDespiteBlockedRead();
  }
}
