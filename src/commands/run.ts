/** `vifd run`: the agent in the foreground, until SIGTERM or SIGINT; SIGHUP makes it read its configuration again. */
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { runAgent } from '../agent.js';
import { LiveConfig } from '../config/live.js';
import { findPrograms } from '../doctor/programs.js';
import { hasCode, VifdError } from '../errors.js';
import { createLogger, type LogFormat } from '../logger.js';
import { runObserver } from '../observer.js';
import { Metrics } from '../service/metrics.js';
import { MetricsFile } from '../service/metrics-file.js';
import { notifyFromEnvironment } from '../service/notify.js';
import { Pidfile } from '../service/pidfile.js';
import { ServiceReport } from '../service/report.js';
import { runDirectory } from '../service/run-directory.js';
import { StatusSocket } from '../service/status-socket.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

export interface RunOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly logLevel: string;
  readonly logFormat: LogFormat;
  readonly pidfile?: string;
  readonly metricsFile?: string;
}

export async function run(options: RunOptions, version: string): Promise<void> {
  const { log, follow } = await createLogger(options.logLevel, options.logFormat);
  const abort = new AbortController();
  // Not once(): execa's signal-exit ends the process by the signal when no other listener is left.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => abort.abort());
  const config = await LiveConfig.load(options.config, log);
  process.on('SIGHUP', () => void config.reload());
  const notify = notifyFromEnvironment(log);
  const service = notify === undefined ? undefined : new ServiceReport(notify, log);
  const pidfile = options.pidfile === undefined ? undefined : await takePidfile(options.pidfile, log);
  const dir = runDirectory();
  const metrics = new Metrics(version);
  let file: MetricsFile | undefined;
  let socket: StatusSocket | undefined;
  try {
    await refuseSecond(log);
    if (options.metricsFile !== undefined) file = MetricsFile.begin(options.metricsFile, metrics, log);
    if (dir !== undefined)
      socket = await StatusSocket.open({
        dir,
        log,
        follow,
        metrics: () => metrics.text(),
        config: () => config.values,
      });
    const work = config.current.agent.mode === 'observe' ? runObserver : runAgent;
    await work({
      xenstore: options.xenstore,
      config,
      log,
      metrics,
      runDir: dir,
      signal: abort.signal,
      service,
    });
    log.info('stopped; the vifs stay as they are');
  } finally {
    metrics.end();
    await file?.close();
    await socket?.close();
    await pidfile?.release();
    endDespiteBlockedRead();
  }
}

/** That there can be none must not keep guests from their network. */
async function takePidfile(path: string, log: Logger): Promise<Pidfile | undefined> {
  return Pidfile.take(path).catch((error: Error) => {
    if (!hasCode(error, 'ENOPIDFILE')) throw error;
    log.warn(`${error.message}; vifd works without it`);
    return undefined;
  });
}

/** Two agents would undo each other's work for ever. One that is just ending is given the time for it. */
async function refuseSecond(log: Logger): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const programs = await findPrograms();
    for (const { pid } of programs.filter(({ command }) => command === 'xl devd' && attempt === 0))
      log.warn(`xl devd (pid ${pid}) runs here too and runs its script for the same vifs; end it, or see the README`);
    const others = programs.filter(({ command, pid }) => command === 'vifd run' && pid !== process.pid && isOurs(pid));
    const [other] = others;
    if (other === undefined) return;
    if (attempt === 10) throw new VifdError('EALREADY', `vifd runs here already (pid ${other.pid}); one is enough`);
    await sleep(100);
  }
}

/** Root's or the same user's: nobody else may keep vifd from starting. */
function isOurs(pid: number): boolean {
  const uid = statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid;
  return uid === 0 || uid === process.getuid?.();
}
