/** What the README's table of faults says was measured: `npm test | grep measured:` has it. */
import { expect } from 'vitest';

/** Of many times the lowest, the middle and the highest. */
export function printMeasured(fault: string, ...times: readonly number[]): void {
  if (times.length === 0) return;
  const sorted = [...times].sort((a, b) => a - b);
  const shown = sorted.length > 3 ? [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)] : sorted;
  console.log(`measured: ${fault} ${shown.map((ms = Number.NaN) => Math.round(ms)).join(' - ')} ms`);
}

/** Fails when it took longer than that. */
export async function measured<T>(fault: string, maxMs: number, work: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  const result = await work();
  const ms = performance.now() - begin;
  printMeasured(fault, ms);
  expect(ms, fault).toBeLessThanOrEqual(maxMs);
  return result;
}
