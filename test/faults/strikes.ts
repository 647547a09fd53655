/**
 * The agent is struck after each thing that it does to the world, and started again: what is there then is what an
 * undisturbed agent leaves. Several run side by side, as it is mostly waiting, for dom0's and vifd's graces and for agents
 * that are stopped.
 *
 * By itself: some of the changes, as the test says. VIFD_CRASH_COUNTS=all: after each of them, after every question to xenstore
 * and the kernel, and at each begin and end of nft, which takes long; =changes: after each change. VIFD_CRASH_SIGNALS=SIGTERM:
 * with these strikes only. VIFD_CRASH_AT='SIGKILL 17': this one only.
 */
import { expect } from 'vitest';
import { printMeasured } from '../support/measured.js';
import type { Cast } from './casts.js';
import { CrashScenario, type Took } from './crash-scenario.js';
import type { Strike } from './crash-world.js';
import type { Seen } from './seen-state.js';

const { VIFD_CRASH_AT, VIFD_CRASH_COUNTS, VIFD_CRASH_LANES, VIFD_CRASH_SIGNALS } = process.env;
const counts = VIFD_CRASH_COUNTS === 'all' ? 'all' : 'changes';
/** Runs side by side, each in a network namespace of its own. */
const LANES = Number(VIFD_CRASH_LANES ?? 4);
const STOPPED_MS = 30_000;
const MORE_RUNS = 4;

type Counted = 'SIGKILL' | 'SIGTERM' | 'child';

export interface Sample {
  readonly cast: Cast;
  /** How many changes there are from one strike to the next, by itself. */
  readonly every: Readonly<Record<Counted, number>>;
  /** Stopped for 30 s after the first effect that is such. */
  readonly stoppedAt: readonly RegExp[];
}

interface Results {
  readonly failures: { readonly strike: Strike; readonly message: string }[];
  readonly times: { readonly strike: Strike['strike']; readonly took: Took }[];
}
const noResults = (): Results => ({ failures: [], times: [] });

/** One of these after the other until there is none left; shared by all lanes. */
async function strikeAll(cast: Cast, strikes: Strike[], expected: Seen, results: Results): Promise<void> {
  let scenario: CrashScenario | undefined;
  for (let strike = strikes.shift(); strike !== undefined; strike = strikes.shift()) {
    scenario ??= await CrashScenario.start({ cast, stoppedMs: strike.strike === 'SIGSTOP' ? STOPPED_MS : 0 });
    const took = await scenario.struck(strike, expected).catch((error: Error) => error);
    if (!(took instanceof Error)) {
      results.times.push({ strike: strike.strike, took });
      continue;
    }
    console.log(took.message);
    results.failures.push({ strike, message: took.message });
    scenario = undefined; // whatever that left must not be blamed on the next
  }
}

async function strikesOf({ cast, every }: Sample, strike: Counted): Promise<Strike[]> {
  const { effects } = await (await CrashScenario.start({ cast })).undisturbed(counts, strike);
  expect(effects.length).toBeGreaterThan(strike === 'child' ? 8 : 30);
  const step = VIFD_CRASH_COUNTS === undefined ? every[strike] : 1;
  // Others each time.
  const first = Math.floor(Math.random() * step);
  const chosen = effects.map((_, i) => ({ strike, at: i + 1, counts }) as const).filter((_, i) => i % step === first);
  console.log(`${strike}: ${chosen.length} of ${effects.length} effects`);
  return chosen;
}

async function chosen(sample: Sample): Promise<Strike[]> {
  const [strike, at] = VIFD_CRASH_AT?.split(' ') ?? [];
  if (strike !== undefined) return [{ strike: strike as Strike['strike'], at: Number(at), counts }];
  const signals = (VIFD_CRASH_SIGNALS?.split(',') ?? ['SIGKILL', 'SIGTERM', 'child']) as Counted[];
  return (await Promise.all(signals.map((signal) => strikesOf(sample, signal)))).flat();
}

function tell({ times }: Results): void {
  const of = (wanted: Strike['strike'], what: keyof Took) =>
    times.flatMap(({ strike, took }) => (strike === wanted && took[what] > 0 ? [took[what]] : []));
  printMeasured('killed or ended: the next one is ready', ...of('SIGKILL', 'again'), ...of('SIGTERM', 'again'));
  printMeasured('SIGTERM: it ends', ...of('SIGTERM', 'end'));
  printMeasured('stopped for 30 s: all is as undisturbed', ...of('SIGSTOP', 'again'));
}

/** Rejects when what an agent leaves that was struck is not what an undisturbed one leaves. */
export async function strikeSample(sample: Sample): Promise<void> {
  const { cast, stoppedAt } = sample;
  const results = noResults();
  const { seen, effects } = await (await CrashScenario.start({ cast })).undisturbed(counts);
  const all = await chosen(sample);
  const stops = stoppedAt.map((such): Strike => {
    const at = effects.findIndex((effect) => such.test(effect)) + 1;
    expect(at, `an effect like ${such}`).toBeGreaterThan(0);
    return { strike: 'SIGSTOP', at, counts };
  });
  const lanes = Array.from({ length: Math.min(LANES, all.length) }, () => strikeAll(cast, all, seen, results));
  const isNarrowed = VIFD_CRASH_AT !== undefined || VIFD_CRASH_SIGNALS !== undefined;
  const stopped = isNarrowed ? [] : stops.map((one) => strikeAll(cast, [one], seen, results));
  await Promise.all([...lanes, ...stopped]);
  tell(results);
  // On a machine that is too busy, all sorts of things come too late: what failed must not fail in any of some more runs with
  // nothing beside it.
  const again = noResults();
  const more = results.failures.flatMap(({ strike }) => Array.from({ length: MORE_RUNS }, () => strike));
  await strikeAll(cast, more, seen, again);
  expect(again.failures.map(({ message }) => message)).toEqual([]);
}
