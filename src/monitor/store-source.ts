/** What happens to every vif in xenstore. Reads only. */
import { dirname } from 'node:path/posix';
import { ConnectionError, hasCode, VifdError } from '../errors.js';
import { WATCH_QUOTA_HINT } from '../vif/failure.js';
import { listBackends } from '../vif/reader.js';
import type { Watch, XenstoreClient } from '../xenstore/client.js';
import { BACKEND_ROOT, type BackendKey, backendDir, frontendDir, parseBackendPath } from '../xenstore/paths.js';
import { type Arrivals, now } from './arrivals.js';

type Show = (value: string | undefined) => void | Promise<void>;

/** What is known of a guest while it has vifs here. */
interface Guest {
  readonly vifs: Map<number, BackendKey>;
  /** Undefined when it was refused. */
  watch?: Watch | undefined;
}

/**
 * INVARIANTS
 * - Events are shown in the order they came, each with its own time; what its node holds is read at once.
 * - A value read when the node's next event is there already belongs to that one, and is left to it.
 * - One watch for the backends and one a guest: netback needs the same quota, three for each vif.
 */
export class StoreSource {
  private readonly guests = new Map<number, Guest>();
  private readonly values = new Map<string, string>();
  /** By path, the last event that is not shown yet. */
  private readonly newest = new Map<string, symbol>();
  private quotaExplained = false;
  constructor(
    private readonly store: XenstoreClient,
    private readonly arrivals: Arrivals,
  ) {}

  async start(): Promise<void> {
    await this.store.watch(BACKEND_ROOT, ({ path }) => this.onBackendEvent(path)).catch(explainQuota);
    const present = await listBackends(this.store);
    this.arrivals.note(present.length === 0 ? 'no vif is here now' : `here now: ${present.map(nameOf).join(' ')}`);
    const at = now();
    for (const key of present) this.arrivals.inTurn(() => this.present(at, key));
  }

  private onBackendEvent(path: string): void {
    const at = now();
    if (parseBackendPath(path) === undefined) this.arrivals.inTurn(() => this.onParent(at, path));
    else this.onEvent(path, (value) => this.onBackend(at, path, value));
  }

  private onEvent(path: string, show: Show): void {
    const event = Symbol(path);
    this.newest.set(path, event);
    const reading = this.store
      .readOptional(path)
      .then((value) => ({ value, overtaken: this.newest.get(path) !== event }));
    reading.catch(() => undefined); // its turn to fail comes in the queue
    this.arrivals.inTurn(async () => {
      const { value, overtaken } = await reading.finally(() => {
        if (this.newest.get(path) === event) this.newest.delete(path);
      });
      if (!overtaken) await show(value);
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
    this.show(at, path, value);
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
        const at = now();
        for (const vif of this.guests.get(key.domid)?.vifs.values() ?? [])
          if (isAtOrAbove(path, stateOf(vif))) this.onEvent(stateOf(vif), (value) => this.onFrontend(at, vif, value));
      })
      .catch((error) => this.goOnWithout(key, error));
  }

  private goOnWithout({ domid }: BackendKey, error: unknown): undefined {
    if (error instanceof ConnectionError) throw error;
    const why = hasCode(error, 'E2BIG', 'ENOSPC') ? this.quotaReason() : (error as Error).message;
    this.arrivals.warn(`cannot follow the state of guest ${domid}'s side: ${why}`);
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
    if (!this.unchanged(path, value)) this.show(at, path, value);
  }

  /** Events may come more than once, and the first look at a vif repeats some. */
  private unchanged(path: string, value: string | undefined): boolean {
    const same = this.values.get(path) === value && (value !== undefined || !this.values.has(path));
    if (value === undefined) this.values.delete(path);
    else this.values.set(path, value);
    return same;
  }

  private show(at: number, path: string, value: string | undefined): void {
    this.arrivals.showNow(at, { source: 'store', path, value: value ?? null });
  }

  private async forget(key: BackendKey): Promise<void> {
    for (const path of this.values.keys()) {
      if (path.startsWith(`${backendDir(key)}/`) || path.startsWith(`${frontendDir(key)}/`)) this.values.delete(path);
    }
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
