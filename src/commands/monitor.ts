/** `vifd monitor`: what happens to every vif in xenstore, as it happens, with its meaning. Reads only. */
import { dirname } from 'node:path';
import { hasCode, printable } from '../errors.js';
import { WATCH_QUOTA_HINT } from '../vif/failure.js';
import { meaningOf } from '../vif/meaning.js';
import { listBackends } from '../vif/reader.js';
import { connectXenstore, type Watch, type WatchEvent, type XenstoreClient } from '../xenstore/client.js';
import {
  BACKEND_ROOT,
  type BackendKey,
  backendDir,
  frontendDir,
  type KeyText,
  keyText,
  parseBackendPath,
  parseDevid,
} from '../xenstore/paths.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

export interface MonitorOptions {
  readonly xenstore?: string;
  readonly json?: boolean;
}

/** One line of `--json`. */
export interface MonitorEvent {
  /** ISO 8601. */
  readonly time: string;
  readonly domid: number;
  readonly devid: number;
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

export async function monitor(options: MonitorOptions): Promise<void> {
  const store = await connectXenstore(options.xenstore);
  if (!options.json)
    console.log(`what happens to vifs in ${store.peer}, ${BACKEND_ROOT} and the guests' side of them; Ctrl-C ends it`);
  const print = options.json
    ? (event: MonitorEvent) => console.log(JSON.stringify(event))
    : (event: MonitorEvent) => console.log(formatEvent(event));
  const stop = () => void store.close().catch(endDespiteBlockedRead);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  process.stdout.on('error', stop); // the reader of the pipe has gone
  await new Monitor(store, print).start().catch(async (error) => {
    await store.close().catch(() => undefined); // or its open connection would keep the process
    if (!hasCode(error, 'ECANCELED')) throw error; // Ctrl-C may come at any time
  });
  const reason = await store.closed;
  if (hasCode(reason, 'ECANCELED')) return;
  await store.close().catch(endDespiteBlockedRead);
  throw reason;
}

/** Nodes whose changes are the phases of a vif's life. */
const PHASES = new Set(['state', 'online', 'hotplug-status']);

interface Guest {
  /** Its vifs. */
  readonly devids: Set<number>;
  readonly watch: Promise<Watch | undefined>;
}

class Monitor {
  /** One watch a guest, not one a vif: netback needs 3 of this domain's 128 for each of them. */
  private readonly guests = new Map<number, Guest>();
  private readonly lastPhase = new Map<KeyText, number>();
  private readonly values = new Map<string, string>();
  /** Events are read and printed in the order they came. */
  private chain: Promise<void> = Promise.resolve();
  constructor(
    private readonly store: XenstoreClient,
    private readonly print: (event: MonitorEvent) => void,
  ) {}

  async start(): Promise<void> {
    await this.store.watch(BACKEND_ROOT, ({ path }) => this.queue((at) => this.onBackend(at, path)));
    for (const key of await listBackends(this.store)) this.queue((at) => this.present(at, key));
  }

  /** The time is that of the event, however long it waits for those before it. */
  private queue(work: (at: number) => Promise<void>): void {
    const at = Date.now();
    // A closed connection ends all that waits; monitor() reports it.
    this.chain = this.chain.then(() => work(at)).catch(() => undefined);
  }

  /** A vif that was there before us. */
  private async present(at: number, key: BackendKey): Promise<void> {
    const names = await this.store.directory(backendDir(key));
    this.values.set(backendDir(key), ''); // not shown, but its end will be
    for (const name of names) await this.onBackend(at, `${backendDir(key)}/${name}`);
  }

  private async onBackend(at: number, path: string): Promise<void> {
    const place = parseBackendPath(path);
    if (place === undefined) return;
    const value = await this.store.readOptional(path);
    if (this.unchanged(path, value)) return;
    this.show(at, place.key, 'backend', path, place.node, value);
    if (value !== undefined) this.followFrontend(place.key);
    else if (place.node === '') await this.forget(place.key);
  }

  private followFrontend({ domid, devid }: BackendKey): void {
    const guest = this.guests.get(domid) ?? { devids: new Set<number>(), watch: this.watchGuest(domid) };
    this.guests.set(domid, guest);
    if (guest.devids.has(devid)) return;
    guest.devids.add(devid);
    this.queue((at) => this.onFrontend(at, { domid, devid })); // for a vif that was not there at the watch's first event
  }

  private async watchGuest(domid: number): Promise<Watch | undefined> {
    const path = dirname(frontendDir({ domid, devid: 0 }));
    const onEvent = (event: WatchEvent) => {
      const devid = parseDevid(/([0-9]+)\/state$/.exec(event.path)?.[1] ?? '');
      if (devid !== undefined) this.queue((at) => this.onFrontend(at, { domid, devid }));
    };
    return this.store.watch(path, onEvent).catch((error) => {
      if (hasCode(error, 'E2BIG', 'ENOSPC'))
        console.error(`vifd: the states of guest ${domid}'s own side cannot be shown: ${WATCH_QUOTA_HINT}`);
      return undefined;
    });
  }

  private async onFrontend(at: number, key: BackendKey): Promise<void> {
    const path = `${frontendDir(key)}/state`;
    const value = await this.store.readOptional(path);
    if (!this.unchanged(path, value)) this.show(at, key, 'frontend', path, 'state', value);
  }

  /** Events may come more than once, and the first look at a vif repeats some. */
  private unchanged(path: string, value: string | undefined): boolean {
    const same = this.values.get(path) === value && (value !== undefined || !this.values.has(path));
    if (value === undefined) this.values.delete(path);
    else this.values.set(path, value);
    return same;
  }

  private show(
    at: number,
    key: BackendKey,
    side: MonitorEvent['side'],
    path: string,
    node: string,
    value: string | undefined,
  ): void {
    const event = {
      time: new Date(at).toISOString(),
      ...key,
      side,
      path,
      node,
      value: value ?? null,
      meaning: meaningOf(side, node, value),
    };
    this.print(PHASES.has(node) ? { ...event, sincePreviousMs: this.sincePrevious(keyText(key), at) } : event);
  }

  private sincePrevious(text: KeyText, at: number): number {
    const previous = this.lastPhase.get(text) ?? at;
    this.lastPhase.set(text, at);
    return at - previous;
  }

  private async forget(key: BackendKey): Promise<void> {
    const guest = this.guests.get(key.domid);
    guest?.devids.delete(key.devid);
    if (guest?.devids.size === 0) {
      this.guests.delete(key.domid);
      await (await guest.watch)?.close();
    }
    for (const path of this.values.keys()) {
      if (path.startsWith(`${backendDir(key)}/`) || path.startsWith(`${frontendDir(key)}/`)) this.values.delete(path);
    }
    this.lastPhase.delete(keyText(key));
  }
}

/** `12:34:56.789  vif5.0  backend  state = 2  InitWait: ...  (+12 ms)`. */
export function formatEvent({ time, domid, devid, side, node, value, meaning, sincePreviousMs }: MonitorEvent): string {
  const name = node === '' ? '(directory)' : node;
  const assignment = value === null || node === '' ? name : `${name} = ${printable(value)}`;
  const delta = sincePreviousMs === undefined || sincePreviousMs === 0 ? '' : `  (+${sincePreviousMs} ms)`;
  return `${time.slice(11, 23)}  vif${domid}.${devid}  ${side.padEnd(8)}  ${assignment}${meaning === '' ? '' : `  ${meaning}`}${delta}`;
}
