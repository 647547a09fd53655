/** EDGE: a guest's vifs as dom0's xenstore has them. libxl's own record says which there are, and where their backends are. */
import type { XenstoreClient } from '../xenstore/client.js';
import type { VifSight } from './connection.js';
import { homeOf, listIds, nameOf } from './domains.js';

/** libxl__device_libxl_path (tools/libs/light/libxl_device.c): dom0's alone, with a copy of all that it wrote. */
export const recordDir = (domid: number, devid: number): string => `${recordsDir(domid)}/${devid}`;
export const recordsDir = (domid: number): string => `/libxl/${domid}/device/vif`;
export const frontendDir = (domid: number, devid: number): string => `${homeOf(domid)}/device/vif/${devid}`;

/** In the order of their devids. */
export async function lookAtVifs(store: XenstoreClient, domid: number): Promise<VifSight[]> {
  const devids = await listIds(store, recordsDir(domid));
  return (await Promise.all(devids.map((devid) => lookAtVif(store, domid, devid)))).flatMap((vif) => vif ?? []);
}

/** Undefined when libxl has no such vif. */
export async function lookAtVif(store: XenstoreClient, domid: number, devid: number): Promise<VifSight | undefined> {
  const backendPath = await store.readOptional(`${recordDir(domid, devid)}/backend`);
  if (backendPath === undefined) return undefined;
  const backendDomid = Number(backendPath.split('/')[3]);
  const relative = `backend/vif/${domid}/${devid}`;
  const read = (node: string) => store.readOptional(node);
  const [backendName, backendState, hotplugStatus, hotplugError, kernelError, frontendState] = await Promise.all([
    nameOf(store, backendDomid),
    read(`${backendPath}/state`),
    read(`${backendPath}/hotplug-status`),
    read(`${backendPath}/hotplug-error`),
    read(`${homeOf(backendDomid)}/error/${relative}/error`),
    read(`${frontendDir(domid, devid)}/state`),
  ]);
  const nodes = { backendState, hotplugStatus, hotplugError, kernelError, frontendState };
  return { devid, backendPath, backendDomid, backendName, ...nodes };
}
