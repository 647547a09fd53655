/**
 * EDGE: the scripts and hooks that a vifd before this one was running when it was killed. One that went on could put a vif
 * online after this vifd has told its script `offline`. Under systemd they end with vifd; where nobody does that, the next vifd
 * does.
 */
import { killGroup } from '../child.js';
import { VIFD_PID } from '../network/hotplug-script.js';
import { isRunning, pids, readOf, sharesNetwork } from '../processes.js';
import { SCRIPT_ARGS } from '../vif/script-call.js';

/** Ends them with their process groups, which they lead; what a script has left behind for good leads its own. */
export async function endOrphans(): Promise<number> {
  const found = await Promise.all(pids().map(async (pid) => ((await isOrphan(pid)) ? [pid] : [])));
  return found.flat().filter((pid) => killGroup(pid)).length;
}

async function isOrphan(pid: number): Promise<boolean> {
  if (!ARGUMENTS.test(words(pid, 'cmdline').slice(-2).join(' '))) return false; // spares most processes the rest
  const parent = words(pid, 'environ', ENVIRONMENT_MAX).find((word) => word.startsWith(`${VIFD_PID}=`));
  return parent !== undefined && !isRunning(parent.slice(VIFD_PID.length + 1)) && (await sharesNetwork(pid));
}

/** Of a script; of a hook. */
const ARGUMENTS = new RegExp(`^((on|off)line ${SCRIPT_ARGS.join(' ')}|(connected|left) vif\\d+\\.\\d+)$`);

/** It has all that vifd had, and then what vifd has added. */
const ENVIRONMENT_MAX = 128 << 10;

const words = (pid: number, file: 'cmdline' | 'environ', maxBytes?: number): string[] =>
  readOf(pid, file, maxBytes).split('\0').slice(0, -1);
