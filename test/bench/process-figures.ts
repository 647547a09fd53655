/** What /proc tells of a process: memory and processor time. */
import { readdirSync, readFileSync } from 'node:fs';

/** CLK_TCK is 100 on every Linux that Node runs on. */
const MS_PER_TICK = 10;

const proc = (pid: number, file: string): string => {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return ''; // it has ended
  }
};

/** `VmRSS` (now) or `VmHWM` (at most so far) in MiB; 0 when the process is gone. */
export function memoryMiB(pid: number, what: 'VmRSS' | 'VmHWM'): number {
  return Number(new RegExp(`^${what}:\\s+([0-9]+) kB`, 'm').exec(proc(pid, 'status'))?.[1] ?? 0) / 1024;
}

export function childrenOf(pid: number): number[] {
  return proc(pid, `task/${pid}/children`).split(' ').filter(Boolean).map(Number);
}

/** User and system time of the process, its living children and those it has waited for, in ms. */
export function cpuMs(pid: number): number {
  // Behind the name in parentheses; utime, stime, cutime and cstime are fields 14 to 17 of proc(5).
  const fields = proc(pid, 'stat')
    .replace(/^.*\) /, '')
    .split(' ')
    .slice(11, 15);
  const own = MS_PER_TICK * fields.reduce((sum, text) => sum + Number(text), 0);
  return childrenOf(pid).reduce((sum, child) => sum + cpuMs(child), own);
}

const threads = (pid: number): string[] => {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
};

/** Time that the living threads of a process were on a processor, in ms; finer than cpuMs. */
export const runMs = (pid: number): number =>
  threads(pid).reduce((sum, tid) => sum + Number(proc(pid, `task/${tid}/schedstat`).split(' ')[0]) / 1e6, 0);

/** How often the threads of a process and its living children gave up the processor by themselves, to wait. */
export const switches = (pid: number): number =>
  threads(pid).reduce(
    (sum, tid) => sum + Number(/^voluntary_ctxt_switches:\s+([0-9]+)/m.exec(proc(pid, `task/${tid}/status`))?.[1] ?? 0),
    childrenOf(pid).reduce((sum, child) => sum + switches(child), 0),
  );

/** The largest single process of a tree that lives for a short time: looks again and again until `ended`. */
export async function largestMiB(root: number, ended: () => boolean): Promise<number> {
  let largest = 0;
  const look = (pid: number): void => {
    for (const child of childrenOf(pid)) {
      // A child that has not called exec yet still is a copy of its parent.
      if (!proc(child, 'cmdline').startsWith(process.execPath)) largest = Math.max(largest, memoryMiB(child, 'VmHWM'));
      look(child);
    }
  };
  while (!ended()) {
    look(root);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return largest;
}
