/** `vifd run` as a process of its own, as an admin starts it, with its log read back line by line. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly attach?: string;
  readonly domid?: number;
  readonly devid?: number;
  readonly ifname?: string;
  readonly bridge?: string;
  readonly did?: string[];
  readonly code?: string;
  readonly ms?: number;
  readonly uptimeMs?: number;
}

export class AgentProcess {
  readonly log: LogLine[] = [];
  /** What is on stderr; a healthy agent writes nothing there. */
  stderr = '';
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  /** Put before the command, as `setpriv` and its options. */
  static prefix: readonly string[] = [];
  private readonly child;

  constructor(xenstore: string, ...args: string[]) {
    const words = ['dist/main.js', 'run', '--xenstore', xenstore, '--log-level', 'debug', ...args];
    const [program, ...rest] = [...AgentProcess.prefix, process.execPath, ...words] as [string, ...string[]];
    this.child = spawn(program, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, VIFD_RUN_DIR: process.env.VIFD_RUN_DIR ?? '' }, // several run at once on one machine
    });
    createInterface({ input: this.child.stdout }).on('line', (line) => this.log.push(JSON.parse(line) as LogLine));
    this.child.stderr.on('data', (bytes) => {
      this.stderr += bytes;
    });
    this.exited = new Promise((resolve) => this.child.once('close', (code, signal) => resolve({ code, signal })));
  }

  /** Starts it and waits until it has looked at every vif there is. */
  static async ready(xenstore: string, ...args: string[]): Promise<AgentProcess> {
    const agent = new AgentProcess(xenstore, ...args);
    await agent.saw((line) => line.msg.startsWith('ready'));
    return agent;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Waits for a log line; rejects with the whole log when it does not come. */
  async saw(matches: (line: LogLine) => boolean, timeoutMs = 5_000): Promise<LogLine> {
    return eventually(
      () => this.log.find(matches),
      timeoutMs,
      () => `the log was:\n${this.log.map(({ level, msg }) => `${level} ${msg}`).join('\n')}\n${this.stderr}`,
    );
  }

  /** Whether a test has killed it so. */
  killed = false;

  async kill(signal: NodeJS.Signals): Promise<{ code: number | null; signal: string | null }> {
    if (signal === 'SIGKILL') this.killed = true;
    this.child.kill(signal);
    return this.exited;
  }
}

/** Asks again and again until the answer is neither undefined nor false. */
export async function eventually<T>(
  ask: () => T | Promise<T>,
  timeoutMs = 5_000,
  explain: () => string = () => '',
): Promise<NonNullable<T>> {
  for (const until = performance.now() + timeoutMs; ; ) {
    const answer = await ask();
    if (answer !== undefined && answer !== null && answer !== false) return answer;
    if (performance.now() > until)
      throw new Error(`did not happen within ${timeoutMs} ms: ${ask.toString()}; ${explain()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
