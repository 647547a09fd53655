/**
 * EDGE: tells systemd how the service is (sd_notify(3)), through the program systemd-notify, since Node has no unix datagram
 * sockets. It waits until systemd has read the message, so with NotifyAccess=all none is lost.
 */
import type { Logger } from 'pino';
import { Child, type Ended } from '../child.js';

export interface Notify {
  /** Milliseconds within which systemd wants to hear `watchdog`; undefined: it does not ask. */
  readonly watchdogMs: number | undefined;
  /** Assignments such as `READY=1` and `STATUS=...`; never rejects. */
  send(...assignments: string[]): Promise<void>;
}

/** It waits for systemd; and vifd's end must not wait for it. */
const MAX_MS = 10_000;
const END_MAX_MS = 500;

const faultOf = ({ code, signal, isLate }: Ended): string | undefined =>
  code === 0 ? undefined : isLate ? 'it does not end' : (signal ?? `exit code ${code}`);

/** Undefined unless a service manager asks to be told. */
export function notifyFromEnvironment(log: Logger, env = process.env): Notify | undefined {
  if (env.NOTIFY_SOCKET === undefined) return undefined;
  let complained = false;
  const send = async (...assignments: string[]) => {
    const limitMs = assignments[0] === 'STOPPING=1' ? END_MAX_MS : MAX_MS;
    const fault = await new Child('systemd-notify', assignments).work('', limitMs).then(faultOf, ({ code }) => code);
    if (fault !== undefined && !complained)
      log.warn(`systemd cannot be told ${assignments[0]} (systemd-notify: ${fault}); it may end vifd for silence`);
    complained = fault !== undefined;
  };
  return { watchdogMs: watchdogOf(env), send };
}

/** WATCHDOG_USEC, if it is meant for this process (sd_watchdog_enabled(3)). */
function watchdogOf({ WATCHDOG_USEC: usec, WATCHDOG_PID: pid }: NodeJS.ProcessEnv): number | undefined {
  if (usec === undefined || !/^[1-9][0-9]{0,15}$/.test(usec)) return undefined;
  return pid === undefined || pid === String(process.pid) ? Number(usec) / 1000 : undefined;
}
