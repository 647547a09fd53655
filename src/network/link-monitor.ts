/**
 * EDGE: tells the names of interfaces that appear, change or go. By a child, `ip -o monitor link`, because node-netlink
 * takes the whole process down when link events come faster than they are read; this child can only die alone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Logger } from 'pino';
import { printable } from '../errors.js';
import { Restarts } from '../restarts.js';

/** Nothing tells when the child listens; on a slow host, that long after its start at the latest. */
const LISTENING_MS = 300;

export interface LinkListener {
  onLink(ifname: string): void;
  /** Events may have been missed: comes when the child starts, and again when it listens for certain. */
  onGap(): void;
}

export class LinkMonitor {
  private child: ChildProcess | undefined;
  private listening: NodeJS.Timeout | undefined;
  private restart: NodeJS.Timeout | undefined;
  private readonly restarts = new Restarts();
  private stopped = false;
  constructor(
    private readonly listener: LinkListener,
    private readonly log: Logger,
  ) {}

  /** Never throws: spawn() does, for some errors, such as ENOMEM. */
  start(): void {
    try {
      // Not by execa: loaded for the whole life of the agent it costs 5 MiB.
      this.child = spawn('ip', ['-o', 'monitor', 'link'], { stdio: ['ignore', 'pipe', 'pipe'] });
    } catch (error) {
      return this.ended((error as Error).message);
    }
    this.follow(this.child);
  }

  private follow(child: ChildProcess): void {
    this.restarts.started();
    let lastWords = '';
    onLines(child.stdout, (line) => this.onLine(line));
    onLines(child.stderr, (line) => {
      lastWords = line.trim() || lastWords;
      this.listener.onGap(); // such as "No buffer space available", after which it goes on
    });
    this.listener.onGap();
    this.listening = setTimeout(() => this.listener.onGap(), LISTENING_MS);
    let failure: Error | undefined;
    child.on('error', (error) => {
      failure = error;
    });
    // Not 'exit': what the child said last may still be in the pipe then.
    child.once('close', (code, signal) => {
      const why = failure?.message ?? signal ?? `exit code ${code}`;
      this.ended(lastWords === '' ? why : `${why}, ${printable(lastWords)}`);
    });
  }

  private onLine(line: string): void {
    for (const ifname of parseMonitorLine(line)) this.listener.onLink(ifname);
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.listening);
    clearTimeout(this.restart);
    this.child?.kill('SIGTERM');
  }

  private ended(why: string): void {
    if (this.stopped) return;
    clearTimeout(this.listening);
    const { afterMs, isFirst } = this.restarts.next();
    if (isFirst)
      this.log.warn(
        `cannot follow link changes ("ip -o monitor link": ${why}); repairs wait for the periodic look until it runs again. Is iproute2 installed?`,
      );
    this.restart = setTimeout(() => this.start(), afterMs);
  }
}

/** A process that has no file descriptor left gets no pipes, and then an error. */
function onLines(pipe: Readable | null | undefined, listener: (line: string) => void): void {
  if (pipe) createInterface({ input: pipe }).on('line', listener);
}

/**
 * The interface's name in a line such as `Deleted 7: vif5.0@if6: <BROADCAST> mtu 1500 ...`. A name may have `@` in it, too:
 * then all that it can be, for nothing in the line tells them apart, and a look too many does no harm. Two names of at most
 * 15 characters, for a longer one takes the square of its length.
 */
export function parseMonitorLine(line: string): string[] {
  const parts = /^(?:Deleted )?[0-9]+: ([^\s:]{1,31}): </.exec(line)?.[1]?.split('@') ?? [];
  return parts.map((_, i) => parts.slice(0, i + 1).join('@')).filter((name) => name !== '');
}
