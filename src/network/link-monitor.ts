/**
 * EDGE: tells the names of interfaces that appear, change or go. By a child, `ip -o monitor link`, because node-netlink
 * takes the whole process down when link events come faster than they are read; this child can only die alone.
 */
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import type { Logger } from 'pino';

const FIRST_RESTART_MS = 200;
const LAST_RESTART_MS = 30_000;
/** A child that lived so long was not broken from the start. */
const HEALTHY_MS = 5_000;

export interface LinkListener {
  onLink(ifname: string): void;
  /** The child started or started anew: events before that were missed. */
  onGap(): void;
}

export class LinkMonitor {
  private child: ReturnType<typeof startChild> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private restartMs = FIRST_RESTART_MS;
  private stopped = false;
  constructor(
    private readonly listener: LinkListener,
    private readonly log: Logger,
  ) {}

  start(): void {
    const startedAt = performance.now();
    const child = startChild();
    this.child = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      const ifname = parseMonitorLine(line);
      if (ifname !== undefined) this.listener.onLink(ifname);
    });
    this.listener.onGap();
    void child.then((result) => this.ended(result.shortMessage ?? 'it ended', performance.now() - startedAt));
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.child?.kill('SIGTERM');
  }

  private ended(why: string, livedMs: number): void {
    if (this.stopped) return;
    if (livedMs >= HEALTHY_MS) this.restartMs = FIRST_RESTART_MS;
    if (this.restartMs === FIRST_RESTART_MS) {
      this.log.warn(
        `cannot follow link changes ("ip -o monitor link": ${why}); repairs wait for the periodic look until it runs again. Is iproute2 installed?`,
      );
    }
    this.timer = setTimeout(() => this.start(), this.restartMs);
    this.restartMs = Math.min(2 * this.restartMs, LAST_RESTART_MS);
  }
}

const startChild = () =>
  execa('ip', ['-o', 'monitor', 'link'], { buffer: false, stdin: 'ignore', stderr: 'ignore', reject: false });

/** The interface's name in a line such as `Deleted 7: vif5.0@if6: <BROADCAST> mtu 1500 ...`. */
export function parseMonitorLine(line: string): string | undefined {
  return /^(?:Deleted )?[0-9]+: ([^\s:@]+)[@:]/.exec(line)?.[1];
}
