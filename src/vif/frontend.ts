/** EDGE: the guest's half of a vif. The guest may change or remove anything there; nothing is decided by it alone. */
import { hasCode } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, frontendDir } from '../xenstore/paths.js';

/** A node of the guest's directory; undefined when it cannot be read, as after the guest's end. */
export function readFrontendNode(store: XenstoreClient, key: BackendKey, name: string): Promise<string | undefined> {
  return store.readOptional(`${frontendDir(key)}/${name}`);
}

/**
 * Tells the guest its MTU, bytes. False where it cannot be told: before Xen 4.15 the node is missing or dom0's, and the
 * guest may remove it at any time. Never makes the node anew, which dom0 could do.
 */
export async function writeFrontendMtu(store: XenstoreClient, key: BackendKey, mtu: number): Promise<boolean> {
  const path = `${frontendDir(key)}/mtu`;
  if ((await store.readOptional(path)) === String(mtu)) return true;
  try {
    await store.transaction(async (tx) => {
      await tx.read(path);
      await tx.write(path, String(mtu));
    });
    return true;
  } catch (error) {
    if (!hasCode(error, 'EACCES', 'ENOENT')) throw error;
    return false;
  }
}
