/** Paths of the vif backend in xenstore. Pure. */

/** A vif as xenstore names it: the guest's domain id and the device's number in that guest. */
export interface BackendKey {
  readonly domid: number;
  readonly devid: number;
}

/** Where dom0 writes vif backends, relative to the driver domain's own /local/domain/<self>. */
export const BACKEND_ROOT = 'backend/vif';

/** Where vifd says `ready` when it has looked at every vif for the first time; dom0 may read what is below `data`. */
export const SERVING_NODE = 'data/vifd';

/** DOMID_FIRST_RESERVED (xen/include/public/xen.h): ids from here on are no guests. */
export const DOMID_FIRST_RESERVED = 0x7ff0;

/** `5/0`: the key as logs, maps and commands write it. */
export type KeyText = `${number}/${number}`;

export const keyText = ({ domid, devid }: BackendKey): KeyText => `${domid}/${devid}`;

/** The inverse of keyText(). */
export function parseKeyText(text: KeyText): BackendKey {
  const [domid, devid] = text.split('/').map(Number) as [number, number];
  return { domid, devid };
}

/** The vif's backend directory, relative. */
export const backendDir = (key: BackendKey): string => `${BACKEND_ROOT}/${keyText(key)}`;

/** The vif's frontend directory. Computed, never read: the guest can write the pointers to it (contract 7.1). */
export const frontendDir = ({ domid, devid }: BackendKey): string => `/local/domain/${domid}/device/vif/${devid}`;

/** Where the kernel's xenbus_dev_error() writes of the vif, if dom0 has made the directory `error`. */
export const kernelErrorDir = (key: BackendKey): string => `error/${backendDir(key)}`;

/** Where all of these are. */
export const KERNEL_ERROR_ROOT = `error/${BACKEND_ROOT}`;

/** A domain or device id in xenstore's canonical form: decimal, no sign, no leading zero. */
export function parseId(text: string, limit: number): number | undefined {
  if (!/^(0|[1-9][0-9]{0,9})$/.test(text)) return undefined;
  const id = Number(text);
  return id < limit ? id : undefined;
}

/** A domain id that a guest can have. */
export const parseDomid = (text: string): number | undefined => parseId(text, DOMID_FIRST_RESERVED);

/** A device id: what fits the kernel's `%u.%u` name within IFNAMSIZ beside any domid. */
export const parseDevid = (text: string): number | undefined => parseId(text, 1_000_000);

/**
 * The vif that a path under `backend/vif` speaks of, and the node in its directory (empty for the directory itself).
 * Undefined for the directories above a vif and for anything that is not canonical.
 */
export function parseBackendPath(path: string): { key: BackendKey; node: string } | undefined {
  const tail = path.startsWith('/')
    ? /^\/local\/domain\/\d+\/backend\/vif\/(.*)$/.exec(path)?.[1]
    : /^backend\/vif\/(.*)$/.exec(path)?.[1];
  if (tail === undefined) return undefined;
  const [domidText, devidText, ...rest] = tail.split('/');
  if (domidText === undefined || devidText === undefined) return undefined;
  const domid = parseDomid(domidText);
  const devid = parseDevid(devidText);
  if (domid === undefined || devid === undefined) return undefined;
  return { key: { domid, devid }, node: rest.join('/') };
}
