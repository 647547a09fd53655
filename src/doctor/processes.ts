/** EDGE: the processes of this machine, from /proc. The one place that says whether an agent runs. */
import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Program } from '../vif/seen.js';
import { behindInterpreter, recognise } from './command-line.js';

/** Processes that seem to attach vifs, in this network namespace: those of another cannot reach ours. */
export async function findPrograms(): Promise<Program[]> {
  const self = await ownScript();
  const found = await Promise.all((await pids()).map((pid) => findProgram(pid, self)));
  return found.flatMap((program) => program ?? []);
}

async function findProgram(pid: number, self: string): Promise<Program | undefined> {
  const program = await identify(pid, self);
  return program !== undefined && (await sharesNetwork(pid)) ? program : undefined;
}

async function identify(pid: number, self: string): Promise<Program | undefined> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''); // it may have ended
  const argv = text.split('\0').slice(0, -1);
  if (recognise({ pid, argv, isSelf: true }) === undefined) return undefined; // spares most processes the rest
  const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => '/');
  const found = recognise({ pid, argv, isSelf: await isSame(cwd, behindInterpreter(argv)[0], self) });
  return found?.config === undefined ? found : { ...found, config: resolve(cwd, found.config) };
}

const ownScript = (): Promise<string> => realpath(process.argv[1] ?? '').catch(() => '');

/** True where that cannot be seen. */
async function sharesNetwork(pid: number): Promise<boolean> {
  const [theirs, ours] = await Promise.all(
    [pid, 'self'].map((each) => readlink(`/proc/${each}/ns/net`).catch(() => undefined)),
  );
  return theirs === undefined || theirs === ours;
}

async function isSame(cwd: string, script: string | undefined, self: string): Promise<boolean> {
  if (script === undefined || self === '') return false;
  return (await realpath(resolve(cwd, script)).catch(() => undefined)) === self;
}

/** The names of all programs that run, at most 15 characters each (comm). */
export async function runningNames(): Promise<Set<string>> {
  const read = (pid: number) => readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
  return new Set((await Promise.all((await pids()).map(read))).map((name) => name.trim()));
}

async function pids(): Promise<number[]> {
  const names = await readdir('/proc').catch(() => []);
  return names.filter((name) => /^\d+$/.test(name)).map(Number);
}
