/**
 * What a guard costs: a vifd that guards every vif beside one that guards none, in the same run, in turns. And how many
 * times nft runs for a burst.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { execa, execaSync } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../agent/agent-process.js';
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

  test('a burst of 40 is one transaction of nft, or two', async () => {
    const [, guarded] = agents as [Agent, Agent];
    const monitor = execa('nsenter', [`--net=/proc/${guarded.pid}/ns/net`, 'nft', 'monitor'], { buffer: false });
    let text = '';
    monitor.catch(() => undefined); // it is ended
    monitor.stdout?.setEncoding('utf8').on('data', (more: string) => {
      text += more;
    });
    // A generation is told behind its changes; what still goes of the round before does not count.
    const transactions = () => text.split('# new generation').filter((changes) => changes.includes('add element'));
    await sleep(500);
    let during = 0;
    await observer.round(guarded, 40, async (ended) => {
      await eventually(ended, 60_000);
      await sleep(200);
      during = transactions().length;
    });
    monitor.kill('SIGTERM');
    console.log(`transactions of nft for 40 vifs at once: ${during}`);
    expect(during).toBeGreaterThan(0);
    expect(during).toBeLessThanOrEqual(2);
  });
});
