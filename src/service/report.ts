/**
 * Keeps the service manager informed: ready after the first scan, counts when they change, and a sign of life that is one:
 * it is sent only after xenstore and the kernel have both answered.
 */
import type { Logger } from 'pino';
import { ConnectionError } from '../errors.js';
import type { Phase } from '../vif/vif.js';
import type { Notify } from './notify.js';

/** A session that has done its first scan. */
export interface Working {
  /** Undefined: vifs are not its matter. */
  counts(): Record<Phase, number> | undefined;
  /** One round trip each to xenstore and to the kernel. Rejects when one of them does not answer. */
  prove(): Promise<unknown>;
}

/** Changes come in bursts, and each message is a process. */
const TELL_AFTER_MS = 2_000;

/** INVARIANT: where nothing changes it wakes for the watchdog only. */
export class ServiceReport {
  private working: Working | undefined;
  private said = '';
  private begun = false;
  private feeding: NodeJS.Timeout | undefined;
  private telling: NodeJS.Timeout | undefined;
  private proving = false;
  /** Why there is no sign of life, as the log has it. */
  private silence = '';
  constructor(
    private readonly notify: Notify,
    private readonly log: Logger,
  ) {}

  /** Resolves when the service manager knows. */
  async begin(working: Working): Promise<void> {
    this.working = working;
    this.begun = true;
    const { watchdogMs } = this.notify;
    if (watchdogMs !== undefined) this.feeding ??= setInterval(() => void this.feed(), watchdogMs / 3);
    this.said = describe(working.counts());
    await this.notify.send('READY=1', `STATUS=${this.said}`);
  }

  /** The counts may have changed. */
  changed(): void {
    this.telling ??= setTimeout(() => this.tell(), TELL_AFTER_MS);
  }

  /** The connection to xenstore is lost: from now on there is no sign of life. */
  pause(why: string): void {
    this.working = undefined;
    this.said = why;
    void this.notify.send(`STATUS=${why}`);
  }

  async end(): Promise<void> {
    this.working = undefined;
    clearInterval(this.feeding);
    clearTimeout(this.telling);
    if (this.begun) await this.notify.send('STOPPING=1');
  }

  /** If they have. */
  tell(): void {
    clearTimeout(this.telling);
    this.telling = undefined;
    if (this.working === undefined) return;
    const text = describe(this.working.counts());
    if (text === this.said) return;
    this.said = text;
    void this.notify.send(`STATUS=${text}`);
  }

  private saySilence({ message }: Error): void {
    if (this.working === undefined || message === this.silence) return;
    this.silence = message;
    const seconds = (this.notify.watchdogMs ?? 0) / 1000;
    this.log.warn(`systemd gets no sign of life, and ends and restarts vifd when that lasts ${seconds} s: ${message}`);
  }

  private async feed(): Promise<void> {
    if (this.working === undefined || this.proving) return; // an answer is overdue: no sign of life until it comes
    this.proving = true;
    try {
      await this.working.prove();
      this.silence = '';
      await this.notify.send('WATCHDOG=1');
    } catch (error) {
      // A connection that was lost, or closed at the end, is the session's to tell of.
      if (!(error instanceof ConnectionError)) this.saySilence(error as Error);
    } finally {
      this.proving = false;
    }
  }
}

/** `3 vifs connected, 1 failed`. */
export function describe(counts: Record<Phase, number> | undefined): string {
  return counts === undefined ? 'observing; vifs are attached by others' : describeCounts(counts);
}

function describeCounts({ connected, failed, waiting, leaving, new: fresh }: Record<Phase, number>): string {
  const others = [
    [failed, 'failed'],
    [waiting + fresh, 'waiting'],
    [leaving, 'leaving'],
  ].flatMap(([count, word]) => (count === 0 ? [] : [`${count} ${word}`]));
  return [`${connected} vifs connected`, ...others].join(', ');
}
