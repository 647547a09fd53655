/** What was seen, from all sources, as one time line with its meaning. Pure: the same of a record as of the moment. */
import { meaningOf, ueventMeaning } from '../vif/meaning.js';
import { type BackendKey, type KeyText, keyText, parseBackendPath } from '../xenstore/paths.js';
import type { Entry, StoreEntry, UeventEntry, VifdEntry } from './entry.js';
import { LinkChanges, type LinkHappening } from './link-changes.js';

export interface StoreHappening extends BackendKey {
  readonly source: 'store';
  readonly side: 'backend' | 'frontend';
  /** Relative for the backend, absolute for the frontend. */
  readonly path: string;
  readonly node: string;
  /** Null when the node is gone. */
  readonly value: string | null;
  readonly meaning: string;
  /** Milliseconds since this vif's previous phase; absent when this is no phase. */
  readonly sincePreviousMs?: number;
}

export interface UeventHappening extends BackendKey {
  readonly source: 'uevent';
  readonly action: string;
  /** XENBUS_PATH. */
  readonly path: string;
  /** The interface's name as the kernel has it now; null while there is none. */
  readonly ifname: string | null;
  readonly meaning: string;
}

export interface VifdHappening {
  readonly source: 'vifd';
  readonly domid?: number;
  readonly devid?: number;
  /** Which attach of the vif. */
  readonly attach?: string;
  readonly level: string;
  /** The sentence. */
  readonly meaning: string;
  /** All of the log's record. */
  readonly record: VifdEntry['record'];
}

export type Happening = StoreHappening | UeventHappening | LinkHappening | VifdHappening;

/** Nodes whose changes are the phases of a vif's life. */
const PHASES = new Set(['state', 'online', 'hotplug-status']);

export class Timeline {
  private readonly lastPhase = new Map<KeyText, number>();
  private readonly links = new LinkChanges();

  /** `at` in milliseconds. Most entries are one happening; some are none. */
  take(at: number, entry: Entry): Happening[] {
    switch (entry.source) {
      case 'store':
        return this.store(at, entry);
      case 'uevent':
        return uevent(entry);
      case 'link':
        return this.links.take(entry);
      case 'vifd':
        return [decision(entry)];
      case 'monitor':
        return [];
      default:
        return entry satisfies never;
    }
  }

  private store(at: number, { path, value }: StoreEntry): StoreHappening[] {
    const place = parsePlace(path);
    if (place === undefined) return [];
    const { key, side, node } = place;
    const seen: StoreHappening = {
      source: 'store',
      ...key,
      side,
      path,
      node,
      value,
      meaning: meaningOf(side, node, value ?? undefined),
    };
    const shown = PHASES.has(node) ? { ...seen, sincePreviousMs: this.sincePrevious(keyText(key), at) } : seen;
    if (side === 'backend' && node === '' && value === null) this.lastPhase.delete(keyText(key));
    if (node === 'vifname' && value !== null) this.links.expect(value, key);
    return [shown];
  }

  private sincePrevious(text: KeyText, at: number): number {
    const previous = this.lastPhase.get(text) ?? at;
    this.lastPhase.set(text, at);
    return at - previous;
  }
}

function parsePlace(path: string): { key: BackendKey; side: StoreHappening['side']; node: string } | undefined {
  const backend = parseBackendPath(path);
  if (backend !== undefined) return { ...backend, side: 'backend' };
  const [, domid, devid] = /^\/local\/domain\/(\d+)\/device\/vif\/(\d+)\/state$/.exec(path) ?? [];
  const key = parseBackendPath(`backend/vif/${domid}/${devid}`)?.key;
  return key === undefined ? undefined : { key, side: 'frontend', node: 'state' };
}

function uevent({ action, devpath, env }: UeventEntry): UeventHappening[] {
  const path = env.XENBUS_PATH ?? `backend/${/\/(vif)-(\d+)-(\d+)$/.exec(devpath)?.slice(1).join('/')}`;
  const key = parseBackendPath(path)?.key;
  const ifname = env.vif ?? null;
  return key === undefined
    ? [] // of a disk, or whatever else has a backend here
    : [{ source: 'uevent', ...key, action, path, ifname, meaning: ueventMeaning(action, env.vif) }];
}

function decision({ record }: VifdEntry): VifdHappening {
  const { domid, devid, attach, level, msg } = record;
  return {
    source: 'vifd',
    ...(typeof domid === 'number' && typeof devid === 'number' ? { domid, devid } : {}),
    ...(typeof attach === 'string' ? { attach } : {}),
    level: typeof level === 'string' ? level : 'info',
    meaning: typeof msg === 'string' ? msg : '',
    record,
  };
}
