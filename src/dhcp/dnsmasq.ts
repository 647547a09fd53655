/**
 * EDGE: dnsmasq as a child. It cannot be made to end with its parent, so its pid file tells the next vifd of one that a kill
 * has left behind.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { printable, VifdError } from '../errors.js';
import type { Files } from './dnsmasq-text.js';

/** dnsmasq ends within a few milliseconds; vifd must not wait for one that does not. */
const END_MS = 50;
const START_MS = 5_000;
const LEFT_BEHIND_MS = 1_000;
const POLL_MS = 10;

export interface Listener {
  onLine(line: string): void;
  /** Nobody had asked it to. */
  onEnd(why: string): void;
}

/** In $PATH or where distributions have it, which is not in every user's. */
export async function findDnsmasq(): Promise<string | undefined> {
  const dirs = [...(process.env.PATH ?? '').split(':').filter((dir) => dir.startsWith('/')), '/usr/sbin', '/sbin'];
  for (const dir of dirs) {
    const file = `${dir}/dnsmasq`;
    if (
      await access(file, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return file;
  }
  return undefined;
}

export class Dnsmasq {
  private child: ChildProcess | undefined;
  constructor(
    private readonly config: string,
    private readonly listener: Listener,
  ) {}

  get runs(): boolean {
    return this.child !== undefined;
  }

  /** Resolves when it serves, also after a reload. Rejects with the reason why it does not. */
  async start(): Promise<void> {
    const program = await findDnsmasq();
    if (program === undefined)
      throw new VifdError('ENODNSMASQ', 'dnsmasq is not here: install dnsmasq-base (Debian) or dnsmasq');
    const child = spawn(program, ['--keep-in-foreground', `--conf-file=${this.config}`], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { LC_ALL: 'C' },
    });
    this.child = child;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), START_MS);
      let started = false;
      let lastWords = '';
      const ended = (why: string) => {
        clearTimeout(timer);
        const isAsked = this.child !== child;
        if (!isAsked) this.child = undefined;
        if (!started) reject(new VifdError('EDNSMASQ', `dnsmasq does not start: ${why}; ${remedyFor(why)}`));
        else if (!isAsked) this.listener.onEnd(why);
      };
      child.on('error', ({ message }) => ended(message));
      child.on('close', (code, signal) => ended(signal ?? printable(lastWords || `exit code ${code}`, 200)));
      // Where it could not be started for want of descriptors there is no pipe.
      if (child.stderr === null) return;
      createInterface({ input: child.stderr }).on('line', (line) => {
        if (line.trim() !== '') lastWords = line;
        this.listener.onLine(line);
        if (!/^dnsmasq\[\d+\]: started, /.test(line)) return;
        clearTimeout(timer);
        started = true;
        resolve();
      });
    });
  }

  /** It reads hosts and options again. */
  reload(): void {
    this.child?.kill('SIGHUP');
  }

  async end(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
    await ended;
    clearTimeout(timer);
  }
}

function remedyFor(why: string): string {
  if (/permission denied|not permitted|capability/i.test(why))
    return 'it needs CAP_NET_BIND_SERVICE as well, under systemd by the drop-in vifd-dhcp.conf';
  if (/in use/i.test(why))
    return 'another DHCP server has port 67: let it bind its own interfaces only, dnsmasq by bind-dynamic';
  return 'all that it said is in the log at level debug';
}

/** Ends the dnsmasq that a vifd before this one has started with these files. False where there was none. */
export async function endLeftBehind(files: Files, signal: AbortSignal): Promise<boolean> {
  const text = await readFile(files.pid, 'utf8').catch(() => '');
  const pid = /^[0-9]{1,10}\n$/.test(text) ? Number(text) : 0;
  if (pid <= 1) return false;
  for (let waitedMs = 0; !signal.aborted && (await isDnsmasq(pid, files.config)); waitedMs += POLL_MS) {
    try {
      process.kill(pid, waitedMs < LEFT_BEHIND_MS ? 'SIGTERM' : 'SIGKILL');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ESRCH') return true;
      throw new VifdError(code ?? 'EPERM', `dnsmasq of an earlier vifd goes on (${code}): as root, kill ${pid}`);
    }
    await sleep(POLL_MS);
  }
  return true;
}

/** The number may be another program's by now. */
async function isDnsmasq(pid: number, config: string): Promise<boolean> {
  const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '');
  const [name, words] = await Promise.all([read('comm'), read('cmdline')]);
  return name.trim() === 'dnsmasq' && words.split('\0').includes(`--conf-file=${config}`);
}
