/**
 * The long fuzzing, in two threads. A target runs in a worker with a limit of memory; where it is stopped by that, or says
 * nothing for HANG_MS, the input it had then is what the fault is of.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { judge } from './campaign.js';
import { keep } from './corpus.js';
import { INPUT_MAX } from './mutate.js';
import type { Target } from './target.js';
import { TARGETS } from './targets.js';
import type { Job, Report } from './worker.js';

/** Far more than LIMIT_MS, for a worker's start counts as well. */
const HANG_MS = 60_000;
const MEMORY_MB = 192;
const THREADS = 2;

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '1000000' },
    target: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    file: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
});
const cases = Number(values.cases);
const seed = Number(values.seed);
const chosen = TARGETS.filter(({ name }) => values.target === undefined || name === values.target);
if (chosen.length === 0 || !(cases > 0) || !Number.isInteger(seed)) {
  console.error(
    `--target is one of ${TARGETS.map(({ name }) => name).join(', ')}; --cases and --seed are whole numbers`,
  );
  process.exit(2);
}

if (values.file !== undefined) await repeat(chosen, values.file);
else await fuzz();

/** One kept input. */
async function repeat(targets: readonly Target[], file: string): Promise<void> {
  for (const target of targets) {
    const failure = await judge(target, readFileSync(file));
    console.log(`${target.name}: ${failure === undefined ? 'keeps its promises' : failure.reason}`);
    if (failure !== undefined) process.exitCode = 1;
  }
  process.exit();
}

async function fuzz(): Promise<void> {
  const shares = chosen.reduce((sum, { share = 1 }) => sum + share, 0);
  const jobs: Job[] = chosen.map(({ name, share = 1 }) => ({
    target: name,
    cases: Math.ceil((cases * share) / shares),
    seed,
    save: values.save,
  }));
  console.log(`seed ${seed}: ${cases} cases for ${jobs.length} targets`);
  const started = performance.now();
  const reports: Report[] = [];
  const work = async () => {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) reports.push(await runJob(job));
  };
  await Promise.all(Array.from({ length: THREADS }, work));
  const seconds = (performance.now() - started) / 1000;
  const total = reports.reduce((sum, one) => sum + one.cases, 0);
  const failed = reports.filter(({ failure }) => failure !== undefined);
  console.log(
    `seed ${seed}: ${total} cases in ${Math.round(seconds)} s, ${Math.round(total / seconds)} a second; ${failed.length} targets failed`,
  );
  process.exit(failed.length === 0 ? 0 : 1);
}

async function runJob(job: Job): Promise<Report> {
  const started = performance.now();
  const report = await inWorker(job);
  const seconds = (performance.now() - started) / 1000;
  const rate = Math.round(report.cases / seconds);
  const kept = report.kept === 0 ? '' : `, ${report.kept} inputs saved`;
  console.log(
    `${job.target.padEnd(16)} ${String(report.cases).padStart(9)} cases  ${rate}/s  ${report.blocks} blocks${kept}`,
  );
  if (report.failure === undefined) return report;
  const file = keep(job.target, report.failure.input, 'broke');
  console.log(`${job.target} has FAILED: ${report.failure.reason}`);
  console.log(`again: npm run fuzz -- --target ${job.target} --file ${file}`);
  return report;
}

function inWorker(job: Job): Promise<Report> {
  const shared = new SharedArrayBuffer(8 + INPUT_MAX);
  const counters = new Int32Array(shared, 0, 2);
  const current = (): Uint8Array => new Uint8Array(shared.slice(8, 8 + Atomics.load(counters, 1)));
  const file = fileURLToPath(new URL('./worker.js', import.meta.url));
  return new Promise((resolve) => {
    const worker = new Worker(file, {
      workerData: { job, shared },
      resourceLimits: { maxOldGenerationSizeMb: MEMORY_MB },
    });
    const failed = (reason: string) => {
      clearInterval(watchdog);
      void worker.terminate();
      const failure = { input: current(), reason };
      resolve({ cases: Atomics.load(counters, 0), blocks: 0, kept: 0, failure });
    };
    let [seen, since] = [-1, performance.now()];
    const watchdog = setInterval(() => {
      const count = Atomics.load(counters, 0);
      if (count !== seen) [seen, since] = [count, performance.now()];
      else if (performance.now() - since > HANG_MS) failed(`it goes on for more than ${HANG_MS / 1000} s`);
    }, 500);
    worker.on('error', (error) => failed(error.stack ?? error.message));
    worker.on('message', (report: Report) => {
      clearInterval(watchdog);
      void worker.terminate();
      resolve(report);
    });
  });
}
