/** `vifd monitor`: what happens to every vif in xenstore, as it happens, with its meaning. Reads only. */
import { hasCode, printable } from '../errors.js';
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
  const print = options.json
    ? (event: MonitorEvent) => console.log(JSON.stringify(event))
    : (event: MonitorEvent) => console.log(formatEvent(event));
  const stop = () => void store.close().catch(() => process.kill(process.pid, 'SIGKILL'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  process.stdout.on('error', stop); // the reader of the pipe has gone
  await new Monitor(store, print).start().catch(async (error) => {
    await store.close().catch(() => undefined); // or its open connection would keep the process
    throw error;
  });
  const reason = await store.closed;
  if (!hasCode(reason, 'ECANCELED')) throw reason;
}

/** Nodes whose changes are the phases of a vif's life. */
const PHASES = new Set(['state', 'online', 'hotplug-status']);

class Monitor {
  private readonly frontends = new Map<KeyText, Promise<Watch | undefined>>();
  private readonly lastPhase = new Map<KeyText, number>();
  private readonly values = new Map<string, string>();
  /** Events are read and printed in the order they came. */
  private chain: Promise<void> = Promise.resolve();
  constructor(
    private readonly store: XenstoreClient,
    private readonly print: (event: MonitorEvent) => void,
  ) {}

  async start(): Promise<void> {
    await this.store.watch(BACKEND_ROOT, ({ path }) => this.queue(() => this.onBackend(path)));
    for (const key of await listBackends(this.store)) this.queue(() => this.present(key));
  }

  private queue(work: () => Promise<void>): void {
    // A closed connection ends all that waits; monitor() reports it.
    this.chain = this.chain.then(work).catch(() => undefined);
  }

  /** A vif that was there before us. */
  private async present(key: BackendKey): Promise<void> {
    const names = await this.store.directory(backendDir(key));
    for (const name of names) await this.onBackend(`${backendDir(key)}/${name}`);
  }

  private async onBackend(path: string): Promise<void> {
    const place = parseBackendPath(path);
    if (place === undefined) return;
    const at = Date.now();
    const value = await this.store.readOptional(path);
    if (this.unchanged(path, value)) return;
    this.show(at, place.key, 'backend', path, place.node, value);
    if (value !== undefined) await this.followFrontend(place.key);
    else if (place.node === '') await this.forget(place.key);
  }

  private async followFrontend(key: BackendKey): Promise<void> {
    if (this.frontends.has(keyText(key))) return;
    const path = `${frontendDir(key)}/state`;
    const watch = this.store.watch(path, () => this.queue(() => this.onFrontend(key, path)));
    this.frontends.set(
      keyText(key),
      watch.catch((error) => {
        if (hasCode(error, 'E2BIG', 'ENOSPC'))
          console.error(`vifd: cannot follow ${path}: this domain has no xenstore watch left`);
        return undefined;
      }),
    );
  }

  private async onFrontend(key: BackendKey, path: string): Promise<void> {
    const at = Date.now();
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
    const text = keyText(key);
    await (await this.frontends.get(text))?.close();
    this.frontends.delete(text);
    for (const path of this.values.keys()) {
      if (path.startsWith(`${backendDir(key)}/`) || path.startsWith(`${frontendDir(key)}/`)) this.values.delete(path);
    }
    this.lastPhase.delete(text);
  }
}

/** `12:34:56.789  vif5.0  backend  state = 2  InitWait: ...  (+12 ms)`. */
export function formatEvent({ time, domid, devid, side, node, value, meaning, sincePreviousMs }: MonitorEvent): string {
  const name = node === '' ? '(directory)' : node;
  const assignment = value === null || node === '' ? name : `${name} = ${printable(value)}`;
  const delta = sincePreviousMs === undefined || sincePreviousMs === 0 ? '' : `  (+${sincePreviousMs} ms)`;
  return `${time.slice(11, 23)}  vif${domid}.${devid}  ${side.padEnd(8)}  ${assignment}${meaning === '' ? '' : `  ${meaning}`}${delta}`;
}
