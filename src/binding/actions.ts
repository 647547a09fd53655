/** What a binding does once its interface has appeared, and when that has gone. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Binding } from '../config/schema.js';
import { listOf } from '../declared/wanted.js';
import type { HostKernel } from '../network/host-kernel.js';
import { runCommand } from './command.js';
import { ask } from './probe.js';
import { parseTarget } from './target.js';
import type { Appearance } from './wanted.js';

/** Waits for the probe, then runs commands and starts units. Never rejects. */
export async function onAppeared(
  appearance: Appearance,
  { log, kernel }: { log: Logger; kernel: HostKernel },
  signal: AbortSignal,
): Promise<void> {
  const { run, units } = appearance.binding;
  const commands = [...(run ?? []), ...listOf(units).map((unit) => ['systemctl', 'start', '--', unit])];
  if (await isReady(appearance, { log, kernel }, signal)) await runAll(commands, 'appeared', appearance, log, signal);
}

export function onGone(appearance: Appearance, log: Logger, signal: AbortSignal): Promise<void> {
  return runAll(appearance.binding.goneRun ?? [], 'gone', appearance, log, signal);
}

async function isReady(
  { binding, ifname }: Appearance,
  { log, kernel }: { log: Logger; kernel: HostKernel },
  signal: AbortSignal,
): Promise<boolean> {
  const { probe, probeEvery, probeTries } = binding;
  const target = probe === undefined ? undefined : parseTarget(probe);
  if (target === undefined) return !signal.aborted;
  let fault: string | undefined;
  for (let tries = 1; tries <= probeTries && !signal.aborted; tries++) {
    const askedAt = performance.now();
    fault = await ask(target, { ifname: binding.on ?? ifname, kernel }, signal);
    if (signal.aborted) return false;
    if (fault === undefined) {
      log.info(`${subjectOf(binding)}: ${probe} answers${tries > 1 ? ` after ${tries} tries` : ''}`);
      return true;
    }
    if (tries === 1) log.info(`${subjectOf(binding)}: waiting for ${probe} (${fault})`);
    const rest = probeEvery * 1000 - (performance.now() - askedAt);
    if (tries < probeTries) await sleep(Math.max(rest, 0), undefined, { signal }).catch(() => undefined);
  }
  if (!signal.aborted)
    log.warn(
      `${subjectOf(binding)}: ${probe} has not answered ${probeTries} times, every ${probeEvery} s (${fault}); nothing is started until ${ifname} appears anew or vifd is restarted`,
    );
  return false;
}

/** One after the other; one that fails keeps none from being run. */
async function runAll(
  commands: readonly (readonly string[])[],
  event: 'appeared' | 'gone',
  { binding, ifname }: Appearance,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  const env = { VIFD_BIND: binding.name, VIFD_EVENT: event, VIFD_INTERFACE: ifname };
  for (const argv of commands) {
    if (signal.aborted) return;
    const words = argv.join(' ');
    log.info(`${subjectOf(binding)}: running ${words}`);
    const onLine = (line: string) => log.info(`${subjectOf(binding)}: ${nameOf(argv)}: ${line}`);
    const fault = await runCommand({ argv, env, limitMs: binding.timeLimit * 1000, onLine, signal });
    if (fault !== undefined) log[signal.aborted ? 'warn' : 'error'](`${subjectOf(binding)}: ${words} ${fault}`);
  }
}

export const subjectOf = ({ name }: Binding): string => `[bind.${name}]`;
const nameOf = ([program = '']: readonly string[]): string => program.slice(program.lastIndexOf('/') + 1);
