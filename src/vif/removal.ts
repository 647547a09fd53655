/**
 * When a vif's backend directory has to go, and removing it. dom0 waits 10 s for that (LIBXL_DESTROY_TIMEOUT), and it
 * fails just as well when the directory goes before dom0 has read `state` 6 there (contract 2.3, 10.4).
 */
import { hasCode } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, backendDir } from '../xenstore/paths.js';

/**
 * How long all vifs of the guest must have been quiet before the first of them goes, and how much longer for each further one. As
 * long as dom0 or the kernel is at work on them, `state` and `online` change; then dom0 still has its events to read, one
 * after the other. A fixed second for each was too short on a slow host with 16 vifs.
 */
export const GRACE_MS = 1_000;
export const GRACE_PER_VIF_MS = 100;
/**
 * The longest that a vif waits for its neighbours. dom0's 10 s for the directory begin when it has seen `state` 6; of 16 vifs
 * under emulation it had not seen the first one's after 5 s.
 */
export const GRACE_MAX_MS = 8_000;
/**
 * For a vif whose guest's directory and interface are both gone although dom0 has not finished its part: a backend stuck
 * in Closing, a guest that removed its own directory. Still within dom0's 10 s.
 */
export const STUCK_GRACE_MS = 6_000;

/**
 * Removes the leaf directory if its `state` is still as it was when that was decided; in one transaction, so that a vif which
 * dom0 makes anew at the same place in this moment survives. 'changed': look again.
 */
export async function removeBackend(
  store: XenstoreClient,
  key: BackendKey,
  state: number,
): Promise<'removed' | 'gone' | 'changed'> {
  const dir = backendDir(key);
  try {
    return await store.transaction(async (tx) => {
      if ((await tx.read(`${dir}/state`)) !== String(state)) return 'changed';
      await tx.rm(dir);
      return 'removed';
    });
  } catch (error) {
    // RM of a leaf that is gone says EACCES, because its parent is not ours (contract 0.6).
    if (!hasCode(error, 'ENOENT', 'EACCES')) throw error;
    return (await store.readOptional(`${dir}/state`)) === undefined ? 'gone' : Promise.reject(error);
  }
}
