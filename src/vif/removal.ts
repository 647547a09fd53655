/**
 * When a vif's backend directory has to go, and removing it. dom0 waits 10 s for that (LIBXL_DESTROY_TIMEOUT), and it
 * fails just as well when the directory goes before dom0 has read `state` 6 there (contract 2.3, 10.4).
 */
import { hasCode } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, backendDir } from '../xenstore/paths.js';

/** Time for dom0 to see `state` 6. With 200 ms one of eight failed under emulation, with 500 ms none. */
export const GRACE_MS = 1_000;
/**
 * For a vif whose guest's directory and interface are both gone although dom0 has not finished its part: a backend stuck
 * in Closing, a guest that removed its own directory. Still within dom0's 10 s.
 */
export const STUCK_GRACE_MS = 6_000;

/**
 * Removes the leaf directory if it is still as it was when that was decided; in one transaction, so that a vif which
 * dom0 makes anew at the same place in this moment survives. 'changed': look again.
 */
export async function removeBackend(
  store: XenstoreClient,
  key: BackendKey,
  seen: { state: number; online: boolean },
): Promise<'removed' | 'gone' | 'changed'> {
  const dir = backendDir(key);
  try {
    return await store.transaction(async (tx) => {
      const state = await tx.read(`${dir}/state`);
      const online = await tx.read(`${dir}/online`);
      if (state !== String(seen.state) || (online === '1') !== seen.online) return 'changed';
      await tx.rm(dir);
      return 'removed';
    });
  } catch (error) {
    // RM of a leaf that is gone says EACCES, because its parent is not ours (contract 0.6).
    if (!hasCode(error, 'ENOENT', 'EACCES')) throw error;
    return (await store.readOptional(`${dir}/state`)) === undefined ? 'gone' : Promise.reject(error);
  }
}
