/** Whether something stays of what has left. */
import { setTimeout as sleep } from 'node:timers/promises';
import { median } from '../bench/report.js';
import type { LoadHost } from './load-host.js';

const LOOKS = 4;
const LOOK_EVERY_MS = 150;

/** The least of some looks: what vifd does meanwhile, and what V8 keeps for it, comes and goes. */
export async function calmHeap({ probe }: LoadHost): Promise<number> {
  const heaps: number[] = [];
  for (let i = 0; i < LOOKS; i++) {
    await sleep(LOOK_EVERY_MS);
    heaps.push(await probe.heap());
  }
  return Math.min(...heaps);
}

/** Bytes for each guest: by how much the median of the later half of the waves' samples is above that of the earlier one. */
export function kept(samples: readonly number[], guestsPerWave: number): number {
  const half = Math.floor(samples.length / 2);
  const later = median(samples.slice(-half)) - median(samples.slice(0, half));
  return later / (guestsPerWave * (samples.length - half));
}
