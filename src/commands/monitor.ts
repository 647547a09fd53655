/** `vifd monitor`: what happens to every vif in xenstore, as it happens, with its meaning. Reads only. */
import { dirname } from 'node:path/posix';
import { ConnectionError, hasCode, printable, VifdError } from '../errors.js';
import { asciiJson } from '../text.js';
import { WATCH_QUOTA_HINT } from '../vif/failure.js';
import { meaningOf } from '../vif/meaning.js';
import { listBackends } from '../vif/reader.js';
import { connectXenstore, type Watch, type XenstoreClient } from '../xenstore/client.js';
import {
  BACKEND_ROOT,
  type BackendKey,
  backendDir,
  frontendDir,
  type KeyText,
  keyText,
  parseBackendPath,
} from '../xenstore/paths.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

export interface MonitorOptions {
  readonly xenstore?: string;
  readonly json?: boolean;
}

/** One line of `--json`. */
export interface MonitorEvent {
  /** ISO 8601; when the event came, however long the reading of its value took. */
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

/** Where it goes: events to a person or a program, what is for a person only, and what is wrong. */
export interface MonitorOutput {
  event(event: MonitorEvent): void;
  note(text: string): void;
  warn(text: string): void;
}

export async function monitor(options: MonitorOptions): Promise<void> {
  const store = await connectXenstore(options.xenstore);
  const stop = () => void store.close().catch(endDespiteBlockedRead);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  process.stdout.on('error', stop); // the reader of the pipe has gone
  await new Monitor(store, outputOf(options)).start().catch(async (error) => {
    await store.close().catch(endDespiteBlockedRead); // or its open connection would keep the process
    if (!hasCode(error, 'ECANCELED')) throw error; // Ctrl-C may come at any time
  });
  const reason = await store.closed;
  if (hasCode(reason, 'ECANCELED')) return;
  await store.close().catch(endDespiteBlockedRead);
  throw reason;
}

function outputOf({ json }: MonitorOptions): MonitorOutput {
  const warn = (text: string) => console.error(`vifd: ${text}`);
  if (json) return { event: (event) => console.log(asciiJson(event)), note: () => undefined, warn };
  return { event: (event) => console.log(formatEvent(event)), note: (text) => console.log(text), warn };
}

/** Nodes whose changes are the phases of a vif's life. */
const PHASES = new Set(['state', 'online', 'hotplug-status']);

type Show = (value: string | undefined) => void | Promise<void>;

/** What is known of a guest while it has vifs here. */
interface Guest {
  readonly vifs: Map<number, BackendKey>;
  /** Undefined when it was refused. */
  watch?: Watch | undefined;
}

/**
 * INVARIANTS
 * - Events are printed in the order they came, each with its own time; what its node holds is read at once.
 * - A value read when the node's next event is there already belongs to that one, and is left to it.
 * - One watch for the backends and one a guest: netback needs the same quota, three for each vif.
 */
export class Monitor {
  private readonly guests = new Map<number, Guest>();
  private readonly lastPhase = new Map<KeyText, number>();
  private readonly values = new Map<string, string>();
  /** By path, the last event that is not printed yet. */
  private readonly newest = new Map<string, symbol>();
  private chain: Promise<void> = Promise.resolve();
  private quotaExplained = false;
  constructor(
    private readonly store: XenstoreClient,
    private readonly output: MonitorOutput,
  ) {}

  async start(): Promise<void> {
    this.output.note(
      `listening on ${this.store.peer} to every vif in ${BACKEND_ROOT} and to the state of its guest's side; changes nothing; Ctrl-C ends it`,
    );
    this.output.note(
      'times are UTC; (+N ms): since the last change of state, online or hotplug-status of the same vif',
    );
    await this.store.watch(BACKEND_ROOT, ({ path }) => this.onBackendEvent(path)).catch(explainQuota);
    const present = await listBackends(this.store);
    this.output.note(present.length === 0 ? 'no vif is here now' : `here now: ${present.map(nameOf).join(' ')}`);
    const at = Date.now();
    for (const key of present) this.queue(() => this.present(at, key));
  }

  private onBackendEvent(path: string): void {
    const at = Date.now();
    if (parseBackendPath(path) === undefined) this.queue(() => this.onParent(at, path));
    else this.onEvent(path, (value) => this.onBackend(at, path, value));
  }

  private onEvent(path: string, show: Show): void {
    const event = Symbol(path);
    this.newest.set(path, event);
    const reading = this.store
      .readOptional(path)
      .then((value) => ({ value, overtaken: this.newest.get(path) !== event }));
    reading.catch(() => undefined); // its turn to fail comes in the queue
    this.queue(async () => {
      const { value, overtaken } = await reading.finally(() => {
        if (this.newest.get(path) === event) this.newest.delete(path);
      });
      if (!overtaken) await show(value);
    });
  }

  private queue(work: () => Promise<void>): void {
    this.chain = this.chain.then(work).catch((error) => {
      // A closed connection ends all that waits; monitor() reports it.
      if (!(error instanceof ConnectionError)) this.output.warn(`an event is not shown: ${(error as Error).message}`);
    });
  }

  /** A vif that was there before us. */
  private async present(at: number, key: BackendKey): Promise<void> {
    const dir = backendDir(key);
    const names = await this.store.directory(dir).catch((error) => {
      if (hasCode(error, 'ENOENT', 'EACCES')) return []; // gone again
      throw error;
    });
    for (const path of [dir, ...names.map((name) => `${dir}/${name}`)])
      await this.look(path, (value) => this.onBackend(at, path, value));
  }

  /** Without an event. */
  private async look(path: string, show: Show): Promise<void> {
    const value = await this.store.readOptional(path);
    if (!this.newest.has(path)) await show(value);
  }

  private async onBackend(at: number, path: string, value: string | undefined): Promise<void> {
    const place = parseBackendPath(path);
    if (place === undefined || this.unchanged(path, value)) return;
    this.show(at, place.key, 'backend', path, place.node, value);
    if (value !== undefined) await this.follow(at, place.key);
    else if (place.node === '') await this.forget(place.key);
  }

  /** A removed tree makes one event, for its root: perhaps of a guest's directory, with its vifs in it. */
  private async onParent(at: number, path: string): Promise<void> {
    for (const dir of this.vifs().map(backendDir))
      if (dir.startsWith(`${path}/`))
        await this.look(dir, async (value) => {
          if (value === undefined) await this.onBackend(at, dir, value);
        });
  }

  private vifs(): BackendKey[] {
    return [...this.guests.values()].flatMap(({ vifs }) => [...vifs.values()]);
  }

  private async follow(at: number, key: BackendKey): Promise<void> {
    const guest: Guest = this.guests.get(key.domid) ?? { vifs: new Map() };
    if (guest.vifs.has(key.devid)) return;
    this.guests.set(key.domid, guest);
    guest.vifs.set(key.devid, key);
    guest.watch ??= await this.watchFrontends(key);
    await this.look(stateOf(key), (value) => this.onFrontend(at, key, value));
  }

  private watchFrontends(key: BackendKey): Promise<Watch | undefined> {
    return this.store
      .watch(dirname(frontendDir(key)), ({ path }) => {
        const at = Date.now();
        for (const vif of this.guests.get(key.domid)?.vifs.values() ?? [])
          if (isAtOrAbove(path, stateOf(vif))) this.onEvent(stateOf(vif), (value) => this.onFrontend(at, vif, value));
      })
      .catch((error) => this.goOnWithout(key, error));
  }

  private goOnWithout({ domid }: BackendKey, error: unknown): undefined {
    if (error instanceof ConnectionError) throw error;
    const why = hasCode(error, 'E2BIG', 'ENOSPC') ? this.quotaReason() : (error as Error).message;
    this.output.warn(`cannot follow the state of guest ${domid}'s side: ${why}`);
  }

  /** Once in full: with many guests it would be all that is to be seen. */
  private quotaReason(): string {
    if (this.quotaExplained) return 'no xenstore watch is left (see above)';
    this.quotaExplained = true;
    return WATCH_QUOTA_HINT;
  }

  private onFrontend(at: number, key: BackendKey, value: string | undefined): void {
    if (!this.guests.get(key.domid)?.vifs.has(key.devid)) return; // left while the event waited
    const path = stateOf(key);
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
    this.output.event(PHASES.has(node) ? { ...event, sincePreviousMs: this.sincePrevious(keyText(key), at) } : event);
  }

  private sincePrevious(text: KeyText, at: number): number {
    const previous = this.lastPhase.get(text) ?? at;
    this.lastPhase.set(text, at);
    return at - previous;
  }

  private async forget(key: BackendKey): Promise<void> {
    for (const path of this.values.keys()) {
      if (path.startsWith(`${backendDir(key)}/`) || path.startsWith(`${frontendDir(key)}/`)) this.values.delete(path);
    }
    this.lastPhase.delete(keyText(key));
    const guest = this.guests.get(key.domid);
    guest?.vifs.delete(key.devid);
    if (guest?.vifs.size !== 0) return;
    this.guests.delete(key.domid);
    await guest.watch?.close();
  }
}

const stateOf = (key: BackendKey): string => `${frontendDir(key)}/state`;
const nameOf = ({ domid, devid }: BackendKey): string => `vif${domid}.${devid}`;
const isAtOrAbove = (path: string, node: string): boolean => path === node || node.startsWith(`${path}/`);

function explainQuota(error: unknown): never {
  if (!hasCode(error, 'E2BIG', 'ENOSPC')) throw error;
  throw new VifdError('EQUOTA', `vifd cannot watch ${BACKEND_ROOT}: ${WATCH_QUOTA_HINT}`, { cause: error });
}

/** `12:34:56.789  vif5.0  backend  state = 2  InitWait: ...  (+12 ms)`. */
export function formatEvent({ time, domid, devid, side, node, value, meaning, sincePreviousMs }: MonitorEvent): string {
  const name = node === '' ? '(directory)' : node;
  const assignment = value === null || node === '' ? name : `${name} = ${printable(value)}`;
  const delta = sincePreviousMs === undefined || sincePreviousMs === 0 ? '' : `  (+${sincePreviousMs} ms)`;
  return `${time.slice(11, 23)}  ${nameOf({ domid, devid })}  ${side.padEnd(8)}  ${assignment}${meaning === '' ? '' : `  ${meaning}`}${delta}`;
}
