/**
 * The only writer of `hotplug-status` and `hotplug-error`. xen-netback lets the guest connect when the status is
 * exactly `connected` (hotplug_status_changed in xen-netback/xenbus.c); people and toolstacks read the error.
 */
import { hasCode } from '../errors.js';
import type { StoreOperations, XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, backendDir } from '../xenstore/paths.js';
import type { VifLive } from './backend.js';
import { readLiveNodes, readState } from './reader.js';

/** Far below the 2048 bytes of a node, and one line on a terminal. */
const ERROR_MAX = 240;

type Told = Pick<VifLive, 'hotplugStatus' | 'hotplugError'>;

/**
 * Tells that the vif is in place, unless the nodes say so already. Resolves with false when the directory is gone.
 * A driver domain cannot create nodes under `backend/vif/<domid>` (contract 0.5), so its plain write cannot bring
 * a removed directory back; dom0's could, so `privileged` looks first, in a transaction.
 */
export async function writeConnected(
  store: XenstoreClient,
  key: BackendKey,
  told: Told,
  privileged: boolean,
): Promise<boolean> {
  if (told.hotplugStatus === 'connected' && told.hotplugError === undefined) return true;
  const dir = backendDir(key);
  return ifPresent(store, key, async () => {
    if (told.hotplugError === undefined && !privileged) return store.write(`${dir}/hotplug-status`, 'connected');
    return store.transaction(async (tx) => {
      await tx.read(`${dir}/state`);
      if (told.hotplugError !== undefined) await removeNode(tx, `${dir}/hotplug-error`);
      await tx.write(`${dir}/hotplug-status`, 'connected');
    });
  });
}

/** Tells why the vif is not connected, unless the nodes say so already. Resolves with false when the directory is gone. */
export async function writeError(
  store: XenstoreClient,
  key: BackendKey,
  told: Told,
  message: string,
): Promise<boolean> {
  const text = errorText(message);
  if (told.hotplugStatus === 'error' && told.hotplugError === text) return true;
  const dir = backendDir(key);
  const write = (withText: boolean) =>
    store.transaction(async (tx) => {
      await tx.read(`${dir}/state`);
      if (withText) await tx.write(`${dir}/hotplug-error`, text);
      await tx.write(`${dir}/hotplug-status`, 'error');
    });
  return ifPresent(store, key, () =>
    write(true).catch((error) => {
      // With the node quota used up nothing can be created, but dom0 has made hotplug-status (contract 5.4).
      if (!hasCode(error, 'ENOSPC')) throw error;
      return write(false);
    }),
  );
}

/** The same for one of which nothing may be known but its place. A vif that leaves is told nothing any more. */
export async function tellError(store: XenstoreClient, key: BackendKey, message: string): Promise<boolean> {
  const nodes = await readLiveNodes(store, key);
  if (nodes.get('state') === undefined) return false;
  if (nodes.get('online') === '0') return true;
  const told = { hotplugStatus: nodes.get('hotplug-status'), hotplugError: nodes.get('hotplug-error') };
  return writeError(store, key, told, message);
}

/** One printable ASCII line: the guest and terminals read it. */
export function errorText(message: string): string {
  const line = message.replace(/[^\x20-\x7e]+/g, ' ');
  return line.length > ERROR_MAX ? `${line.slice(0, ERROR_MAX - 3)}...` : line;
}

async function removeNode(tx: StoreOperations, path: string): Promise<void> {
  await tx.rm(path).catch((error) => {
    if (!hasCode(error, 'ENOENT')) throw error;
  });
}

/** A directory that vanished between two steps: reading says ENOENT, writing EACCES, since its parent is not ours. */
async function ifPresent(store: XenstoreClient, key: BackendKey, write: () => Promise<void>): Promise<boolean> {
  try {
    await write();
    return true;
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EACCES')) throw error;
    if ((await readState(store, key)) === undefined) return false;
    throw error;
  }
}
