/**
 * The admin's script for one vif. It runs beside the looks at the vif, which only start it and ask what came of it: so a script
 * that hangs holds up nothing, and a vif that leaves meanwhile leaves.
 *
 * INVARIANTS
 * - `online` once for each attach, but again, ever later, while it fails; `offline` once for each end.
 * - An `online` that still runs is killed before `offline` begins; in one place nothing begins before all else has ended,
 *   whichever vifs of that place there were meanwhile.
 */
import { hasCode } from '../errors.js';
import type { Programs, Run } from '../network/hotplug-script.js';
import { type Attachment, modeText, type ScriptCall, sameScript } from './attachment.js';
import type { VifLog } from './vif-log.js';

type Command = 'online' | 'offline';

/** dom0 gives a removal 10 s. */
const OFFLINE_MAX_MS = 8_000;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;

export class UserScript {
  private current: { readonly command: Command; readonly run: Run; state: 'running' | 'done' } | undefined;
  private failed: { readonly error: unknown; readonly until: number } | undefined;
  private retryMs = FIRST_RETRY_MS;
  private isSettled = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly programs: Programs,
    private readonly log: VifLog,
    /** Has the vif looked at. */
    private readonly wake: () => void,
  ) {}

  /** Its word on the vif is still to come, or has not been passed on yet. */
  get isActive(): boolean {
    return this.current !== undefined || this.failed !== undefined;
  }

  get isRunning(): boolean {
    return this.current?.state === 'running';
  }

  /**
   * What is wanted of a vif that is connected as `now` says: what a script has brought online only that takes offline again, and
   * it finds no vif that another mode has had meanwhile.
   */
  asPlugged(asked: Attachment, now: Attachment | undefined): Attachment {
    if (now === undefined || sameScript(asked, now)) return asked;
    const change = `though the configuration says ${modeText(asked)} now`;
    this.log.warn(`its mode is ${modeText(now)} until it is plugged again, ${change}`);
    return now;
  }

  /** Whether the vif is online by it; starts it, and wakes the vif at its end. Throws AttachError when it has failed. */
  isOnline(want: Attachment, fresh: boolean): boolean {
    if (want.mode !== 'script' || this.isSettled || !(fresh || this.isActive)) return true;
    if (this.failed !== undefined && performance.now() < this.failed.until) throw this.failed.error;
    if (this.current === undefined) this.start('online', want.script);
    return this.current?.state === 'done';
  }

  /** `connected` is written: whatever error of vifd's own takes its place later, the script has done its part. */
  settle(): void {
    this.clear();
    this.isSettled = true;
  }

  private clear(): void {
    this.isSettled = false;
    clearTimeout(this.timer);
    this.current = undefined;
    this.failed = undefined;
    this.retryMs = FIRST_RETRY_MS;
  }

  /** Whether there is nothing to wait for any more; starts it, and wakes the vif at its end. */
  isOffline(want: Attachment | undefined): boolean {
    if (want?.mode !== 'script') return true;
    if (this.current?.command !== 'offline') {
      this.stop();
      this.start('offline', { ...want.script, timeoutMs: Math.min(want.script.timeoutMs, OFFLINE_MAX_MS) });
    }
    return this.current?.state === 'done';
  }

  /** dom0 wants the vif after all. */
  stay(): void {
    if (this.current?.command === 'offline') this.stop();
  }

  /** Nobody waits for it any more. */
  stop(): void {
    this.current?.run.kill();
    this.clear();
  }

  private start(command: Command, { args, ...call }: ScriptCall): void {
    const program = { ...call, args: [command, ...args], place: call.env.XENBUS_PATH };
    const run = this.programs.run(program, (line) => this.log.info(`${call.name} ${command}: ${line}`));
    const current = { command, run, state: 'running' as 'running' | 'done' };
    this.current = current;
    run.ended
      .catch((error) => this.current === current && this.fail(command, error))
      .finally(() => {
        current.state = 'done';
        if (this.current === current || this.failed !== undefined) this.wake();
      });
  }

  /** That of `offline` changes nothing, as with libxl. */
  private fail(command: Command, error: Error): void {
    if (command === 'offline') {
      if (!hasCode(error, 'ECANCELED')) this.log.warn(`offline: ${error.message}`);
      return;
    }
    this.current = undefined;
    this.failed = { error, until: performance.now() + this.retryMs };
    this.timer = setTimeout(this.wake, this.retryMs + 1);
    this.timer.unref(); // vifd may end before
    this.retryMs = Math.min(2 * this.retryMs, LAST_RETRY_MS);
  }
}
