/** Small worlds, explored to the end or as far as there is time; `npm run explore` goes deeper. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Clock } from './clock.js';
import { explore, goOn, play, report } from './explore.js';
import { countLooks } from './judge.js';
import type { WorldOptions } from './world.js';

// The one thing that would be waited for in real time.
vi.mock('../../src/network/sysctl.js', () => ({ readSysctl: async () => '1' }));

beforeAll(() => {
  Clock.start();
  countLooks();
});
afterAll(() => Clock.stop());

const ONE = [{ domid: 5, devid: 0 }];
const NONE = { flap: 0, leave: 0, fail: 0, crash: 0, 'lose-events': 0, 'lose-links': 0, close: 0, reopen: 0 };
const WEB = { vifname: 'web', ip: '192.0.2.7', mac: '00:16:3e:00:00:01' };
/** Two guests whose vif is to have the same name, as for a moment when one reboots. */
const TWINS = [
  { domid: 5, devid: 0, nic: WEB },
  { domid: 6, devid: 0, nic: { ...WEB, mac: '00:16:3e:00:00:02' } },
];

const WORLDS: Record<string, WorldOptions> = {
  'one-life': { vifs: ONE, limits: { ...NONE, attach: 1, boot: 1 } },
  'two-lives': { vifs: ONE, limits: { ...NONE, attach: 2, boot: 1, fail: 1 } },
  'agent-crashes': { vifs: ONE, limits: { ...NONE, attach: 2, boot: 1, crash: 1 } },
  'events-are-lost': { vifs: ONE, limits: { ...NONE, attach: 2, boot: 1, 'lose-events': 2, 'lose-links': 1 } },
  'guest-plays': { vifs: ONE, limits: { ...NONE, attach: 1, boot: 2, close: 1, reopen: 1, flap: 2, leave: 1 } },
  blamed: { vifs: ONE, limits: { ...NONE, attach: 2, fail: 1, crash: 1, 'lose-events': 1, flap: 1 } },
  'two-vifs': {
    vifs: [...ONE, { domid: 6, devid: 0 }],
    limits: { ...NONE, attach: 1, boot: 1 },
  },
  'one-name': {
    vifs: TWINS,
    limits: { ...NONE, attach: 1, boot: 0 },
  },
  'one-name-every-request': { vifs: TWINS, fine: true, limits: { ...NONE, attach: 1, boot: 0 } },
  'every-request': { vifs: ONE, fine: true, limits: { ...NONE, attach: 1, boot: 1 } },
};

const many = Number(process.env.VIFD_MODEL_PATHS ?? 60);

const { VIFD_MODEL_WORLD: only, VIFD_MODEL_PATH: path } = process.env;

test.each(Object.keys(WORLDS).filter((name) => only === undefined || name === only))(
  '%s',
  async (name) => {
    const options = WORLDS[name] as WorldOptions;
    if (path !== undefined) {
      const world = await play(options, path.split(' ').filter(Boolean));
      await goOn(world, path.split(' '), new Set(), () => undefined);
      console.log(world.said.join('\n'));
      return expect(world.judge.faults).toEqual([]);
    }
    const tell = (soFar: string) => console.log(`${name}: ${soFar}`);
    const explored = await explore(options, { paths: many, every: 200, tell });
    expect(explored.fault, report(name, explored)).toBeUndefined();
  },
  600_000,
);

test('who waits for a long one is told how far it is', async () => {
  const told: string[] = [];
  await explore(WORLDS['one-life'] as WorldOptions, { paths: 5, every: 2, tell: (soFar) => told.push(soFar) });
  expect(told).toEqual([
    expect.stringMatching(/^\d+ states by 2 paths so far$/),
    expect.stringMatching(/^\d+ states by 4 paths so far$/),
  ]);
});

/** Ways that went wrong once; each fails without its remedy. */
const WRONG_ONCE: [why: string, world: keyof typeof WORLDS, path: string][] = [
  [
    'two vifs on their way to one name: the second guard took the place of the first',
    'one-name',
    '5/0:attach 6/0:attach 5/0:probe 6/0:probe 5/0:added 6/0:added 5/0:make 6/0:make events',
  ],
  [
    "a vif was blamed for the kernel's error of the one before it, which went while no vifd was there",
    'blamed',
    '5/0:attach 5/0:probe 5/0:added 5/0:destroy crash 5/0:fail time time 5/0:close-timeout 5/0:dropped start events 5/0:attach 5/0:probe 5/0:added 5/0:make 5/0:flap',
  ],
  [
    'likewise, of one whose directory dom0 removed by itself',
    'blamed',
    '5/0:attach 5/0:probe 5/0:added 5/0:fail 5/0:destroy lose-events time time time 5/0:close-timeout 5/0:dropped events 5/0:attach 5/0:probe 5/0:added 5/0:make 5/0:flap',
  ],
];

test.skipIf(only !== undefined).each(WRONG_ONCE)('%s', async (_, name, way) => {
  const path = way.split(' ');
  const world = await play(WORLDS[name] as WorldOptions, path);
  await goOn(world, path, new Set(), () => undefined);
  expect(world.judge.faults).toEqual([]);
});
