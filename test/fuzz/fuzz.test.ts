/** Every reader of what others write: its kept inputs and a bounded number of new ones. The long run is `npm run fuzz`. */
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parsePattern } from '../../src/vif/pattern.js';
import { campaign, judge } from './campaign.js';
import { keptOf } from './corpus.js';
import { Coverage } from './coverage.js';
import { bytesOf, type Target } from './target.js';
import { TARGETS } from './targets.js';

/** At each run other ones; the message of a failure names it. */
const SEED = Number(process.env.VIFD_FUZZ_SEED ?? Date.now() % 1_000_000);
const CASES = 250;

describe.each(TARGETS.map((target) => [target.name, target] as const))('%s', (_, target) => {
  test('keeps its promises for the inputs that were kept', async () => {
    expect(keptOf(target.name).length).toBeGreaterThan(0);
    for (const { file, input } of keptOf(target.name))
      expect([file, (await judge(target, input))?.reason]).toEqual([file, undefined]);
  });
  test('and for new ones', async () => {
    const cases = Math.ceil(CASES * Math.min(1, 10 * (target.share ?? 1)));
    const { failure } = await campaign(target, { cases, seed: SEED, guided: false });
    const again = `npm run fuzz -- --target ${target.name} --seed ${SEED} --cases ${cases}`;
    expect(failure && { ...failure, again }).toBeUndefined();
  });
});

const exported = (readdirSync('src', { recursive: true }) as string[])
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) =>
    [
      ...readFileSync(`src/${file}`, 'utf8').matchAll(
        /^export (?:async )?(?:function\*?|const) ((?:parse|decode)\w+)/gm,
      ),
    ].map(([, name]) => `${file} ${name}`),
  );

const said = TARGETS.flatMap(({ reads }) =>
  Object.entries(reads).flatMap(([file, names]) => names.map((name) => `${file} ${name}`)),
);

describe('no reader is forgotten', () => {
  test('all that src/ exports as parse… or decode…, and all that a target says it reads, is run by a target', async () => {
    const coverage = new Coverage();
    coverage.start();
    for (const target of TARGETS) for (const { input } of keptOf(target.name)) await judge(target, input);
    const ran = coverage.functions();
    coverage.stop();
    expect(exported.length).toBeGreaterThan(45);
    expect([...exported, ...said].filter((one) => !ran.has(one))).toEqual([]);
  });
  test('each parse… and decode… stands in the table', () => {
    expect(exported.filter((one) => !said.includes(one))).toEqual([]);
  });
});

describe('what judges them', () => {
  const target = (run: Target['run']): Target => ({ ...(TARGETS[0] as Target), run });
  const broken: [string, Target['run'], RegExp][] = [
    ['an error that is none of vifd', () => JSON.parse('{'), /SyntaxError/],
    ['a promise that is broken later', async () => Promise.reject(new TypeError('late')), /TypeError: late/],
    [
      'a case that takes too long',
      () => {
        const before = process.cpuUsage();
        while (process.cpuUsage(before).user < 60_000);
      },
      /more than 20 ms/,
    ],
  ];
  test.each(broken)('finds %s', async (_, run, reason) =>
    expect((await judge(target(run), bytesOf('x'), 20))?.reason).toMatch(reason),
  );
  test('the same seed makes the same cases', async () => {
    const inputs = async (seed: number) => {
      const seen: string[] = [];
      const run = (input: Uint8Array) => void seen.push(Buffer.from(input).toString('hex'));
      await campaign(target(run), { cases: 600, seed, guided: false });
      return seen;
    };
    expect(await inputs(7)).toEqual(await inputs(7));
    expect(await inputs(7)).not.toEqual(await inputs(8));
  });
  test('an input that reaches code that none before has reached is found', async () => {
    const found: string[] = [];
    const run = (input: Uint8Array) => void (input.length % 7 === 3 && parsePattern('*'));
    const hooks = { found: (input: Uint8Array) => found.push(String(input.length % 7)) };
    const lengths = fc.uint8Array({ minLength: 7, maxLength: 7 });
    await campaign({ ...target(run), name: 'none', seeds: lengths }, { cases: 3000, seed: 1, guided: true }, hooks);
    expect(found).toEqual(['3']);
  });
});
