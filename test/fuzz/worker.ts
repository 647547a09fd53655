/** One target's cases, away from the thread that watches. */
import { parentPort, workerData } from 'node:worker_threads';
import { campaign, type Failure } from './campaign.js';
import { keep } from './corpus.js';
import { TARGETS } from './targets.js';

export interface Job {
  readonly target: string;
  readonly cases: number;
  readonly seed: number;
  /** Whether inputs that reach new code go into the corpus. */
  readonly save: boolean;
}

export interface Report {
  readonly cases: number;
  readonly blocks: number;
  readonly kept: number;
  readonly failure: Failure | undefined;
}

const { job, shared } = workerData as { job: Job; shared: SharedArrayBuffer };
const counters = new Int32Array(shared, 0, 2);
const present = new Uint8Array(shared, 8);
const target = TARGETS.find(({ name }) => name === job.target);
if (target === undefined) throw new Error(`no target ${job.target}`);

Error.stackTraceLimit = 5; // most of the errors are only looked at
let kept = 0;
const hooks = {
  before: (input: Uint8Array) => {
    present.set(input);
    Atomics.store(counters, 1, input.length);
    Atomics.add(counters, 0, 1);
  },
  found: (input: Uint8Array) => {
    if (!job.save) return;
    keep(job.target, input, 'new');
    kept++;
  },
};
const { cases, seed } = job;
const outcome = await campaign(target, { cases, seed, guided: true }, hooks);
parentPort?.postMessage({ ...outcome, kept } satisfies Report);
