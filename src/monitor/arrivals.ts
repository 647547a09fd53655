/** Everything that a monitor sees comes through here: in order of arrival, by one clock. */
import { ConnectionError } from '../errors.js';
import type { Entry } from './entry.js';

/** Milliseconds since 1970, from a clock that nobody sets while the monitor runs. */
export const now = (): number => Math.round(performance.timeOrigin + performance.now());

export class Arrivals {
  private chain: Promise<void> = Promise.resolve();
  constructor(private readonly show: (at: number, entry: Entry) => void) {}

  /** It came now, and is shown after what came before it, however long the reading of that takes. */
  see(entry: Entry): void {
    const at = now();
    this.inTurn(() => this.show(at, entry));
  }

  /** Work that calls showNow() when what came before is shown. */
  inTurn(work: () => void | Promise<void>): void {
    this.chain = this.chain.then(work).catch((error) => {
      // A closed connection ends all that waits; the command reports it.
      if (!(error instanceof ConnectionError)) this.warn(`an event is not shown: ${(error as Error).message}`);
    });
  }

  /** Only from within inTurn(). */
  showNow(at: number, entry: Entry): void {
    this.show(at, entry);
  }

  /** The monitor's own words wait for nothing. */
  note(text: string): void {
    this.show(now(), { source: 'monitor', level: 'note', text });
  }

  warn(text: string): void {
    this.show(now(), { source: 'monitor', level: 'warn', text });
  }
}
