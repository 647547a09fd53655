/**
 * A whole Xen host for a test: dom0, the driver domain `nicdom` with the agent under test, and clients. Everything a test
 * does goes through dom0's and nicdom's own programs. Usage: `const lab = await Lab.boot({...})`, `await lab.stop()`.
 *
 * INVARIANTS
 * - Only processes started here are ended, and only through their own handle or pid file.
 * - A dead xenstored, an assertion or a segmentation fault anywhere is an error even if the test saw nothing of it.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { joinInitramfs, makeDiskImage, makeImage } from './image.js';
import { DILATION, Machine, parseAnswer, type Result, requestLine } from './machine.js';

export type { Result } from './machine.js';

export interface LabOptions {
  readonly xenstored: 'oxenstored' | 'xenstored';
  /** 'service': Debian 13 and Xen 4.20, and vifd only when a test installs it and systemd starts it. */
  readonly agent: 'vifd' | 'devd' | 'none' | 'service';
  /** With 'service': makes, in a directory of the lab's, the files that shall lie in nicdom's /root. */
  readonly files?: (dir: string) => Promise<readonly string[]>;
  /** No debug log of the agent; for the benchmark. */
  readonly quiet?: boolean;
  /** dom0 keeps what it needs to create nicdom a second time. */
  readonly keepNicdom?: boolean;
  /** TypeScript programs to bundle into dom0 and nicdom, for runNode(). watcher.ts is always there. */
  readonly programs?: readonly string[];
}

const here = dirname(fileURLToPath(import.meta.url));
const WATCHER = join(here, 'guest/watcher.ts');
const CRASHES = 'Assertion|Segmentation fault|segfault|core dumped|Aborted|Fatal error: exception|Kernel panic';
type Log = readonly [where: 'dom0' | 'nicdom', name: string, command: string];
/** Each is kept when something fails. */
const LOGS: readonly Log[] = (
  [
    ['dom0', '/var/log/xenstored.log'],
    ['dom0', '/run/watcher.jsonl'],
    ['nicdom', '/var/log/vifd.log'],
    ['nicdom', '/var/log/devd.log'],
    ['nicdom', '/var/log/udevd.log'],
    ['nicdom', '/var/log/xen/xen-hotplug.log'],
  ] as const
).map(([where, path]) => [where, basename(path), `cat ${path}`]);
const JOURNAL: Log = ['nicdom', 'journal', 'journalctl -q -b -o short-monotonic'];

export class Lab {
  private nicdomCalls = 0;
  private agentLinesSeen = 0;
  private readonly transcript: string[] = [];

  private constructor(
    readonly options: LabOptions,
    readonly dir: string,
    private readonly machine: Machine,
  ) {}

  /** Rejects, with the console's end, if dom0, nicdom or the agent are not there in a few minutes. */
  static async boot(options: LabOptions): Promise<Lab> {
    const dir = mkdtempSync(join(tmpdir(), 'vifd-xen-'));
    const image =
      options.agent === 'service'
        ? await makeDiskImage(dir, (await options.files?.(dir)) ?? [])
        : await makeImage(dir, [WATCHER, ...(options.programs ?? [])]);
    const initramfs = join(dir, 'initramfs.cpio');
    await joinInitramfs(image, initramfs);
    const words = `lab_xenstored=${options.xenstored} lab_agent=${options.agent} lab_quiet=${options.quiet ? 1 : 0}${options.keepNicdom ? ' lab_keep_nicdom=1' : ''}`;
    const machine = await Machine.start(dir, { ...image, initramfs }, words);
    const lab = new Lab(options, dir, machine);
    try {
      await lab.must('true', 180_000);
      rmSync(initramfs);
      await lab.until(
        'nicdom is up',
        () => lab.guestLog('nicdom').then((log) => log.includes('LAB nicdom ready')),
        90_000,
      );
      await lab.agentReady(options.agent, 0);
      return lab;
    } catch (error) {
      await lab.stop({ failed: true });
      throw error;
    }
  }

  /** A bash command in dom0; stdout and stderr together. */
  async dom0(command: string, timeoutMs = 60_000): Promise<Result> {
    return this.record('dom0', command, await this.machine.run(command, timeoutMs));
  }

  /** A bash command in the driver domain, through its console. Keep command and output below some kilobytes. */
  async nicdom(command: string, timeoutMs = 60_000): Promise<Result> {
    const line = requestLine(`n${++this.nicdomCalls}`, Math.ceil(timeoutMs / 1000), command).trim();
    const relay = await this.machine.run(`/lab/nicdom-run ${line}`, timeoutMs + 40_000);
    const answer = parseAnswer(relay.out.trim());
    if (!answer) throw new Error(`nicdom's console did not answer (${relay.code} ${relay.out}) to: ${command}`);
    return this.record('nicdom', command, { code: answer.code, out: answer.out });
  }

  /** Like dom0(), but an exit code other than 0 is an error. Resolves with the output, trimmed. */
  async must(command: string, timeoutMs?: number): Promise<string> {
    return demandSuccess('dom0', command, await this.dom0(command, timeoutMs));
  }

  /** Like nicdom(), but an exit code other than 0 is an error. Resolves with the output, trimmed. */
  async mustNicdom(command: string, timeoutMs?: number): Promise<string> {
    return demandSuccess('nicdom', command, await this.nicdom(command, timeoutMs));
  }

  /** Runs one of `programs`, by its file name, under Node there. */
  async runNode(
    where: 'dom0' | 'nicdom',
    program: string,
    args: readonly string[] = [],
    timeoutMs = 300_000,
  ): Promise<Result> {
    const name = basename(program).replace(/\.\w+$/, '');
    const words = args.map((arg) => `'${arg.replaceAll("'", "'\\''")}'`);
    return this[where](['node', `/lab/${name}.mjs`, ...words].join(' '), timeoutMs);
  }

  /** A domain's whole console since its creation; '' before there is one. */
  async guestLog(name: string): Promise<string> {
    return (await this.machine.run(`cat /var/log/xen/console/guest-${name}.log`, 20_000)).out.replaceAll('\r', '');
  }

  /** Puts a text file into dom0. */
  async putFile(path: string, text: string, where: 'dom0' | 'nicdom' = 'dom0'): Promise<void> {
    const command = `echo ${Buffer.from(text).toString('base64')} | base64 -d >${path}`;
    await (where === 'dom0' ? this.must(command) : this.mustNicdom(command));
  }

  /** Polls until `probe` gives something truthy, and resolves with that. Rejects after `timeoutMs`, of the domains at most. */
  async until<T>(what: string, probe: () => Promise<T>, timeoutMs: number): Promise<T> {
    const deadline = Date.now() + timeoutMs * DILATION;
    for (;;) {
      const value = await probe();
      if (value) return value;
      if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what} (logs: ${this.dir})`);
      await sleep(500);
    }
  }

  /** Starts the agent again, after a test ended it; or the other one, perhaps beside it. */
  async startAgent(agent = this.options.agent): Promise<void> {
    const before = await this.readyCount(agent);
    await this.mustNicdom(`/lab/agent-start ${agent}`);
    await this.agentReady(agent, before);
  }

  /** SIGKILL for the agent, by the process id it was started with; resolves when it is gone. */
  async killAgent(agent = this.options.agent): Promise<void> {
    await this.mustNicdom(
      `pid=$(cat /run/lab-${agent}.pid); kill -9 $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done`,
    );
  }

  /** Rejects if xenstored died or anything crashed so far. */
  async assertHealthy(): Promise<void> {
    const alive = await this.machine.run(
      'kill -0 $(cat /run/lab-xenstored.pid) && timeout 5 xenstore-read domid',
      20_000,
    );
    if (alive.code !== 0) throw new Error(`${this.options.xenstored} is dead: ${alive.out} (logs: ${this.dir})`);
    const files = '/var/log/xenstored.log /var/log/xen/*.log /var/log/xen/console/*.log';
    const seen = await this.machine.run(`grep -E '${CRASHES}' ${files}; dmesg | grep -E '${CRASHES}'`, 20_000);
    const own = this.transcript.filter((line) => new RegExp(CRASHES).test(line)).join('\n');
    if (seen.out.trim() !== '' || own !== '')
      throw new Error(`something crashed:\n${seen.out}${own}\n(logs: ${this.dir})`);
  }

  /** Fetches every log of every domain into `dir`. */
  async keepLogs(): Promise<void> {
    const logs = join(this.dir, 'logs');
    mkdirSync(logs, { recursive: true });
    writeFileSync(join(logs, 'transcript.log'), this.transcript.join('\n'));
    const names = (await this.machine.run('ls /var/log/xen/console /var/log/xen/*.log', 10_000)).out;
    for (const [, name] of names.matchAll(/guest-(\S+)\.log/g))
      writeFileSync(join(logs, `${name}.log`), await this.guestLog(name ?? ''));
    writeFileSync(join(logs, 'xl.log'), (await this.machine.run('tail -n 100 /var/log/xen/*.log', 10_000)).out);
    writeFileSync(join(logs, 'xenstore.txt'), (await this.machine.run('xenstore-ls -f -p', 30_000)).out);
    const logsOf: readonly Log[] = this.options.agent === 'service' ? [JOURNAL] : LOGS;
    for (const [where, name, command] of logsOf) {
      // Compressed: nicdom's console is slow.
      const text = await this[where](`${command} 2>/dev/null | gzip -c | base64 -w0`, 60_000);
      if (text.out) writeFileSync(join(logs, `${where}-${name}.gz`), Buffer.from(text.out, 'base64'));
    }
  }

  /** Powers off. The directory with the logs stays only if the caller says that something failed. */
  async stop({ failed = false } = {}): Promise<void> {
    if (failed) {
      await this.keepLogs().catch((error: Error) =>
        writeFileSync(join(this.dir, 'logs-incomplete.txt'), String(error)),
      );
      console.error(`the lab's logs: ${this.dir}`);
    }
    await this.machine.stop();
    if (failed)
      for (const name of ['system', 'nicdom', 'client', 'dom0-overlay.cpio', 'initramfs.cpio'])
        rmSync(join(this.dir, name), { recursive: true, force: true });
    else rmSync(this.dir, { recursive: true, force: true });
  }

  /** The warnings and errors in vifd's log that were not there at the last call. */
  async agentComplaints(): Promise<string[]> {
    if (this.options.agent === 'service') return this.serviceComplaints();
    if (this.options.agent !== 'vifd') return [];
    const log = (await this.agentLog()).split('\n');
    const fresh = log.slice(this.agentLinesSeen, -1);
    this.agentLinesSeen += fresh.length;
    return fresh.filter((line) => /"level":"(warn|error|fatal)"/.test(line) || !line.startsWith('{'));
  }

  /** The same of the journal, with what systemd says of the unit. */
  private async serviceComplaints(): Promise<string[]> {
    const out = await this.mustNicdom('journalctl -q -u vifd -p warning -o cat --cursor-file=/lab/journal-cursor');
    return out.split('\n').filter((line) => line !== '');
  }

  /** The agent's log so far. */
  async agentLog(agent = this.options.agent): Promise<string> {
    const { out } = await this.nicdom(`gzip -c /var/log/${agent}.log | base64 -w0`, 60_000);
    return gunzipSync(Buffer.from(out, 'base64')).toString();
  }

  private async agentReady(agent: LabOptions['agent'], linesBefore: number): Promise<void> {
    if (agent === 'none' || agent === 'service') return;
    // Without its debug log xl devd does not say when it is ready.
    if (agent === 'devd' && this.options.quiet) return sleep(10_000);
    await this.until(`${agent} is ready`, async () => (await this.readyCount(agent)) > linesBefore, 60_000);
  }

  private async readyCount(agent: LabOptions['agent']): Promise<number> {
    const line = agent === 'vifd' ? 'ready on ' : 'event epath=.*/backend$';
    // No file yet: 0.
    return Number((await this.nicdom(`cat /var/log/${agent}.log 2>/dev/null | grep -c '${line}'`)).out.trim());
  }

  private record(where: string, command: string, result: Result): Result {
    this.transcript.push(`${new Date().toISOString()} ${where}# ${command}\n${result.out}[${result.code}]`);
    return result;
  }
}

/** A command for a domain that also says how long it took, by that domain's clock: tookMs() of its output. */
export const timed = (command: string): string =>
  `a=$(date +%s%N); ${command}; code=$?; echo "took $((($(date +%s%N) - a) / 1000000)) ms"; (exit $code)`;

export const tookMs = (out: string): number => Number(/took (\d+) ms/.exec(out)?.[1]);

function demandSuccess(where: string, command: string, { code, out }: Result): string {
  if (code !== 0) throw new Error(`${where}: exit code ${code} of: ${command}\n${out}`);
  return out.trim();
}
