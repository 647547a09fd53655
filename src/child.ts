/**
 * EDGE: a program as a child whose whole output is wanted, within a limit. Not by execa: loaded for the agent's whole life it
 * costs 5 MiB.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { VifdError } from './errors.js';

export interface Ended {
  /** Null: it was ended by a signal. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** It was ours: its time was up. */
  readonly isLate: boolean;
  readonly out: string;
  readonly err: string;
}

const SCARCE = ['ENOMEM', 'EAGAIN', 'EMFILE', 'ENFILE'];

/** What to do about a program that cannot be run. */
export const remedyForProgram = ({ code }: VifdError, install: string): string =>
  SCARCE.includes(code)
    ? 'this domain lacks memory, processes or open files for one more program: free some, or give it more'
    : install;

/** One that leads a process group, with all in it. False: it leads none, or all have ended. */
export function killGroup(pid: number | undefined, signal: NodeJS.Signals = 'SIGKILL'): boolean {
  try {
    return pid !== undefined && process.kill(-pid, signal);
  } catch {
    return false;
  }
}

/** Characters; the guards of 1,000 vifs take a tenth. */
const OUTPUT_MAX = 16 << 20;

export class Child {
  /** Undefined, or without pipes, where it could not be started. */
  private child: ChildProcess | undefined;
  private readonly said = { out: '', err: '' };
  private isLate = false;
  private readonly ended: Promise<Ended>;
  /** It runs. */
  isUsable = true;

  /** Never throws: whoever has it work is told. */
  constructor(
    readonly program: string,
    args: readonly string[],
  ) {
    this.ended = new Promise((resolve, reject) => {
      const failed = ({ code = 'EIO' }: NodeJS.ErrnoException) => {
        this.isUsable = false;
        reject(new VifdError(code, `${program} cannot be run (${code})`));
      };
      try {
        this.child = spawn(program, args);
      } catch (error) {
        return failed(error as NodeJS.ErrnoException); // ENOMEM; others come as an event
      }
      this.child.on('error', failed);
      this.child.on('exit', () => {
        this.isUsable = false;
      });
      this.child.on('close', (code, signal) => resolve({ code, signal, isLate: this.isLate, ...this.said }));
    });
    this.ended.catch(() => undefined);
    this.listen();
  }

  private listen(): void {
    for (const [pipe, name] of [[this.child?.stdout, 'out'] as const, [this.child?.stderr, 'err'] as const])
      pipe?.setEncoding('utf8').on('data', (text) => {
        this.said[name] += text;
        if (this.said[name].length > OUTPUT_MAX) this.kill();
      });
    this.child?.stdin?.on('error', () => undefined); // it ended before it read all; its exit code says why
  }

  /** Gives it all that it is to read. Rejects with VifdError, whose code is the errno, where it cannot be run. */
  work(input: string, limitMs: number): Promise<Ended> {
    this.setHolding(true);
    // Not spawn's own time limit, which outlives a program that could not be started.
    const timer = setTimeout(() => {
      this.isLate = true;
      this.kill();
    }, limitMs);
    this.child?.stdin?.end(input);
    return this.ended.finally(() => clearTimeout(timer));
  }

  kill(): void {
    this.child?.kill('SIGKILL');
    // What it has started may hold these open.
    for (const pipe of [this.child?.stdout, this.child?.stderr]) pipe?.destroy();
  }

  /** Whether it keeps this process from ending. One that waits ends with its input. */
  setHolding(holds: boolean): void {
    const { child } = this;
    for (const one of [child, child?.stdin, child?.stdout, child?.stderr] as (Socket | null | undefined)[])
      if (holds) one?.ref();
      else one?.unref();
  }

  end(): void {
    this.child?.stdin?.end();
  }
}

/**
 * Those who work for one purpose. INVARIANT: between pause() and resume() none runs, and all that is asked for rejects with
 * ECANCELED at once: a program that hangs must not hold up the end of what it was to work for.
 */
export class Children {
  private readonly running = new Set<Child>();
  private paused = false;

  async work(child: Child, input: string, limitMs: number): Promise<Ended> {
    if (this.paused) child.kill();
    this.running.add(child);
    const ended = await child.work(input, limitMs).finally(() => this.running.delete(child));
    if (this.paused) throw new VifdError('ECANCELED', `${child.program} was ended: nobody waits for it any more`);
    return ended;
  }

  pause(): void {
    this.paused = true;
    for (const child of this.running) child.kill();
  }

  resume(): void {
    this.paused = false;
  }
}
