/**
 * EDGE: the scripts that a vifd before this one was running when it was killed. One that went on could put a vif online after
 * this vifd has told its script `offline`. Under systemd they end with vifd; where nobody does that, the next vifd does.
 */
import { killGroup } from '../child.js';
import { isRunning, pids, readOf, sharesNetwork } from '../processes.js';
import { SCRIPT_ARGS, VIFD_PID } from '../vif/script-call.js';

/** Ends them with their process groups, which they lead; what a script has left behind for good leads its own. */
export async function endOrphans(): Promise<number> {
  const found = await Promise.all(pids().map(async (pid) => ((await isOrphan(pid)) ? [pid] : [])));
  return found.flat().filter((pid) => killGroup(pid)).length;
}

async function isOrphan(pid: number): Promise<boolean> {
  const argv = words(pid, 'cmdline');
  if (
    !argv
      .slice(-2)
      .join(' ')
      .endsWith(`line ${SCRIPT_ARGS.join(' ')}`)
  )
    return false; // spares most processes the rest
  const parent = words(pid, 'environ', ENVIRONMENT_MAX).find((word) => word.startsWith(`${VIFD_PID}=`));
  return parent !== undefined && !isRunning(parent.slice(VIFD_PID.length + 1)) && (await sharesNetwork(pid));
}

/** It has all that vifd had, and then what vifd has added. */
const ENVIRONMENT_MAX = 128 << 10;

const words = (pid: number, file: 'cmdline' | 'environ', maxBytes?: number): string[] =>
  readOf(pid, file, maxBytes).split('\0').slice(0, -1);
