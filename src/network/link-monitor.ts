/**
 * EDGE: tells the names of interfaces that appear, change or go. By a child, `ip -o monitor link`, because node-netlink
 * takes the whole process down when link events come faster than they are read; this child can only die alone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Logger } from 'pino';
import { printable } from '../errors.js';

const FIRST_RESTART_MS = 200;
const LAST_RESTART_MS = 30_000;
/** By then a child has opened its socket; what happened before that it has not told. */
const LISTENS_AFTER_MS = 300;
/** A child that lived so long was not broken from the start. */
const HEALTHY_MS = 5_000;

export interface LinkListener {
  onLink(ifname: string): void;
  /** Events may have been missed: a child has started, and again when it listens for sure. */
  onGap(): void;
}

export class LinkMonitor {
  private child: ChildProcess | undefined;
  private timer: NodeJS.Timeout | undefined;
  private restartMs = FIRST_RESTART_MS;
  private stopped = false;
  constructor(
    private readonly listener: LinkListener,
    private readonly log: Logger,
  ) {}

  start(): void {
    const startedAt = performance.now();
    // Not by execa: loaded for the whole life of the agent it costs 5 MiB.
    const child = spawn('ip', ['-o', 'monitor', 'link'], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child = child;
    let said = '';
    createInterface({ input: child.stderr }).on('line', (line) => {
      said = line;
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      const ifname = parseMonitorLine(line);
      if (ifname !== undefined) this.listener.onLink(ifname);
    });
    this.listener.onGap();
    this.timer = setTimeout(() => this.listener.onGap(), LISTENS_AFTER_MS);
    const ended = (why: string) => this.ended(why, performance.now() - startedAt);
    child.once('error', (error) => ended(error.message)); // then there is no close
    child.once('close', (code, signal) =>
      ended(`${signal ?? `exit code ${code}`}${said === '' ? '' : `, ${printable(said)}`}`),
    );
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.child?.kill('SIGTERM');
  }

  private ended(why: string, livedMs: number): void {
    if (this.stopped) return;
    clearTimeout(this.timer);
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

/** The interface's name in a line such as `Deleted 7: vif5.0@if6: <BROADCAST> mtu 1500 ...`. */
export function parseMonitorLine(line: string): string | undefined {
  return /^(?:Deleted )?[0-9]+: ([^\s:@]+)[@:]/.exec(line)?.[1];
}
