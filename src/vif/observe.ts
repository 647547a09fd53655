/** EDGE: reads from the kernel what a plan needs, and finds the bridge that a vif belongs to. */
import { AttachError, printable } from '../errors.js';
import { NO_VLANS } from '../network/bridge-vlan.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { OvsState } from '../network/ovs-port.js';
import type { Link } from '../network/rtnetlink.js';
import { type Attachment, type BridgeAttachment, isRouted } from './attachment.js';
import type { Ifname } from './backend.js';
import { type FoundRoute, findRoute, observeRoute } from './observe-routed.js';
import { isOwnLink, type Place } from './plan.js';
import { oldBridgeName } from './policy.js';
import { formatVlans } from './vlan.js';

/**
 * The vif's interface, under its own name or still under netback's; undefined while there is none. `everywhere` also finds
 * it where another program has renamed it, which a script may always do.
 */
export async function findLink(
  want: Attachment,
  kernel: KernelNetwork,
  everywhere = want.mode === 'script',
): Promise<Link | undefined> {
  const names = new Set([want.kernelName, want.ifname]);
  for (const name of names) {
    const link = await kernel.getLink(name);
    if (link !== undefined && isOwnLink(want, link)) return link;
  }
  return everywhere ? (await kernel.listLinks()).find((link) => isOwnLink(want, link)) : undefined;
}

/** The guard is for the name that the interface has when frames come; a script may rename it, or not. */
export const guardedName = (want: Attachment, link: Link | undefined): string =>
  want.mode === 'script' && link !== undefined ? link.ifname : want.ifname;

/** What a vif is to be connected to, before anything is known of its interface. */
export type Found =
  | ({ readonly mode: 'bridge' } & FoundBridge)
  | FoundRoute
  | { readonly mode: 'script' }
  | { readonly mode: 'openvswitch'; readonly ports: OvsState['ports'] };

/** Rejects with AttachError when it cannot be connected as things stand. */
export async function findPlace(want: Attachment, kernel: KernelNetwork): Promise<Found> {
  switch (want.mode) {
    case 'bridge':
      return { mode: want.mode, ...(await findBridge(want, kernel)) };
    case 'routed':
    case 'nat':
      return findRoute(want, kernel);
    case 'script':
      return { mode: want.mode };
    case 'openvswitch':
      return { mode: want.mode, ports: await findOvsBridge(want.port.bridge, kernel) };
    default:
      return want satisfies never;
  }
}

/** How the interface stands to it. */
export async function observePlace(
  want: Attachment,
  found: Found,
  link: Link,
  kernel: KernelNetwork,
  first = false,
): Promise<Place> {
  if (found.mode === 'openvswitch') return { mode: found.mode, port: found.ports.get(want.ifname), fresh: first };
  if (isRouted(found) && isRouted(want)) return observeRoute(want, found, link, kernel);
  if (want.mode !== 'bridge' || found.mode !== 'bridge') return { mode: 'script' };
  const vlans = want.vlans === undefined ? NO_VLANS : await kernel.getVlans(link);
  return { mode: 'bridge', bridge: found.link, vlans };
}

async function findOvsBridge(bridge: string, kernel: KernelNetwork): Promise<OvsState['ports']> {
  const { bridges, ports } = await kernel.openVSwitch.read();
  if (bridges.includes(bridge)) return ports;
  const hint =
    bridges.length === 0
      ? `it has none; make it: ovs-vsctl add-br ${bridge}`
      : `its bridges: ${bridges.map((name) => printable(name).slice(1, -1)).join(', ')}`;
  throw new AttachError('ENOBRIDGE', `Open vSwitch has no bridge "${bridge}"`, hint);
}

export interface FoundBridge {
  readonly link: Link;
  /** Why this is not the bridge that dom0 named. */
  readonly warning?: string;
}

/** The bridge of a vif, which must be able to do what is asked of its port. Rejects with AttachError. */
async function findBridge(want: BridgeAttachment, kernel: KernelNetwork): Promise<FoundBridge> {
  const found = await findByName(want.bridge, kernel);
  if (want.vlans === undefined || found.link.vlanFiltering) return found;
  const { ifname } = found.link;
  throw new AttachError(
    'ENOVLANFILTER',
    `bridge "${ifname}" does not filter VLANs, so vlan ${formatVlans(want.vlans)} cannot be kept apart`,
    `ip link set ${ifname} type bridge vlan_filtering 1; its ports are in VLAN 1 then: give the card in it what the guests need, such as bridge vlan add dev eth0 vid 10`,
  );
}

/** vif-bridge's rule: the bridge named; for `xenbrN` that does not exist `ethN` if that is one; else the first there is. */
async function findByName(name: Ifname | undefined, kernel: KernelNetwork): Promise<FoundBridge> {
  if (name === undefined) return firstBridge(kernel);
  const link = await kernel.getLink(name);
  if (link?.kind === 'bridge') return { link };
  if (link === undefined) return renamedBridge(name, kernel);
  const what = link.kind === '' ? 'a network card' : `of kind ${link.kind}`;
  throw new AttachError('ENOTBRIDGE', `"${name}" is ${what}, not a bridge`, await bridgesHere(kernel));
}

async function renamedBridge(name: Ifname, kernel: KernelNetwork): Promise<FoundBridge> {
  const other = oldBridgeName(name);
  const link = other === undefined ? undefined : await kernel.getLink(other);
  if (link?.kind === 'bridge') {
    return {
      link,
      warning: `bridge "${name}" does not exist; using ${link.ifname}, as vif-bridge does. Write bridge=${link.ifname} in the guest's vif line`,
    };
  }
  throw new AttachError('ENOBRIDGE', `bridge "${name}" does not exist`, await bridgesHere(kernel));
}

async function firstBridge(kernel: KernelNetwork): Promise<FoundBridge> {
  const [link] = await bridges(kernel);
  if (link === undefined) {
    throw new AttachError(
      'ENOBRIDGE',
      'dom0 named no bridge and there is none',
      "make a bridge, or write bridge=NAME in the guest's vif line",
    );
  }
  return {
    link,
    warning: `dom0 named no bridge; using ${link.ifname}, the first there is. Write bridge=NAME in the guest's vif line`,
  };
}

async function bridges(kernel: KernelNetwork): Promise<Link[]> {
  const links = await kernel.listLinks();
  return links.filter((link) => link.kind === 'bridge').sort((a, b) => (a.ifname < b.ifname ? -1 : 1));
}

async function bridgesHere(kernel: KernelNetwork): Promise<string> {
  const names = (await bridges(kernel)).map((link) => link.ifname);
  return names.length === 0
    ? 'there is no bridge here; make it: ip link add NAME type bridge && ip link set NAME up'
    : `bridges here: ${names.join(', ')}`;
}
