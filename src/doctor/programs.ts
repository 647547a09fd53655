/** EDGE: the one place that says whether an agent runs. */
import { readlink, realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pids, readOf, sharesNetwork } from '../processes.js';
import type { Program } from '../vif/seen.js';
import { behindInterpreter, recognise } from './command-line.js';

/** Processes that seem to attach vifs, in this network namespace: those of another cannot reach ours. */
export async function findPrograms(): Promise<Program[]> {
  const self = await ownScript();
  const found = await Promise.all(pids().map((pid) => findProgram(pid, self)));
  return found.flatMap((program) => program ?? []);
}

async function findProgram(pid: number, self: string): Promise<Program | undefined> {
  const program = await identify(pid, self);
  return program !== undefined && (await sharesNetwork(pid)) ? program : undefined;
}

async function identify(pid: number, self: string): Promise<Program | undefined> {
  const argv = readOf(pid, 'cmdline').split('\0').slice(0, -1);
  if (recognise({ pid, argv, isSelf: true }) === undefined) return undefined; // spares most processes the rest
  const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => '/');
  const found = recognise({ pid, argv, isSelf: await isSame(cwd, behindInterpreter(argv)[0], self) });
  return found?.config === undefined ? found : { ...found, config: resolve(cwd, found.config) };
}

const ownScript = (): Promise<string> => realpath(process.argv[1] ?? '').catch(() => '');

async function isSame(cwd: string, script: string | undefined, self: string): Promise<boolean> {
  if (script === undefined || self === '') return false;
  return (await realpath(resolve(cwd, script)).catch(() => undefined)) === self;
}
