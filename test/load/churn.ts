/** Guests that come and go in an order that the seed gives: each attaches, is used in some way or not, and leaves in some way. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Lanes } from '../../src/lanes.js';
import { NICDOM } from '../../src/simulator/host.js';
import { backendDir } from '../../src/simulator/nic.js';
import type { Outcome } from '../../src/simulator/toolstack.js';
import { type LoadHost, MODES, type Mode } from './load-host.js';
import type { Random } from './random.js';

const NAMES = Object.keys(MODES) as Mode[];
const CONNECTED_MAX_MS = 20_000;

export interface Wave {
  readonly guests: number;
  readonly random: Random;
  /** The first one's domain id. */
  readonly firstDomid: number;
}

/** So many guests side by side; resolves when all have left, with what went wrong. */
export async function wave(world: LoadHost, { guests, random, firstDomid }: Wave): Promise<string[]> {
  const lives = Array.from({ length: guests }, () => planLife(random)); // in the order of the guests, whatever their speed
  const fates = lives.map((life, i) =>
    live(world, firstDomid + i, life).then(
      () => [],
      (error: Error) => [`guest ${firstDomid + i} (${life.modes.join(' and ')}): ${error.message}`],
    ),
  );
  return (await Promise.all(fates)).flat();
}

/** So many guests more, which stay: their modes in turn. */
export async function stay(world: LoadHost, guests: number): Promise<void> {
  const lanes = new Lanes(20);
  const one = async (domid: number) => {
    const mode = NAMES[domid % NAMES.length] as Mode;
    expectOk(await world.host.createGuest(domid, [MODES[mode](domid)]));
    await becomes(world.host, domid, 0, '4');
  };
  const first = 10_000 + world.stayed;
  world.stayed += guests;
  await Promise.all(Array.from({ length: guests }, (_, i) => lanes.run(() => one(first + i))));
}

interface Life {
  readonly startsMs: number;
  readonly modes: readonly Mode[];
  readonly staysMs: number;
  readonly reloads: boolean;
  readonly end: 'detach' | 'destroy';
}

function planLife(random: Random): Life {
  return {
    startsMs: random.below(500),
    modes: Array.from({ length: random.below(10) === 0 ? 2 : 1 }, () => random.pick(NAMES)),
    staysMs: random.below(200),
    reloads: random.below(8) === 0,
    end: random.pick(['detach', 'destroy']),
  };
}

async function live({ host }: LoadHost, domid: number, life: Life): Promise<void> {
  const { startsMs, modes, staysMs, reloads, end } = life;
  await sleep(startsMs);
  const vifs = modes.map((mode, devid) => MODES[mode]((2 * domid + devid) & 0xffff));
  expectOk(await host.createGuest(domid, vifs));
  for (const devid of vifs.keys()) await becomes(host, domid, devid, '4');
  if (reloads) await host.netfront(domid, 0).reload();
  await sleep(staysMs);
  if (end === 'detach')
    for (const outcome of await Promise.all([...vifs.keys()].map((devid) => host.detachVif(domid, devid))))
      expectOk(outcome);
  expectOk(await host.destroyGuest(domid));
}

function expectOk({ ok, errors }: Outcome): void {
  if (!ok) throw new Error(errors.join('; '));
}

/** dom0 sees the vif connected by `state` 4, which netback writes only then. */
async function becomes(host: LoadHost['host'], domid: number, devid: number, state: string): Promise<void> {
  const dir = backendDir({ domid, devid, backendDomid: NICDOM });
  const until = performance.now() + CONNECTED_MAX_MS;
  for (;;) {
    const seen = await host.dom0.readOptional(`${dir}/state`);
    if (seen === state) return;
    if (performance.now() > until) {
      const error = await host.dom0.readOptional(`${dir}/hotplug-error`);
      throw new Error(`vif ${devid} is in state ${seen} and not ${state} (${error ?? 'no hotplug-error'})`);
    }
    await sleep(10);
  }
}
