/** Network namespaces of guests and of what lies outside, and pings between them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { execa, execaSync } from 'execa';
import { onTestFinished } from 'vitest';
import { ip } from './namespace.js';

export class Namespace {
  private constructor(private readonly child: ChildProcess) {}

  /** With lo up; it ends with the test. */
  static async start(): Promise<Namespace> {
    const child = spawn('unshare', ['--net', 'sh', '-c', 'ip link set lo up; echo ready; exec cat >/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    return new Namespace(child);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  run(...words: string[]): { stdout: string; failed: boolean } {
    const { stdout, failed } = execaSync('nsenter', [`--net=/proc/${this.pid}/ns/net`, ...words], { reject: false });
    return { stdout, failed };
  }

  ip(...words: string[]): string {
    const { stdout, failed } = this.run('ip', ...words);
    if (failed) throw new Error(`ip ${words.join(' ')} failed in the namespace`);
    return stdout;
  }

  /** Runs what `vifd explain` says for the inside of a guest. */
  configure(snippet: string): void {
    for (const command of snippet.split('; ')) this.ip(...command.split(' ').slice(1));
  }

  /** Whether an answer comes. Not in one go with what else this process does: the simulated dom0 lives in it. */
  async reaches(address: string, ...more: string[]): Promise<boolean> {
    const words = [`--net=/proc/${this.pid}/ns/net`, 'ping', '-c', '2', '-W', '1', '-i', '0.3', ...more, address];
    return !(await execa('nsenter', words, { reject: false })).failed;
  }
}

/** The network beyond this domain: a namespace at the other end of this one's `ifname`. */
export async function addOutside(
  ifname: string,
  own: readonly string[],
  theirs: readonly string[],
): Promise<Namespace> {
  const outside = await Namespace.start();
  ip('link', 'add', ifname, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(outside.pid));
  ip('link', 'set', ifname, 'up');
  outside.ip('link', 'set', 'eth0', 'up');
  for (const address of own) ip('addr', 'add', address, 'dev', ifname, ...nodad(address));
  for (const address of theirs) outside.ip('addr', 'add', address, 'dev', 'eth0', ...nodad(address));
  return outside;
}

const nodad = (address: string): string[] => (address.includes(':') ? ['nodad'] : []);
