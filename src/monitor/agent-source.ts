/** The agent's decisions: the records of its log, from the one that runs or the next. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Arrivals } from './arrivals.js';
import { isObject } from './entry.js';

const AGAIN_MS = 2_000;

export class AgentSource {
  /** Why there are none, as was said. */
  private missing = '';
  constructor(
    /** The lines of the log; throws where no agent can be asked. */
    private readonly follow: (signal: AbortSignal) => AsyncIterable<string>,
    private readonly arrivals: Arrivals,
    private readonly signal: AbortSignal,
    private readonly againMs = AGAIN_MS,
  ) {}

  /** Resolves when an agent is followed, or it has been said why none is. Goes on until the signal. */
  start(): Promise<void> {
    return new Promise((resolve) => void this.keepFollowing(resolve));
  }

  private async keepFollowing(settled: () => void): Promise<void> {
    while (!this.signal.aborted) {
      try {
        for await (const line of this.follow(this.signal)) {
          this.onLine(line);
          settled();
        }
        this.say('the agent has ended, or was stopped; they are shown when one runs again');
      } catch (error) {
        this.say((error as Error).message);
      }
      settled();
      await sleep(this.againMs, undefined, { signal: this.signal }).catch(() => undefined);
    }
  }

  private onLine(line: string): void {
    if (this.missing !== '') this.arrivals.warn("the agent's decisions are shown from here on");
    this.missing = '';
    const record = parseRecord(line);
    if (record !== undefined) this.arrivals.see({ source: 'vifd', record });
  }

  private say(why: string): void {
    if (this.signal.aborted || why === this.missing) return;
    this.arrivals.warn(`the agent's decisions are not shown: ${why}`);
    this.missing = why;
  }
}

function parseRecord(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const record: unknown = JSON.parse(line);
    return isObject(record) ? record : undefined;
  } catch {
    return undefined;
  }
}
