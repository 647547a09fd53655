/** EDGE: reads a vif's directories from xenstore into raw values. */
import { hasCode } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { BACKEND_ROOT, type BackendKey, backendDir, frontendDir, parseDevid, parseDomid } from '../xenstore/paths.js';
import { FIXED_NODES, LIVE_NODES, type RawNodes } from './backend.js';

/** All vifs that have a directory, in whatever condition. */
export async function listBackends(store: XenstoreClient): Promise<BackendKey[]> {
  const domids = (await childrenOf(store, BACKEND_ROOT)).flatMap((name) => parseDomid(name) ?? []);
  const keys = await Promise.all(
    domids.map(async (domid) => {
      const names = await childrenOf(store, `${BACKEND_ROOT}/${domid}`);
      return names.flatMap((name) => parseDevid(name) ?? []).map((devid) => ({ domid, devid }));
    }),
  );
  return keys.flat();
}

/** The nodes that change while the vif lives; those that are missing are absent. */
export const readLiveNodes = (store: XenstoreClient, key: BackendKey): Promise<RawNodes> =>
  readNodes(store, backendDir(key), LIVE_NODES);

/** The nodes that dom0 writes once. Empty when the directory is gone. */
export async function readFixedNodes(store: XenstoreClient, key: BackendKey): Promise<RawNodes> {
  const dir = backendDir(key);
  const present = new Set(await childrenOf(store, dir));
  return readNodes(
    store,
    dir,
    FIXED_NODES.filter((name) => present.has(name)),
  );
}

/** A node of the guest's directory; undefined when it cannot be read, as after the guest's end. */
export function readFrontendNode(store: XenstoreClient, key: BackendKey, name: string): Promise<string | undefined> {
  return store.readOptional(`${frontendDir(key)}/${name}`);
}

/** What the kernel's xenbus_dev_fatal() or xenbus_dev_error() left about this vif, where dom0 made the `error` directory. */
export function readKernelError(store: XenstoreClient, key: BackendKey): Promise<string | undefined> {
  return store.readOptional(`error/${backendDir(key)}/error`);
}

async function readNodes(store: XenstoreClient, dir: string, names: readonly string[]): Promise<RawNodes> {
  const values = await Promise.all(names.map((name) => store.readOptional(`${dir}/${name}`)));
  return new Map(names.flatMap((name, i) => (values[i] === undefined ? [] : [[name, values[i]] as const])));
}

async function childrenOf(store: XenstoreClient, path: string): Promise<string[]> {
  return store.directory(path).catch((error) => {
    if (hasCode(error, 'ENOENT', 'EACCES')) return [];
    throw error;
  });
}
