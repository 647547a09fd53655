/** Seeds that are the same each time, and some that never are; `npm run explore` tries more. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Clock } from './clock.js';
import { countLooks } from './judge.js';
import { wreak } from './random.js';
import type { WorldOptions } from './world.js';

// The one thing that would be waited for in real time.
vi.mock('../../src/network/sysctl.js', () => ({ readSysctl: async () => '1' }));

beforeAll(() => {
  Clock.start();
  countLooks();
});
afterAll(() => Clock.stop());

const mac = (last: number): string => `00:16:3e:00:00:0${last}`;
const WORLD: WorldOptions = {
  vifs: [
    { domid: 5, devid: 0 },
    { domid: 5, devid: 1, nic: { vifname: 'web', ip: '192.0.2.7', mac: mac(1) } },
    { domid: 6, devid: 0, nic: { vifname: 'web', ip: '192.0.2.8', mac: mac(2) } },
    { domid: 7, devid: 0, nic: { script: 'vif-route', ip: '198.51.100.7', mac: mac(3), gatewaydev: 'br0' } },
    { domid: 8, devid: 0, nic: { ip: '192.0.2.9', mac: mac(4), mtu: 9000 } },
  ],
};
const MOVES = 400;

const only = process.env.VIFD_MODEL_SEED;
const count = Number(process.env.VIFD_MODEL_SEEDS ?? 8);
const fresh = Array.from({ length: count }, () => Math.floor(Math.random() * 2 ** 31));
const seeds = only === undefined ? [...Array.from({ length: count }, (_, i) => i + 1), ...fresh] : [Number(only)];

test.each(seeds)('seed %i', async (seed) => {
  const { fault, world } = await wreak(WORLD, { seed, moves: MOVES });
  if (only !== undefined) console.log([...world.way, ...world.said].join('\n'));
  const again = `VIFD_MODEL_SEED=${seed} npx vitest run --project model test/model/random.test.ts`;
  expect(fault, again).toBeUndefined();
});
