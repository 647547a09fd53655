/** Removing a vif's backend directory; when it is time for that is departure.ts's matter. */
import { dirname } from 'node:path/posix';
import { hasCode } from '../errors.js';
import type { StoreOperations, XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, backendDir, KERNEL_ERROR_ROOT, kernelErrorDir } from '../xenstore/paths.js';
import { listBackends, readState } from './reader.js';

/**
 * Removes the leaf directory if `state` and `online` still are what that was decided on; in one transaction, so that a vif
 * which dom0 makes anew at the same place in this moment survives. 'changed': look again.
 */
export async function removeBackend(
  store: XenstoreClient,
  key: BackendKey,
  { state, online }: { state: number; online: boolean },
): Promise<'removed' | 'gone' | 'changed'> {
  const dir = backendDir(key);
  try {
    return await store.transaction(async (tx) => {
      if ((await tx.read(`${dir}/state`)) !== String(state)) return 'changed';
      if ((await tx.readOptional(`${dir}/online`)) !== (online ? '1' : '0')) return 'changed';
      await tx.rm(dir);
      return 'removed';
    });
  } catch (error) {
    // RM of a leaf that is gone says EACCES, because its parent is not ours (contract 0.6).
    if (!hasCode(error, 'ENOENT', 'EACCES')) throw error;
    return (await readState(store, key)) === undefined ? 'gone' : Promise.reject(error);
  }
}

/** Removes what the kernel wrote of this vif's faults, or the next vif at the same place would be blamed for them. */
export async function removeKernelError(store: StoreOperations, key: BackendKey): Promise<void> {
  const dir = kernelErrorDir(key);
  try {
    await store.rm(dir);
    if ((await store.directory(dirname(dir))).length === 0) await store.rm(dirname(dir)); // it counts as a node, too
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EACCES')) throw error;
  }
}

/** Those of vifs that went while no vifd was there. */
export async function removeOldKernelErrors(store: XenstoreClient): Promise<void> {
  for (const key of await listBackends(store, undefined, KERNEL_ERROR_ROOT))
    if ((await readState(store, key)) === undefined) await removeKernelError(store, key);
}
