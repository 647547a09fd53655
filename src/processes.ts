/**
 * EDGE: the processes of this machine, from /proc. Waits for what the kernel has in memory: to ask for it by a thread takes ten
 * times as long, for each of some hundred processes.
 */
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { readlink } from 'node:fs/promises';

const READ_MAX = 4096;

/** True where that cannot be seen. */
export async function sharesNetwork(pid: number): Promise<boolean> {
  const [theirs, ours] = await Promise.all(
    [pid, 'self'].map((each) => readlink(`/proc/${each}/ns/net`).catch(() => undefined)),
  );
  return theirs === undefined || theirs === ours;
}

/** The names of all programs that run, at most 15 characters each (comm). */
export function runningNames(): Set<string> {
  return new Set(pids().map((pid) => readOf(pid, 'comm').trim()));
}

export function pids(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}

/** `4711 123456`: ids are used again; id and start time (proc_pid_stat(5), field 22) are not. Undefined for one that has ended. */
export function identityOf(pid: number): string | undefined {
  const stat = readOf(pid, 'stat');
  const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return stat === '' || state === 'Z' ? undefined : `${pid} ${rest[18]}`;
}

export const isRunning = (identity: string): boolean => identityOf(Number.parseInt(identity, 10)) === identity;

/** Empty for one that has ended. Of its beginning: anybody's process may have megabytes of arguments. */
export function readOf(pid: number, file: 'cmdline' | 'comm' | 'environ' | 'stat', maxBytes = READ_MAX): string {
  try {
    const fd = openSync(`/proc/${pid}/${file}`, 'r');
    try {
      const bytes = Buffer.alloc(maxBytes);
      return bytes.toString('utf8', 0, readSync(fd, bytes));
    } finally {
      closeSync(fd);
    }
  } catch {
    return '';
  }
}
