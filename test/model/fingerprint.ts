/** All that the future of a world depends on, as one text: two worlds with the same one need not both be explored. */
import { createHash } from 'node:crypto';
import { Clock, EPOCH_MS } from './clock.js';
import { describePacket } from './wire-tap.js';
import type { World } from './world.js';

/** How they came about, or what they say to people, changes nothing. */
const LEFT_OUT = new Set([
  'io',
  'log',
  'programs',
  'script',
  'timer',
  'guest',
  'expected',
  'wake',
  'spent',
  'errors',
  'ignored',
  'failure',
  'drops',
  'done',
  'policy',
]);
/** Nothing of the agent's or dom0's counts for longer. */
const OLD_MS = -70_000;

export function fingerprint(world: World): string {
  const indexes = new Map([...world.kernel.links.keys()].map((ifindex, i) => [ifindex, i]));
  const links = [...world.kernel.links.values()].map((link) => ({
    ...link,
    ifindex: indexes.get(link.ifindex),
    master: indexes.get(link.master),
    cleared: world.kernel.isCleared(link.ifindex),
  }));
  const { bridge, inet, nat } = world.kernel.tables;
  const all = {
    nodes: nodesBelow(world, ''),
    links,
    guards: [bridge, inet, nat],
    routes: world.kernel.routes.map((route) => ({ ...route, ifindex: indexes.get(route.ifindex) })),
    lives: world.lives,
    spending: world.spending,
    mercy: world.judge.mercy,
    events: world.events.map(describePacket),
    heard: world.links,
    effects: world.effects.map(({ text }) => text),
    exchange: world.exchange,
    agent: world.agent?.reconciler ?? 'none',
  };
  return createHash('sha1').update(plain(all, new Set())).digest('base64');
}

function nodesBelow(world: World, path: string): string {
  const node = world.store.tree.read(path === '' ? '/' : path);
  if (node === undefined) return '';
  const below = [...node.children].sort().map((name) => nodesBelow(world, `${path}/${name}`));
  return `${path}=${Buffer.from(node.value)}\n${below.join('')}`;
}

/** Times count from now. */
function plain(value: unknown, above: Set<unknown>): string {
  if (typeof value === 'number') return value >= EPOCH_MS ? time(value) : String(value);
  if (typeof value === 'function' || value instanceof Promise) return '';
  if (typeof value !== 'object' || value === null) return String(value);
  if (above.has(value)) return '^';
  above.add(value);
  const text =
    value instanceof Map || value instanceof Set || Array.isArray(value)
      ? `[${[...value].map((one) => plain(one, above)).join()}]`
      : `{${Object.entries(value)
          .filter(([name]) => !LEFT_OUT.has(name))
          .map(([name, one]) => `${name}:${plain(one, above)}`)
          .join()}}`;
  above.delete(value);
  return text;
}

const time = (at: number): string => `t${Math.max(Math.round(at - Clock.now()), OLD_MS)}`;
