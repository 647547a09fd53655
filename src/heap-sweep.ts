/**
 * V8 lets the heap grow for as long as there is work, and looks through all of it only long after. In a small domain the
 * memory is worth more than the 10 ms that this takes.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** After the last change: a vif that comes just then waits for it. */
const AFTER_MS = 2_000;
/** After the first one, where there is no end to them. */
const LATEST_MS = 20_000;
/** V8 gives nothing of that back while more than 1 kB a ms has been made for the last 5 s. */
const QUIET_MS = 6_000;
/** Since the last sweep; what the periodic scan leaves is mostly less. */
const GROWN_BYTES = 1 << 20;

/**
 * The flavour also gives back what new objects were made in. Node 20 does not know it, and does less when it is asked for;
 * without it Node 22 and 24 take 4 MiB more instead of less.
 */
const COLLECT =
  Number.parseInt(process.versions.v8, 10) < 12
    ? 'gc()'
    : "gc({ type: 'major', execution: 'sync', flavor: 'last-resort' })";

/** INVARIANT: without work there is no timer, so it never wakes an agent that rests. */
export class HeapSweep {
  private timer: NodeJS.Timeout | undefined;
  private workedAt = Number.NEGATIVE_INFINITY;
  private dueAt = 0;
  private settled = false;
  private leftBytes = 0;

  worked(): void {
    this.workedAt = performance.now();
    this.settled = false;
    if (this.timer === undefined) this.dueAt = this.workedAt + LATEST_MS;
    this.timer ??= this.sweepIn(AFTER_MS);
  }

  private sweepIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      const leftMs = Math.min(this.workedAt + AFTER_MS, this.dueAt) - performance.now();
      if (leftMs > 0) this.timer = this.sweepIn(leftMs);
      else this.sweep();
    }, ms).unref();
  }

  /**
   * Sweeps with a scan, where a timer would wake the agent. Twice: each time V8 gives back one half of what it makes new
   * objects in.
   */
  scanned(): void {
    if (performance.now() - this.workedAt < QUIET_MS) return;
    if (this.settled && getHeapStatistics().used_heap_size < this.leftBytes + GROWN_BYTES) return;
    this.sweep();
    this.sweep();
    this.settled = true;
  }

  private sweep(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    try {
      setFlagsFromString('--expose-gc'); // Node has no other way to ask for it
      setFlagsFromString('--compact-on-every-full-gc');
      runInNewContext(COLLECT);
    } catch {
      // another V8 may not know it, and does without
    }
    this.leftBytes = getHeapStatistics().used_heap_size;
  }
}
