/** EDGE: which domains there are, by dom0's xenstore. */
import { hasCode, VifdError } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { parseDomid } from '../xenstore/paths.js';
import type { Domain } from './connection.js';

export const homeOf = (domid: number): string => `/local/domain/${domid}`;

/** Rejects with code EACCES where this is not dom0: another domain sees nothing of its neighbours. */
export async function demandDom0(store: XenstoreClient): Promise<void> {
  try {
    await store.directory('/libxl');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return; // no guest has ever been created
    if (!hasCode(error, 'EACCES')) throw error;
    throw new VifdError('EACCES', 'this is not dom0: xenstore does not show the other domains here; run it in dom0', {
      cause: error,
    });
  }
}

/** By its number or name, as xl takes them. Undefined: there is none. */
export async function findDomain(store: XenstoreClient, asked: string): Promise<Domain | undefined> {
  const domid = parseDomid(asked);
  if (domid !== undefined) {
    const name = await nameOf(store, domid);
    return name === undefined ? undefined : { domid, name };
  }
  return (await listDomains(store)).find(({ name }) => name === asked);
}

/** In the order of their numbers. */
export async function listDomains(store: XenstoreClient): Promise<Domain[]> {
  const domids = (await listIds(store, '/local/domain')).map(async (domid) => {
    const name = await nameOf(store, domid);
    return name === undefined ? [] : [{ domid, name }];
  });
  return (await Promise.all(domids)).flat();
}

/** Undefined for a domain that is gone. */
export const nameOf = (store: XenstoreClient, domid: number): Promise<string | undefined> =>
  store.readOptional(`${homeOf(domid)}/name`);

/** The children of a node that are domain or device numbers, in their order; none where the node is missing. */
export async function listIds(store: XenstoreClient, path: string): Promise<number[]> {
  const names = await store.directory(path).catch((error) => {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  });
  const ids = names.flatMap((name) => parseDomid(name) ?? []);
  return ids.sort((a, b) => a - b);
}
