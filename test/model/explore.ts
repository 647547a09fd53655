/**
 * All ways in which a small world can go. From every state the world goes its natural way until it is quiet; each other move that
 * was possible on that way is one liberty taken, from where it goes its natural way again. Ways with fewer liberties come first,
 * so the first fault found has a short way to it. Each way is played from the beginning; a state that was seen before is not
 * followed again.
 */
import { appendFileSync } from 'node:fs';
import { Clock } from './clock.js';
import { fingerprint } from './fingerprint.js';
import { type Possible, World, type WorldOptions } from './world.js';

export interface Explored {
  /** Different ones. */
  readonly states: number;
  /** Ways played from the beginning. */
  readonly paths: number;
  /** Ways with so many liberties have all been played. */
  readonly liberties: number;
  /** Every state that the world's limits allow was seen. */
  readonly complete: boolean;
  readonly fault: Fault | undefined;
}

export interface Fault {
  readonly path: readonly string[];
  readonly says: string;
}

/** Urgent things first, then what has to be done; free moves only where all is quiet otherwise. */
export function naturalMove(possible: readonly Possible[]): string | undefined {
  const next =
    possible.find(({ when }) => when === 'urgent') ??
    possible.find(({ when, name }) => when === 'soon' && name !== 'time') ??
    possible.find(({ name }) => name === 'time');
  return next?.name;
}

/** Plays a way from the beginning; what stands in it must be possible. */
export async function play(options: WorldOptions, path: readonly string[]): Promise<World> {
  Clock.clear();
  const world = await World.begin(options);
  for (const name of path) {
    if (!world.moves().some((move) => move.name === name))
      throw new Error(
        `${name} is not possible, but ${world
          .moves()
          .map((one) => one.name)
          .join(', ')} in ${path.join(' ')}`,
      );
    await world.make(name);
  }
  return world;
}

export interface Bounds {
  readonly paths: number;
  /** Paths between two lines of how far it is. */
  readonly every: number;
  readonly tell: (soFar: string) => void;
}

export async function explore(options: WorldOptions, bounds: Bounds): Promise<Explored> {
  const seen = new Set<string>();
  let paths = 0;
  let level: (readonly string[])[] = [[]];
  for (let liberties = 0; level.length > 0; liberties++) {
    const next: (readonly string[])[] = [];
    for (const path of level) {
      const said = { states: seen.size, paths, liberties: liberties - 1, complete: false };
      if (paths++ >= bounds.paths) return { ...said, fault: undefined };
      if (said.paths > 0 && said.paths % bounds.every === 0)
        bounds.tell(`${seen.size} states by ${said.paths} paths so far`);
      const world = await play(options, path);
      const way = await goOn(world, path, seen, (other) => void next.push(other));
      world.end();
      const says = world.judge.faults[0];
      if (says !== undefined) return { ...said, fault: { path: way, says } };
    }
    level = next;
  }
  return { states: seen.size, paths, liberties: Number.POSITIVE_INFINITY, complete: true, fault: undefined };
}

/** The natural way until the world is quiet, or in a state that was seen before. Resolves with all that was played. */
export async function goOn(
  world: World,
  from: readonly string[],
  seen: Set<string>,
  onLiberty: (path: readonly string[]) => void,
): Promise<readonly string[]> {
  const { judge } = world;
  const mine = new Map<string, number>();
  let path = from;
  while (judge.faults.length === 0) {
    const print = fingerprint(world);
    const before = mine.get(print);
    if (before !== undefined) {
      judge.verdict(judge.changes.slice(before)); // it goes round in circles: all is quiet
      break;
    }
    if (seen.has(print)) break;
    seen.add(print);
    mine.set(print, judge.changes.length);
    const possible = world.moves();
    const next = naturalMove(possible);
    for (const { name } of possible) if (name !== next) onLiberty([...path, name]);
    if (next === undefined) throw new Error(`nothing can happen after ${path.join(' ')}`);
    if (mine.size > 2_000) judge.accuse('never quiet');
    path = [...path, next];
    await world.make(next);
  }
  return path;
}

/** For a person: what was seen, or the way to a fault and how to walk it again. */
export function report(name: string, { states, paths, liberties, complete, fault }: Explored): string {
  const extent = complete ? 'all there are' : `all with ${liberties} liberties`;
  const again = `VIFD_MODEL_WORLD=${name} VIFD_MODEL_PATH='${fault?.path.join(' ')}' npx vitest run --project model test/model/explore.test.ts`;
  const text =
    fault === undefined
      ? `${name}: ${states} states by ${paths} paths, ${extent}`
      : `${name}: ${fault.says}\n  again: ${again}`;
  console.log(text);
  if (process.env.VIFD_MODEL_REPORT) appendFileSync(process.env.VIFD_MODEL_REPORT, `${text}\n`);
  return text;
}
