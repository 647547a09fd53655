/** How long a vif may wait for what must come, how often to look meanwhile, and how often to repair it. */

/** How long netback may take to the next sign of life before that is an error. */
const PATIENCE_MS = 2_000;
const FIRST_POLL_MS = 25;
const LAST_POLL_MS = 400;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 30_000;
/** After so long without a repair the next one is the first again. */
const QUIET_MS = 60_000;
const FIRST_REPAIR_MS = 200;
/** The periodic scan repairs as often anyway. */
export const LAST_REPAIR_MS = 20_000;
/** So many repairs, one soon after the other, are no coincidence: another program undoes them. */
const CONTESTED = 4;

/** Whether another program seems to undo what vifd repairs. */
export type Contest = 'none' | 'begins' | 'goes on';

export class Patience {
  private waiting: { readonly state: number; readonly since: number } | undefined;
  private pollMs = FIRST_POLL_MS;
  private retryMs = FIRST_RETRY_MS;
  private repairs = { inARow: 0, last: Number.NEGATIVE_INFINITY };

  /** Waits for the vif to leave this state: a new one gets new patience. */
  waitIn(state: number): void {
    if (this.waiting?.state !== state) this.waiting = { state, since: performance.now() };
  }

  /** Waits for a fault to pass; in the time that is left if it waits already. */
  waitOut(): void {
    this.waiting ??= { state: -1, since: performance.now() };
  }

  isOver(): boolean {
    return this.waiting !== undefined && performance.now() - this.waiting.since >= PATIENCE_MS;
  }

  /** There is nothing to wait for any more. */
  end(): void {
    this.waiting = undefined;
  }

  /** The vif has come to another phase: looks are frequent again. */
  restartDelays(): void {
    this.pollMs = FIRST_POLL_MS;
    this.retryMs = FIRST_RETRY_MS;
  }

  /** Milliseconds to the next look while it waits. */
  nextPoll(): number {
    const { pollMs } = this;
    this.pollMs = Math.min(2 * pollMs, LAST_POLL_MS);
    return pollMs;
  }

  /** Milliseconds to the next attempt after one that failed. */
  nextRetry(): number {
    const { retryMs } = this;
    this.retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
    return retryMs;
  }

  /** To be called once for each repair. */
  repaired(): Contest {
    const now = performance.now();
    const inARow = now - this.repairs.last < QUIET_MS ? this.repairs.inARow + 1 : 1;
    this.repairs = { inARow, last: now };
    if (inARow === CONTESTED) return 'begins';
    return inARow < CONTESTED ? 'none' : 'goes on';
  }

  /** Milliseconds until the interface is worth another look: twice as long after each repair, or two programs fight at full speed. */
  untilRepair(): number {
    const { inARow, last } = this.repairs;
    return last + Math.min(FIRST_REPAIR_MS * 2 ** (inARow - 1), LAST_REPAIR_MS) - performance.now();
  }
}
