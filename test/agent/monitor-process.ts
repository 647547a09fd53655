/** `vifd monitor` as a process of its own, with what it prints read back line by line. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import type { MonitorEvent } from '../../src/monitor/format.js';
import { eventually } from './agent-process.js';

export class MonitorProcess {
  readonly lines: string[] = [];
  stderr = '';
  readonly exited: Promise<[code: number | null, signal: string | null]>;
  readonly child: ChildProcess;

  constructor(...args: string[]) {
    const child = spawn(process.execPath, ['dist/main.js', 'monitor', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    this.child = child;
    this.exited = new Promise((resolve) => child.once('close', (code, signal) => resolve([code, signal])));
    createInterface({ input: child.stdout }).on('line', (line) => this.lines.push(line));
    child.stderr.on('data', (bytes) => {
      this.stderr += bytes;
    });
  }

  /** Of `--json`. */
  get events(): MonitorEvent[] {
    return this.lines.map((line) => JSON.parse(line) as MonitorEvent);
  }

  /** Waits for a line. */
  has(such: RegExp): Promise<string> {
    const said = () => `it said:\n${this.lines.join('\n')}\n${this.stderr}`;
    return eventually(() => this.lines.find((line) => such.test(line)), 5_000, said);
  }
}
