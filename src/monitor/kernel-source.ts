/** The kernel's part of the time line. */
import { KernelEvents, type KernelSource as Source } from '../network/kernel-events.js';
import type { Arrivals } from './arrivals.js';
import { linkSeen } from './entry.js';

const NAMES: Readonly<Record<Source, string>> = { link: 'link changes', uevent: "the kernel's uevents" };

export class KernelSource {
  private readonly events: KernelEvents;
  /** Why, as was said. */
  private readonly missing = new Map<Source, string>();
  /** Of which it is not known yet whether they can be heard. */
  private readonly waiting: Set<Source>;
  private settle: () => void = () => undefined;
  private readonly settled = new Promise<void>((resolve) => {
    this.settle = resolve;
  });
  constructor(
    sources: readonly Source[],
    command: readonly [string, ...string[]],
    private readonly arrivals: Arrivals,
  ) {
    this.waiting = new Set(sources);
    this.events = new KernelEvents(sources, command, {
      onLink: (change, link) => arrivals.see({ source: 'link', change, link: linkSeen(link) }),
      onUevent: (event) => arrivals.see({ source: 'uevent', ...event }),
      onListening: (source) => this.onListening(source),
      onMissing: (missing, why) => this.onMissing(missing, why),
    });
  }

  /** Resolves when nothing is missed from here on, or what is missed has been said. */
  async start(): Promise<void> {
    this.events.start();
    await this.settled;
  }

  stop(): void {
    this.events.stop();
  }

  private onMissing(sources: readonly Source[], why: string): void {
    const news = sources.filter((source) => this.missing.get(source) !== why);
    for (const source of news) this.missing.set(source, why);
    if (news.length > 0) this.arrivals.warn(`${news.map((one) => NAMES[one]).join(' and ')} are not shown: ${why}`);
    this.known(...sources);
  }

  private onListening(source: Source): void {
    if (this.missing.delete(source)) this.arrivals.warn(`${NAMES[source]} are shown again; some may have been missed`);
    this.known(source);
  }

  private known(...sources: Source[]): void {
    for (const source of sources) this.waiting.delete(source);
    if (this.waiting.size === 0) this.settle();
  }
}
