/** When to start something again that has ended: ever later, until it has lived long enough. */

const FIRST_MS = 200;
const LAST_MS = 30_000;
/** One that lived so long was not broken from the start. */
const HEALTHY_MS = 5_000;

export class Restarts {
  private nextMs = FIRST_MS;
  private startedAt: number | undefined;

  started(): void {
    this.startedAt = performance.now();
  }

  /** It has ended, or could not be started. The first of a row is worth a word. */
  next(): { readonly afterMs: number; readonly isFirst: boolean } {
    if (this.startedAt !== undefined && performance.now() - this.startedAt >= HEALTHY_MS) this.nextMs = FIRST_MS;
    this.startedAt = undefined;
    const afterMs = this.nextMs;
    this.nextMs = Math.min(2 * afterMs, LAST_MS);
    return { afterMs, isFirst: afterMs === FIRST_MS };
  }
}
