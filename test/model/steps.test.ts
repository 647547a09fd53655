/** At every single request of an attach something goes wrong once: all comes right by itself, and what dom0 asks for then as if nothing had been. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Clock } from './clock.js';
import { goOn } from './explore.js';
import { countLooks } from './judge.js';
import { leaveAndCome } from './random.js';
import { type Effect, World } from './world.js';

// The one thing that would be waited for in real time.
vi.mock('../../src/network/sysctl.js', () => ({ readSysctl: async () => '1' }));

beforeAll(() => {
  Clock.start();
  countLooks();
});
afterAll(() => Clock.stop());

const KEY = { domid: 5, devid: 0 };
const KINDS = {
  bridge: {},
  guarded: { vifname: 'web', ip: '192.0.2.7', mac: '00:16:3e:00:00:01', mtu: 9000 },
  nat: { script: 'vif-nat', mac: '00:16:3e:00:00:01', ip: '192.0.2.7', gatewaydev: 'br0' },
};

type Trouble = (effect: Effect, world: World) => void | Promise<void>;
const refused =
  (errno: string): Trouble =>
  (effect) =>
    effect.refuse(errno);

const KERNEL: Record<string, Trouble> = Object.fromEntries(
  'EPERM EBUSY EEXIST ENODEV EINVAL ENOBUFS ENOMEM ETIMEDOUT EAGAIN ENETDOWN'
    .split(' ')
    .map((errno) => [errno, refused(errno)]),
);
const STORE: Record<string, Trouble> = {
  ...Object.fromEntries('ENOSPC E2BIG EACCES EIO EINVAL EAGAIN'.split(' ').map((errno) => [errno, refused(errno)])),
  'no answer': () => undefined,
  'an answer after 30 s': (effect) => void setTimeout(() => effect.serve(), 30_000),
  'no directory any more': async (effect, world) => {
    await world.vanish({ ...KEY });
    effect.serve();
  },
};

/** Attaches; trouble comes at the request of this number. Resolves with how many requests there were until all was quiet. */
async function attach(
  nic: object,
  at: number,
  trouble: Trouble,
  isOfKernel: boolean,
): Promise<{ count: number; faults: string[] }> {
  Clock.clear();
  const world = await World.begin({ vifs: [{ ...KEY, nic }], reconnects: true });
  world.judge.refusing = true;
  let count = 0;
  world.onEffect = (effect) => {
    const [kind = ''] = effect.text.split(' ');
    const mayFail = !/^(list(?!Addresses)|getGuard)/.test(kind) && isOfKernel === (kind !== kind.toUpperCase());
    if (!mayFail || count++ !== at) return undefined;
    void trouble(effect, world);
    return 'served';
  };
  await world.make('5/0:attach');
  await goOn(world, [], new Set(), () => undefined);
  world.onEffect = () => undefined;
  world.judge.calm();
  if (at % 4 === 0) await leaveAndCome(world); // it takes as long as the rest
  world.end();
  return { count, faults: [...world.judge.faults] };
}

/** Undisturbed, `connected` is at most the 18th request to the kernel, and the 38th to xenstore. */
describe.each(Object.entries(KINDS))('%s', (_, nic) => {
  test.each(Object.entries(KERNEL))('a request to the kernel: %s', async (_, trouble) => {
    for (let at = 0; at < 20; at++) expect((await attach(nic, at, trouble, true)).faults, `request ${at}`).toEqual([]);
  });
  test.each(Object.entries(STORE))('a request to xenstore: %s', async (_, trouble) => {
    for (let at = 0; at < 42; at++) expect((await attach(nic, at, trouble, false)).faults, `request ${at}`).toEqual([]);
  });
});
