/** Removing a vif's backend directory; when it is time for that is departure.ts's matter. */
import { hasCode } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, backendDir, kernelErrorDir } from '../xenstore/paths.js';

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

/** Removes what the kernel wrote of this vif's faults, or the next vif at the same place would be blamed for them. */
export async function removeKernelError(store: XenstoreClient, key: BackendKey): Promise<void> {
  await store.rm(kernelErrorDir(key)).catch((error) => {
    if (!hasCode(error, 'ENOENT', 'EACCES')) throw error;
  });
}
