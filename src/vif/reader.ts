/** EDGE: reads a vif's backend directory from xenstore into raw values. */
import { hasCode, printable, XenstoreError } from '../errors.js';
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

/**
 * All vifs that have a directory, in whatever condition; `onIgnored` gets the path of each that cannot be a vif's, and of each
 * guest whose vifs may not be listed. Below KERNEL_ERROR_ROOT: those of which the kernel wrote a fault.
 */
export async function listBackends(
  store: XenstoreClient,
  onIgnored: (path: string, why: Ignored) => void = () => {},
  root = BACKEND_ROOT,
): Promise<BackendKey[]> {
  const keys: BackendKey[] = [];
  for (const guest of await listed(store, root, onIgnored)) {
    for (const device of await listed(store, `${root}/${guest}`, onIgnored)) {
      const [domid, devid] = [parseDomid(guest), parseDevid(device)];
      if (domid === undefined || devid === undefined) onIgnored(`${root}/${guest}/${device}`, 'no vif');
      else keys.push({ domid, devid });
    }
  }
  return keys;
}

export type Ignored = 'no vif' | 'hidden';

/**
 * One guest's must not keep the others from being listed. Of a tree that is empty, as after xenstored's loss, a driver domain
 * is told EACCES as well.
 */
async function listed(
  store: XenstoreClient,
  path: string,
  onIgnored: (path: string, why: Ignored) => void,
): Promise<string[]> {
  return childrenOf(store, path).catch((error) => {
    if (!hasCode(error, 'EACCES')) throw error;
    onIgnored(path, 'hidden');
    return [];
  });
}

/** The nodes that change while the vif lives; those that are missing are absent. */
export const readLiveNodes = (store: XenstoreClient, key: BackendKey): Promise<RawNodes> =>
  readNodes(store, backendDir(key), LIVE_NODES);

/**
 * All nodes that vifd knows, and none that is not there: on the device every request is a turn of its own. One that is there
 * and may not be read is no missing one: without `ip` a guest would lose its guard.
 */
export async function readAllNodes(store: XenstoreClient, key: BackendKey): Promise<RawNodes> {
  const dir = backendDir(key);
  const present = new Set(await childrenOf(store, dir));
  const names = [...LIVE_NODES, ...FIXED_NODES].filter((name) => present.has(name));
  return readNodes(store, dir, names);
}

/** What the kernel's xenbus_dev_fatal() or xenbus_dev_error() left about this vif. */
export function readKernelError(store: XenstoreClient, key: BackendKey): Promise<string | undefined> {
  return store.readOptional(`${kernelErrorDir(key)}/error`);
}

/** `state` says whether there is a directory at all; undefined: no. Rejects where it may not be read. */
export const readState = (store: XenstoreClient, key: BackendKey): Promise<string | undefined> =>
  unlessMissing(store.read(`${backendDir(key)}/state`), undefined);

async function readNodes(store: XenstoreClient, dir: string, names: readonly string[]): Promise<RawNodes> {
  const values = await Promise.all(names.map((name) => unlessMissing(store.read(`${dir}/${name}`), undefined)));
  return new Map(names.flatMap((name, i) => (values[i] === undefined ? [] : [[name, values[i]] as const])));
}

const childrenOf = (store: XenstoreClient, path: string): Promise<string[]> => unlessMissing(store.directory(path), []);

/** What may not be read is there (contract 0.6, 5.2), and what was made for it must not be removed. */
async function unlessMissing<T, M>(answer: Promise<T>, missing: M): Promise<T | M> {
  return answer.catch((error) => {
    if (hasCode(error, 'ENOENT')) return missing;
    if (hasCode(error, 'EACCES') && error instanceof XenstoreError)
      throw new XenstoreError(error.code, error.op, error.path, { detail: NO_RIGHT, cause: error });
    throw error;
  });
}

/** What cannot be seen, and what to do. */
export const unlisted = (path: string): string =>
  `the vifs in ${printable(path)} cannot be seen and are left as they are: ${path === BACKEND_ROOT ? NO_ROOT : NO_RIGHT}`;

const NO_RIGHT = 'dom0 keeps it from this domain: see xenstore-ls -p there, and xenstore-chmod';
/** The same of all of them. */
const NO_ROOT =
  'dom0 keeps it from this domain, or xenstored has lost its tree: see xenstore-ls -p there; a tree that is lost comes back with new domains only';
