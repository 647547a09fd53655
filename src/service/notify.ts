/**
 * EDGE: tells systemd how the service is (sd_notify(3)), through the program systemd-notify, since Node has no unix datagram
 * sockets. It waits until systemd has read the message, so with NotifyAccess=all none is lost.
 */
import { spawn } from 'node:child_process';
import type { Logger } from 'pino';

export interface Notify {
  /** Milliseconds within which systemd wants to hear `watchdog`; undefined: it does not ask. */
  readonly watchdogMs: number | undefined;
  /** Assignments such as `READY=1` and `STATUS=...`; never rejects. */
  send(...assignments: string[]): Promise<void>;
}

/** Undefined unless a service manager asks to be told. */
export function notifyFromEnvironment(log: Logger, env = process.env): Notify | undefined {
  if (env.NOTIFY_SOCKET === undefined) return undefined;
  let complained = false;
  const send = (...assignments: string[]) =>
    new Promise<void>((resolve) => {
      // Not by execa: loaded for the whole life of the agent it costs 5 MiB.
      const child = spawn('systemd-notify', assignments, { stdio: 'ignore' });
      const ended = (fault: string | undefined) => {
        if (fault !== undefined && !complained)
          log.warn(`systemd cannot be told ${assignments[0]} (systemd-notify: ${fault}); it may end vifd for silence`);
        complained = fault !== undefined;
        resolve();
      };
      child.once('error', (error) => ended(error.message));
      child.once('exit', (code, signal) => ended(code === 0 ? undefined : (signal ?? `exit code ${code}`)));
    });
  return { watchdogMs: watchdogOf(env), send };
}

/** WATCHDOG_USEC, if it is meant for this process (sd_watchdog_enabled(3)). */
function watchdogOf({ WATCHDOG_USEC: usec, WATCHDOG_PID: pid }: NodeJS.ProcessEnv): number | undefined {
  if (usec === undefined || !/^[1-9][0-9]{0,15}$/.test(usec)) return undefined;
  return pid === undefined || pid === String(process.pid) ? Number(usec) / 1000 : undefined;
}
