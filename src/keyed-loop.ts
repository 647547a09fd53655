/**
 * Runs a function per key, now or later.
 *
 * INVARIANTS
 * - At most one run per key; different keys run side by side.
 * - A kick during a run causes exactly one more run, however many kicks.
 * - Of several delays for one key the shortest counts; a run makes all of them void.
 */
export class KeyedLoop<K extends string> {
  private readonly runs = new Map<K, { again: boolean; done: Promise<void> }>();
  private readonly timers = new Map<K, { timer: NodeJS.Timeout; due: number }>();
  private stopped = false;

  /**
   * `run` must not reject. It resolves with how many milliseconds a kick that came meanwhile may wait: a run that has put
   * everything right is kicked by its own changes.
   */
  constructor(private readonly run: (key: K) => Promise<number>) {}

  /** Resolves when no run of this key is under way or asked for any more. */
  kick(key: K): Promise<void> {
    if (this.stopped) return Promise.resolve();
    const present = this.runs.get(key);
    if (present !== undefined) {
      present.again = true;
      return present.done;
    }
    const state = { again: true, done: Promise.resolve() };
    this.runs.set(key, state);
    state.done = this.drain(key, state);
    return state.done;
  }

  kickLater(key: K, delayMs: number): void {
    const due = performance.now() + delayMs;
    const present = this.timers.get(key);
    if (this.stopped || (present !== undefined && present.due <= due)) return;
    clearTimeout(present?.timer);
    const fire = () => {
      this.timers.delete(key); // also when it only asks a run under way for one more: a later delay must count again
      void this.kick(key);
    };
    this.timers.set(key, { due, timer: setTimeout(fire, delayMs) });
  }

  /** No run starts any more; resolves when those under way have ended. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const { timer } of this.timers.values()) clearTimeout(timer);
    await Promise.all([...this.runs.values()].map(({ done }) => done));
  }

  private async drain(key: K, state: { again: boolean }): Promise<void> {
    let settleMs = 0;
    while (state.again && settleMs === 0 && !this.stopped) {
      state.again = false;
      clearTimeout(this.timers.get(key)?.timer);
      this.timers.delete(key);
      settleMs = await this.run(key);
    }
    this.runs.delete(key);
    if (state.again) this.kickLater(key, settleMs);
  }
}
