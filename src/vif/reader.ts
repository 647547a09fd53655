/** EDGE: reads a vif's backend directory from xenstore into raw values. */
import { hasCode } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import {
  BACKEND_ROOT,
  type BackendKey,
  backendDir,
  kernelErrorDir,
  parseDevid,
  parseDomid,
} from '../xenstore/paths.js';
import { FIXED_NODES, LIVE_NODES, type RawNodes } from './backend.js';

/** All vifs that have a directory, in whatever condition; `onIgnored` gets the path of each that cannot be a vif's. */
export async function listBackends(
  store: XenstoreClient,
  onIgnored: (path: string) => void = () => {},
): Promise<BackendKey[]> {
  const keys: BackendKey[] = [];
  for (const guest of await childrenOf(store, BACKEND_ROOT)) {
    for (const device of await childrenOf(store, `${BACKEND_ROOT}/${guest}`)) {
      const [domid, devid] = [parseDomid(guest), parseDevid(device)];
      if (domid === undefined || devid === undefined) onIgnored(`${BACKEND_ROOT}/${guest}/${device}`);
      else keys.push({ domid, devid });
    }
  }
  return keys;
}

/** The nodes that change while the vif lives; those that are missing are absent. */
export const readLiveNodes = (store: XenstoreClient, key: BackendKey): Promise<RawNodes> =>
  readNodes(store, backendDir(key), LIVE_NODES);

/** All nodes that vifd knows, and none that is not there: on the device every request is a turn of its own. */
export async function readAllNodes(store: XenstoreClient, key: BackendKey): Promise<RawNodes> {
  const dir = backendDir(key);
  const present = new Set(await childrenOf(store, dir));
  return readNodes(
    store,
    dir,
    [...LIVE_NODES, ...FIXED_NODES].filter((name) => present.has(name)),
  );
}

/** What the kernel's xenbus_dev_fatal() or xenbus_dev_error() left about this vif. */
export function readKernelError(store: XenstoreClient, key: BackendKey): Promise<string | undefined> {
  return store.readOptional(`${kernelErrorDir(key)}/error`);
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
