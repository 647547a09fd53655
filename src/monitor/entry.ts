/** What a monitor sees, raw: the time line is made of it, now or from a record. Pure. */
import type { Link } from '../network/rtnetlink.js';
import type { Uevent } from '../network/uevent.js';

/** Where things are seen: xenstore, the kernel's uevents, its links, and the agent's log. */
export const SOURCES = ['store', 'uevent', 'link', 'vifd'] as const;
export type Source = (typeof SOURCES)[number];

/** A node after an event; null: it is gone. */
export interface StoreEntry {
  readonly source: 'store';
  /** Relative for the backend, absolute for the frontend. */
  readonly path: string;
  readonly value: string | null;
}

export interface UeventEntry extends Uevent {
  readonly source: 'uevent';
}

export type LinkSeen = Pick<
  Link,
  'ifindex' | 'ifname' | 'up' | 'carrier' | 'address' | 'mtu' | 'txqlen' | 'master' | 'kind' | 'parentDev'
>;

export interface LinkEntry {
  readonly source: 'link';
  /** `present`: it was there before the monitor. */
  readonly change: 'present' | 'new' | 'gone';
  readonly link: LinkSeen;
}

/** A record of the agent's log, with whatever fields it has. */
export interface VifdEntry {
  readonly source: 'vifd';
  readonly record: Readonly<Record<string, unknown>>;
}

/** What the monitor itself says: where it listens, and what it misses. */
export interface OwnEntry {
  readonly source: 'monitor';
  readonly level: 'note' | 'warn';
  readonly text: string;
}

export type Entry = StoreEntry | UeventEntry | LinkEntry | VifdEntry | OwnEntry;

/** The part of a link that is recorded. */
export const linkSeen = (link: Link): LinkSeen => ({
  ifindex: link.ifindex,
  ifname: link.ifname,
  up: link.up,
  carrier: link.carrier,
  address: link.address,
  mtu: link.mtu,
  txqlen: link.txqlen,
  master: link.master,
  kind: link.kind,
  parentDev: link.parentDev,
});

type Json = Readonly<Record<string, unknown>>;
type Check = (value: unknown) => boolean;

export const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const text: Check = (value) => typeof value === 'string';
const flag: Check = (value) => typeof value === 'boolean';
const count: Check = (value) => Number.isInteger(value);
const oneOf =
  (...values: unknown[]): Check =>
  (value) =>
    values.includes(value);
const having =
  (shape: Readonly<Record<string, Check>>): Check =>
  (value) =>
    isObject(value) && Object.entries(shape).every(([name, check]) => check(value[name]));

const link = having({
  ifindex: count,
  ifname: text,
  up: flag,
  carrier: (value) => value === undefined || flag(value),
  address: text,
  mtu: count,
  txqlen: count,
  master: count,
  kind: text,
  parentDev: text,
});

const SHAPES: Readonly<Record<Entry['source'], Check>> = {
  store: having({ path: text, value: (value) => value === null || text(value) }),
  uevent: having({ action: text, devpath: text, env: (env) => isObject(env) && Object.values(env).every(text) }),
  link: having({ change: oneOf('present', 'new', 'gone'), link }),
  vifd: having({ record: isObject }),
  monitor: having({ level: oneOf('note', 'warn'), text }),
};

/** What a record's line says; undefined when this is nothing that this vifd knows. */
export function parseEntry(value: unknown): Entry | undefined {
  if (!isObject(value) || typeof value.source !== 'string' || !Object.hasOwn(SHAPES, value.source)) return undefined;
  return SHAPES[value.source as Entry['source']](value) ? (value as unknown as Entry) : undefined;
}
