/**
 * Long random ways with faults at every step: requests refused, late or never answered, events lost, doubled and out of order,
 * the agent killed, other programs' hands. Then all of that ends, everything must come right by itself, and
 * what dom0 asks for after that is done as if nothing had been.
 */
import { keyText } from '../../src/xenstore/paths.js';
import { Clock } from './clock.js';
import { goOn } from './explore.js';
import { type Effect, World, type WorldOptions } from './world.js';

export interface Chaos {
  readonly seed: number;
  /** Moves while faults are about. */
  readonly moves: number;
}

/** What each kind of request can be refused with. */
const KERNEL_ERRNOS = 'EPERM EBUSY EEXIST ENODEV EINVAL ENOBUFS ENOMEM ETIMEDOUT EAGAIN'.split(' ');
const STORE_ERRNOS = 'ENOSPC E2BIG EACCES ENOENT EIO EINVAL'.split(' ');
const LATE_MS = 30_000;

/** mulberry32: the same numbers for the same seed, between 0 and 1. */
function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** Resolves with the first thing that was wrong, or undefined. */
export async function wreak(options: WorldOptions, { seed, moves }: Chaos): Promise<{ fault?: string; world: World }> {
  Clock.clear();
  const random = numbers(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
  const world = await World.begin({ ...options, fine: true, reconnects: true });
  const { judge } = world;
  judge.refusing = judge.otherHands = true;
  const badness = pick([0, 0.01, 0.05, 0.3]);
  const storms = new Map<string, string>(); // kind of request → errno, for a while
  world.onEffect = (effect) => trouble(effect, { random, pick, badness, storms });
  for (let i = 0; i < moves && judge.faults.length === 0; i++) {
    if (random() < 0.02) await otherHand(world, pick, random);
    if (random() < 0.02) storms.set(pick(['setLink', 'setGuard', 'TRANSACTION_END', 'WRITE', 'getLink']), '');
    if (random() < 0.1) storms.clear();
    shake(world, random);
    const possible = world.moves();
    const quick = possible.filter(({ when }) => when !== 'free');
    const { name } = pick(random() < 0.8 && quick.length > 0 ? quick : possible);
    world.way.push(name);
    await world.make(name);
  }
  world.onEffect = () => undefined;
  world.addBridge();
  await untilQuiet(world);
  judge.calm();
  await leaveAndCome(world);
  const [fault] = judge.faults;
  world.end();
  return fault === undefined ? { world } : { world, fault };
}

async function untilQuiet(world: World): Promise<void> {
  world.way.push(...(await goOn(world, [], new Set(), () => undefined)));
}

/** All go, and come again: nothing of what was is an excuse. */
export async function leaveAndCome(world: World): Promise<void> {
  for (const move of ['detach', 'attach']) {
    for (const vif of world.options.vifs) {
      const name = `${keyText(vif)}:${move}`;
      if (world.judge.faults.length > 0 || !world.moves().some((one) => one.name === name)) continue;
      world.way.push(name);
      await world.make(name);
    }
    await untilQuiet(world);
  }
}

interface Luck {
  readonly random: () => number;
  readonly pick: <T>(from: readonly T[]) => T;
  readonly badness: number;
  readonly storms: Map<string, string>;
}

function trouble(effect: Effect, { random, pick, badness, storms }: Luck): 'served' | undefined {
  const [kind = ''] = effect.text.split(' ');
  const stormy = storms.has(kind);
  if (!stormy && random() >= badness) return undefined;
  const isStore = kind === kind.toUpperCase();
  const fate = random();
  if (isStore && kind !== 'WATCH' && fate < 0.05) return 'served'; // never
  if (isStore && fate < 0.1) {
    setTimeout(() => effect.serve(), LATE_MS);
    return 'served';
  }
  if (kind === 'WATCH' || kind === 'listLinks' || kind.startsWith('list') || kind === 'getGuard') return undefined;
  if (kind === 'TRANSACTION_END') effect.refuse(pick(['EAGAIN', 'EAGAIN', 'ENOSPC', 'EIO']));
  else effect.refuse(pick(isStore ? STORE_ERRNOS : KERNEL_ERRNOS));
  return 'served';
}

/** Events are lost, doubled, and come in another order. */
function shake(world: World, random: () => number): void {
  if (random() > 0.1) return;
  const shaken = world.events.flatMap((event) => (random() < 0.2 ? [] : random() < 0.2 ? [event, event] : [event]));
  world.events = shaken
    .map((event) => ({ event, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ event }) => event);
  world.links = world.links.filter(() => random() > 0.2);
}

async function otherHand(world: World, pick: <T>(from: readonly T[]) => T, random: () => number): Promise<void> {
  const { kernel } = world;
  world.judge.touch();
  const vif = pick(world.options.vifs);
  const link = world.linkOf(vif);
  const fate = random();
  if (fate < 0.2) await kernel.remove('br0');
  else if (fate < 0.4) world.addBridge();
  else if (fate < 0.6 && link !== undefined)
    kernel.change(link.ifname, pick([{ up: false }, { master: 0 }, { txqlen: 32 }]));
  else if (fate < 0.7) kernel.tables.bridge.clear();
  else if (fate < 0.8) kernel.routes = [];
  else if (fate < 0.9) await world.vanish(vif);
}
