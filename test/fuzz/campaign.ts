/** Cases of one target: its kept inputs, fast-check's, and mutations of both; those that reach new code are mutated further. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { keptOf } from './corpus.js';
import { Coverage } from './coverage.js';
import { Dice, INPUT_MAX, mutate } from './mutate.js';
import { bytesOf, type Target } from './target.js';

export interface Failure {
  readonly input: Uint8Array;
  readonly reason: string;
}

export interface Hooks {
  /** Before each case, so that one that never ends is known. */
  readonly before?: (input: Uint8Array) => void;
  /** After each batch. */
  readonly progress?: (cases: number) => void;
  /** Reaches a block that none before it has. */
  readonly found?: (input: Uint8Array) => void;
}

export interface Outcome {
  readonly cases: number;
  readonly failure: Failure | undefined;
  /** Blocks of src/ that have run; 0 where nobody counted. */
  readonly blocks: number;
}

/** Of this thread's processor, for an input of at most INPUT_MAX bytes; what seems to take longer is measured again. */
export const LIMIT_MS = 250;
const BATCH = 500;
/** Counting makes code several times slower, so only so many cases are guided by it. */
const GUIDED = 20_000;
const CORPUS_MAX = 4_000;

/** Undefined when the target keeps its promises for this input. */
export async function judge(target: Target, input: Uint8Array, limitMs = LIMIT_MS): Promise<Failure | undefined> {
  try {
    const started = performance.now();
    const later = target.run(input);
    if (later !== undefined) await later;
    if (performance.now() - started > limitMs && (await quickest(target, input)) > limitMs)
      return { input, reason: `it takes more than ${limitMs} ms` };
    return undefined;
  } catch (error) {
    return { input, reason: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** In milliseconds of this thread's processor time: what else runs on the machine does not count. */
async function quickest(target: Target, input: Uint8Array): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const before = processorMs();
    await target.run(input);
    least = Math.min(least, processorMs() - before);
  }
  return least;
}

/** proc(5), schedstat: nanoseconds first. Node 20 knows the time of all threads together only. */
const processorMs = (): number => Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]) / 1e6;

/** Ends at the first failure. The same seed makes the same cases. */
export async function campaign(
  target: Target,
  { cases, seed, guided }: { cases: number; seed: number; guided: boolean },
  hooks: Hooks = {},
): Promise<Outcome> {
  const dice = new Dice(seed);
  const corpus = [
    ...keptOf(target.name).map(({ input }) => input.subarray(0, INPUT_MAX)),
    ...samples(target, seed, 200),
  ];
  const coverage = guided ? new Coverage() : undefined;
  coverage?.start();
  let counting = guided;
  let blocks = 0;
  let done = 0;
  let batch = corpus.slice(0, cases);
  while (batch.length > 0) {
    for (const input of batch) {
      hooks.before?.(input);
      const failure = await judge(target, input);
      if (failure !== undefined) return { cases: done, failure, blocks };
      done++;
    }
    hooks.progress?.(done);
    if (counting && coverage !== undefined) {
      const found = await newIn(batch, target, coverage);
      if (done > batch.length) corpus.push(...found); // else they stand there already
      if (done > batch.length) for (const input of found) hooks.found?.(input);
      blocks = coverage.blocks;
      if (done > GUIDED || done >= cases) {
        coverage.stop();
        counting = false;
      }
    }
    batch = next(target, dice, corpus, Math.min(BATCH, cases - done));
    if (corpus.length > CORPUS_MAX) corpus.splice(dice.under(corpus.length), corpus.length - CORPUS_MAX);
  }
  return { cases: done, failure: undefined, blocks };
}

/** A sixteenth of the cases are fast-check's own, the others mutations. */
function next(target: Target, dice: Dice, corpus: readonly Uint8Array[], count: number): Uint8Array[] {
  if (count <= 0) return [];
  const fresh = samples(target, dice.next() | 0, Math.ceil(count / 16));
  return [...fresh, ...Array.from({ length: count - fresh.length }, () => mutate(dice, corpus, target))];
}

const samples = ({ seeds }: Target, seed: number, numRuns: number): Uint8Array[] =>
  fc.sample(seeds, { seed, numRuns }).map((one) => bytesOf(one).subarray(0, INPUT_MAX));

/** Those of the batch that have reached blocks that none before it had: each runs again, alone. */
async function newIn(batch: readonly Uint8Array[], target: Target, coverage: Coverage): Promise<Uint8Array[]> {
  const fresh = coverage.fresh();
  const all = [...fresh];
  const found: Uint8Array[] = [];
  for (const input of batch) {
    if (fresh.size === 0) break;
    await judge(target, input);
    const own = [...coverage.fresh()].filter((block) => fresh.delete(block));
    if (own.length > 0) found.push(input);
  }
  coverage.learn(all);
  return found;
}
