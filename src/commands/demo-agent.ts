import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { VifdError } from '../errors.js';
import { NICDOM, type SimulatedHost } from '../simulator/host.js';

/** The agent as a process of its own, its log told in plain words. */
export class DemoAgent {
  readonly ready: Promise<void>;
  /** With which others find it and its xenstore. */
  readonly environment: Readonly<Record<string, string>>;
  private readonly child;

  constructor(host: SimulatedHost, tell: (line: string) => void, words: readonly string[] = []) {
    this.environment = { XENSTORED_PATH: host.socketOf(NICDOM), VIFD_RUN_DIR: join(host.directory, 'run') };
    this.child = spawn(process.execPath, [process.argv[1] ?? '', 'run', ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...this.environment },
    });
    this.ready = new Promise((resolve, reject) => {
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        const said = plainWords(line);
        tell(said);
        if (said.startsWith('ready')) resolve();
      });
      this.child.once('error', reject);
      this.child.once('close', (code, signal) =>
        reject(new VifdError('EAGENT', `vifd run ended before it was ready (${signal ?? `exit code ${code}`})`)),
      );
    });
    this.ready.catch(() => undefined); // it may also end later, as it should
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill(signal);
    await once(this.child, 'exit');
  }
}

/** A line of the agent's log; what is none of it, such as Node's own last words, as it is. */
function plainWords(line: string): string {
  try {
    const { level, msg } = JSON.parse(line) as { level: string; msg: string };
    return level === 'info' ? msg : `${level}: ${msg}`;
  } catch {
    return line;
  }
}
