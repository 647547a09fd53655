/**
 * What a guard costs: a vifd that guards every vif beside one that guards none, in the same run, in turns. And how many
 * times nft runs for a burst.
 */
import { execaSync } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Observer } from './measure.js';
import { align, median, quantile } from './report.js';
import { type Agent, Stage } from './stage.js';

const PLAN = [
  { count: 1, rounds: 40 },
  { count: 40, rounds: 4 },
];
/** A guard against a gross loss on any machine; the bar is 3, and the figures that count are printed. */
const MOST_RATIO = 6;

const missing = execaSync('nft', ['--version'], { reject: false }).failed;

describe.skipIf(missing)(`guard${missing ? ' (skipped: not installed: nft)' : ''}`, () => {
  let stage: Stage;
  let observer: Observer;
  let agents: Agent[];

  beforeAll(async () => {
    stage = await Stage.open();
    agents = [await stage.startPlain(), await stage.startConfigured('guarded', '[vif]\nguard = "mac"\n')];
    observer = await Observer.open(stage);
  });
  afterAll(async () => {
    await observer?.close();
    await stage?.close();
  });

  test('with and without, in turns', async () => {
    const lines = [['', 'without', 'with', 'ratio']];
    for (const { count, rounds } of PLAN) {
      const ms = agents.map((): number[] => []);
      for (let i = 0; i < rounds; i++)
        for (const [n, agent] of agents.entries()) ms[n]?.push(Math.max(...(await observer.round(agent, count)).ms));
      const [without = Number.NaN, guarded = Number.NaN] = ms.map(median);
      const most = ms.map(
        (values) =>
          `${quantile(values, 0.5).toFixed(1)} (${quantile(values, 0).toFixed(1)}-${quantile(values, 1).toFixed(1)}) ms`,
      );
      lines.push([count === 1 ? '1 vif' : `${count} at once, last`, ...most, (guarded / without).toFixed(1)]);
      expect(guarded / without).toBeLessThan(MOST_RATIO);
    }
    console.log(`\n${align(lines)}\n`);
  });
});
