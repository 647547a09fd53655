/** EDGE: how many xenstore nodes this domain owns, as far as it can see them. */
import { hasCode } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { parseBackendPath } from '../xenstore/paths.js';

/** The domain's home: the only place where it may own nodes, but for the `mtu` that it may write in each guest's directory. */
export async function countOwnNodes(store: XenstoreClient, domid: string | undefined): Promise<number> {
  if (domid === undefined || domid === '0') return 0;
  const children = await list(store, `/local/domain/${domid}`);
  return count(store, domid, `/local/domain/${domid}`, children);
}

/**
 * Leaves belong to whom their directory belongs: dom0 and the kernel make them so. In a vif's directory all are leaves,
 * which saves a thousand requests.
 */
async function count(store: XenstoreClient, domid: string, path: string, children: readonly string[]): Promise<number> {
  const [owner = ''] = await store.getPerms(path).catch(nothing);
  const own = owner.slice(1) === domid ? 1 : 0;
  if (parseBackendPath(path)?.node === '') return own * (1 + children.length);
  let sum = own;
  for (const name of children) {
    const below = `${path}/${name}`;
    const names = await list(store, below);
    sum += names.length === 0 ? await ownLeaf(store, domid, below, own) : await count(store, domid, below, names);
  }
  return sum;
}

/** A leaf in dom0's directory may be ours: dom0 makes `data`, `attr` and others for us. */
async function ownLeaf(store: XenstoreClient, domid: string, path: string, ownParent: number): Promise<number> {
  if (ownParent === 1) return 1;
  const [owner = ''] = await store.getPerms(path).catch(nothing);
  return owner.slice(1) === domid ? 1 : 0;
}

const list = (store: XenstoreClient, path: string): Promise<string[]> => store.directory(path).catch(nothing);

function nothing(error: unknown): string[] {
  if (!hasCode(error, 'ENOENT', 'EACCES')) throw error;
  return [];
}
