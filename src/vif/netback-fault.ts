/** Why netback does not do its part of a vif: by the vif's state, and by what the kernel wrote of a fault. */
import { AttachError, hasCode } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, kernelErrorDir } from '../xenstore/paths.js';
import { XenbusState } from './backend.js';
import { explainKernelError, isOutOfWatches } from './failure.js';
import { readKernelError } from './reader.js';
import { removeKernelError } from './removal.js';

/** For a vif without an interface, `ifname`. Rejects always, with AttachError or XenstoreError. */
export async function blameNetback(
  store: XenstoreClient,
  key: BackendKey,
  state: number,
  ifname: string,
): Promise<never> {
  if (state <= XenbusState.Initialising) {
    const what = `xen-netback has not taken this vif (state is still ${state})`;
    throw new AttachError('ENONETBACK', what, 'load its module in this domain: modprobe xen-netback');
  }
  await checkKernelError(store, key, state);
  if (isClosed(state)) await checkRoom(store, key);
  const what = isClosed(state) ? gaveUp(state) : `xen-netback made no interface ${ifname}`;
  throw new AttachError('ENOLINK', what, 'see the kernel log of this domain: dmesg | grep vif');
}

/** A vif that netback closed for a fault of its own looks like one that the guest closed, but for this node. */
export async function checkKernelError(store: XenstoreClient, key: BackendKey, state: number): Promise<void> {
  const text = await readKernelError(store, key);
  if (text !== undefined) throw new AttachError('ENETBACK', gaveUp(state), explainKernelError(text));
}

/** Out of nodes the kernel cannot even leave its reason: rejects with ENOSPC where it could not. */
async function checkRoom(store: XenstoreClient, key: BackendKey): Promise<void> {
  const dir = kernelErrorDir(key);
  try {
    await store.write(`${dir}/room`, '');
    await store.transaction(async (tx) => {
      await tx.rm(`${dir}/room`);
      if ((await tx.directory(dir)).length === 0) await removeKernelError(tx, key); // else the kernel's own word has come
    });
  } catch (error) {
    if (!hasCode(error, 'EACCES', 'ENOENT')) throw error; // a domain that has no place for reasons, or they are gone
  }
}

export const isClosed = (state: number): boolean => state === XenbusState.Closing || state === XenbusState.Closed;

const gaveUp = (state: number): string => `xen-netback gave this vif up (state ${state})`;

/**
 * The driver works: what the kernel wrote of an earlier fault must not be taken for the reason of a later end. But out of watches
 * netback announces Closing and goes on to Connected at once, and the guest, which has seen the former, soon lets go (connect()).
 */
export async function closeKernelError(
  store: XenstoreClient,
  key: BackendKey,
  warn: (sentence: string) => void,
): Promise<void> {
  const text = await readKernelError(store, key);
  if (text === undefined) return;
  if (isOutOfWatches(text)) return warn(`it works, but it may not last: ${explainKernelError(text)}`);
  warn(`it works now; of an earlier fault ${explainKernelError(text)}`);
  await removeKernelError(store, key);
}
