/**
 * EDGE: the vifs that are connected, as xenstore tells of them.
 *
 * INVARIANTS
 * - While xenstore cannot be asked nothing has gone and nothing has appeared.
 */
import { ConnectionError, XenstoreError } from '../errors.js';
import { kernelName, parseBackend, parseLive, type VifBackend, type VifLive, XenbusState } from '../vif/backend.js';
import { listBackends, readAllNodes } from '../vif/reader.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { BACKEND_ROOT, type BackendKey, type KeyText, keyText, parseBackendPath } from '../xenstore/paths.js';
import type { SeenVif } from './wanted.js';

export interface VifDirectoryIo {
  /** The connection to use now; undefined: whoever has it says why there is none. Rejects with ConnectionError. */
  readonly connect: () => Promise<XenstoreClient | undefined>;
  /** Something has happened below the directory of vifs. */
  readonly onEvent: () => void;
}

export class VifDirectory {
  private store: XenstoreClient | undefined;
  /** Those that were connected when they were looked at: they stay so until their directory goes. */
  private connected: Map<KeyText, VifBackend> | undefined;
  /** Whose directory has come or gone since: it may be another vif's by now. */
  private readonly renewed = new Set<KeyText>();
  constructor(private readonly io: VifDirectoryIo) {}

  /** `vifs`: undefined until they have been read once. `fault`: why these are those of the time before. */
  async list(): Promise<{ vifs: readonly SeenVif[] | undefined; fault?: string }> {
    try {
      const store = await this.open();
      if (store !== undefined) this.connected = await this.read(store);
      return { vifs: this.seen() };
    } catch (error) {
      if (!(error instanceof ConnectionError || error instanceof XenstoreError)) throw error;
      return { vifs: this.seen(), fault: error.message };
    }
  }

  private seen(): SeenVif[] | undefined {
    return this.connected && [...this.connected.values()].map(seenVif);
  }

  private async open(): Promise<XenstoreClient | undefined> {
    const store = this.store ?? (await this.io.connect());
    if (store === undefined || store === this.store) return store;
    await store.watch(BACKEND_ROOT, ({ path }) => this.onEvent(path));
    this.store = store;
    void store.closed.then(() => {
      this.store = undefined;
    });
    return store;
  }

  private onEvent(path: string): void {
    const place = parseBackendPath(path);
    if (place?.node === '') this.renewed.add(keyText(place.key));
    this.io.onEvent();
  }

  private async read(store: XenstoreClient): Promise<Map<KeyText, VifBackend>> {
    const found = new Map<KeyText, VifBackend>();
    for (const key of await listBackends(store)) {
      const backend = this.known(key) ?? (await this.readAnew(store, key));
      if (backend !== undefined) found.set(keyText(key), backend);
    }
    for (const text of this.renewed) if (!found.has(text)) this.renewed.delete(text); // it is read anew in any case
    return found;
  }

  private known(key: BackendKey): VifBackend | undefined {
    return this.renewed.has(keyText(key)) ? undefined : this.connected?.get(keyText(key));
  }

  private async readAnew(store: XenstoreClient, key: BackendKey): Promise<VifBackend | undefined> {
    this.renewed.delete(keyText(key)); // before: it may change again meanwhile
    try {
      return await readConnected(store, key);
    } catch (error) {
      this.renewed.add(keyText(key));
      throw error;
    }
  }
}

export const seenVif = (backend: VifBackend): SeenVif => ({ backend, ifname: backend.vifname ?? kernelName(backend) });
/** Some netbacks remove the status once they are connected. */
export const isConnected = ({ hotplugStatus, state }: VifLive): boolean =>
  hotplugStatus === 'connected' || state === XenbusState.Connected;

/** Undefined for one that is not connected, or that dom0 described badly. */
async function readConnected(store: XenstoreClient, key: BackendKey): Promise<VifBackend | undefined> {
  const nodes = await readAllNodes(store, key);
  try {
    return isConnected(parseLive(nodes)) ? parseBackend(key, nodes) : undefined;
  } catch {
    return undefined;
  }
}
