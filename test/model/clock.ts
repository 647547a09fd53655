/** Virtual time for everything in this process: nothing is ever waited for. */
import { vi } from 'vitest';

/** Far from any number that is no time, so that times can be told from others in a fingerprint. */
export const EPOCH_MS = 1e9;
const realImmediate = setImmediate;

export const Clock = {
  start(): void {
    Error.stackTraceLimit = 0; // a refusal is no rare thing here
    vi.useFakeTimers({
      toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance', 'Date'],
    });
    Clock.clear();
  },
  stop(): void {
    Error.stackTraceLimit = 10;
    vi.useRealTimers();
  },
  clear(): void {
    vi.clearAllTimers(); // which sets the time back as well
    vi.advanceTimersByTime(EPOCH_MS);
  },
  now: (): number => performance.now(),
  /** To the next timer, whosever it is. */
  async next(): Promise<void> {
    vi.advanceTimersToNextTimer();
    await Clock.settle();
  },
  /** A time at which something may be looked at anew. */
  alarm(ms: number): void {
    setTimeout(() => undefined, ms);
  },
  /** All that follows without waiting has happened. */
  settle: (): Promise<void> => new Promise((resolve) => realImmediate(resolve)),
};
