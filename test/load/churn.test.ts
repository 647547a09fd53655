/** A thousand guests come and go, in every mode and in an order that a seed gives; nothing of them stays. */
import { afterEach, expect, test } from 'vitest';
import { memoryMiB } from '../bench/process-figures.js';
import { wave } from './churn.js';
import { calmHeap, kept } from './leaks.js';
import { LoadHost } from './load-host.js';
import { Random } from './random.js';
import { nothingStays, takeTraces } from './traces.js';

const SEED = Number(process.env.VIFD_LOAD_SEED ?? Date.now() % 1_000_000);
const GUESTS = 100;
const WAVES = 10;
/** What each guest may cost for ever: half of what the least real leak costs, an object with a name or two. */
const KEPT_MAX_BYTES = 1_000;

let world: LoadHost;
afterEach(() => world?.close());

test(`a thousand guests (VIFD_LOAD_SEED=${SEED} repeats it)`, async () => {
  world = await LoadHost.start();
  const random = new Random(SEED);
  let domid = 10;
  const next = async (guests: number, leaks = 0) => {
    expect(await wave(world, { guests, random, firstDomid: domid })).toEqual([]);
    domid += guests;
    for (let i = 0; i < leaks; i++) world.probe.leak(2_048);
    return calmHeap(world);
  };
  await next(40); // what is made once is there then
  const before = takeTraces(world.agent.pid, world.host);
  const heap: number[] = [];
  const rss: number[] = [];
  for (let i = 0; i < WAVES; i++) {
    heap.push(await next(GUESTS));
    rss.push(memoryMiB(world.agent.pid, 'VmRSS'));
    await nothingStays(world, before);
  }
  const perGuest = kept(heap.slice(WAVES / 2), GUESTS);
  console.log(
    `heap after each wave, kB: ${kB(heap)}; kept per guest over the second half: ${perGuest.toFixed(0)} bytes`,
  );
  console.log(`resident, MiB: ${rss.map((one) => one.toFixed(1)).join(' ')}`);
  expect(perGuest).toBeLessThan(KEPT_MAX_BYTES);

  const leaky: number[] = [];
  for (let i = 0; i < 4; i++) leaky.push(await next(20, GUESTS)); // as many leaks as a whole wave would have
  const planted = kept(leaky, GUESTS);
  console.log(
    `with a leak of 2048 bytes a guest planted, kB: ${kB(leaky)}; kept per guest: ${planted.toFixed(0)} bytes`,
  );
  expect(planted).toBeGreaterThan(KEPT_MAX_BYTES);
  expect(world.agent.stderr).toBe('');
});

const kB = (samples: readonly number[]) => samples.map((one) => Math.round(one / 1024)).join(' ');
