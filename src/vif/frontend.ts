/** EDGE: the guest's half of a vif. The guest may change or remove anything there; nothing is decided by it alone. */
import { XenstoreError } from '../errors.js';
import type { StoreOperations, XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, frontendDir } from '../xenstore/paths.js';

/** A node of the guest's directory; undefined when it cannot be read, as after the guest's end. */
export function readFrontendNode(store: XenstoreClient, key: BackendKey, name: string): Promise<string | undefined> {
  return store.readOptional(`${frontendDir(key)}/${name}`);
}

/** Bytes (ETH_DATA_LEN). */
const DEFAULT_MTU = 1500;

export class GuestMtu {
  /** Bytes; what the guest has been told, or was to be. */
  private told: number | undefined;
  constructor(
    private readonly key: BackendKey,
    private readonly io: { readonly store: XenstoreClient; readonly privileged: boolean },
  ) {}

  /**
   * Tries once for each value. `asked` is what dom0 asked for: where that is nothing libxl has told the guest 1500 already.
   * False where it cannot be told.
   */
  async tell(mtu: number, asked: number | undefined): Promise<boolean> {
    const told = this.told ?? (asked === undefined ? DEFAULT_MTU : undefined);
    if (told === mtu) return true;
    this.told = mtu;
    return writeFrontendMtu(this.io.store, this.key, mtu, this.io.privileged);
  }
}

/**
 * Tells the guest its MTU, bytes. False where it cannot be told: before Xen 4.15 the node is missing or dom0's, and the
 * guest may remove or rewrite it at any time. A driver domain cannot make the node anew; dom0 could, so it looks first.
 */
async function writeFrontendMtu(
  store: XenstoreClient,
  key: BackendKey,
  mtu: number,
  privileged: boolean,
): Promise<boolean> {
  const path = `${frontendDir(key)}/mtu`;
  try {
    if ((await store.readOptional(path)) === String(mtu)) return true;
    const write = async (to: StoreOperations) => to.write(path, String(mtu));
    if (!privileged) await write(store);
    else
      await store.transaction(async (tx) => {
        await tx.read(path);
        await write(tx);
      });
    return true;
  } catch (error) {
    if (!(error instanceof XenstoreError) || error.code === 'ETIMEDOUT') throw error;
    return false;
  }
}
