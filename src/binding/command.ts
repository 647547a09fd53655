/**
 * EDGE: a program as a child: no shell, a process group of its own that is ended when its time is up, its output told line by
 * line. Not by execa: loaded for the whole life of the agent it costs 5 MiB.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { killGroup } from '../child.js';

export interface Command {
  /** The program, and its arguments. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly limitMs: number;
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
}

/** From the request to end until it is ended. */
const GRACE_MS = 2_000;
/** What it said last may still be in the pipe when it has ended; what it has left running may hold that open for ever. */
const LAST_WORDS_MS = 200;

/** How it ended, as the end of a sentence; undefined: with success. */
export function runCommand({ argv, env, limitMs, onLine, signal }: Command): Promise<string | undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve('was not started any more');
    let child: ChildProcess;
    try {
      child = start(argv, env);
    } catch (error) {
      return resolve(cannotRun(error as NodeJS.ErrnoException)); // E2BIG, ENOMEM: others come as an event
    }
    let ended: string | undefined;
    const timers: NodeJS.Timeout[] = [];
    const end = (why: string) => {
      ended ??= why;
      killGroup(child.pid, 'SIGTERM');
      timers.push(setTimeout(() => killGroup(child.pid, 'SIGKILL'), GRACE_MS));
    };
    const onAbort = () => end('was ended, since it is not wanted any more');
    const finish = (outcome: string | undefined) => {
      for (const timer of timers) clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      for (const pipe of [child.stdout, child.stderr]) pipe?.destroy();
      resolve(outcome);
    };
    // Not spawn's own time limit, which outlives a program that could not be started and ends no group.
    timers.push(setTimeout(() => end(`did not end within ${limitMs / 1000} s and was ended`), limitMs));
    signal.addEventListener('abort', onAbort);
    for (const pipe of [child.stdout, child.stderr])
      if (pipe) createInterface({ input: pipe }).on('line', (line) => onLine(clean(line)));
    child.once('error', (error) => finish(cannotRun(error)));
    child.once('exit', (code, by) => {
      const outcome = ended ?? (code === 0 ? undefined : `failed (${by ?? `exit code ${code}`})`);
      if (ended !== undefined) killGroup(child.pid, 'SIGKILL');
      timers.push(setTimeout(() => finish(outcome), LAST_WORDS_MS));
      child.once('close', () => finish(outcome));
    });
  });
}

const PATH = process.env.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const start = ([program = '', ...args]: readonly string[], env: Command['env']): ChildProcess =>
  spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: { PATH, ...env } });

const cannotRun = ({ code, message }: NodeJS.ErrnoException): string => `cannot be run (${code ?? message})`;

/** One line that cannot upset a terminal. */
const clean = (line: string): string => line.replace(/[^\x20-\x7e\u00a0-\uffff]/g, '?').slice(0, 1000);
