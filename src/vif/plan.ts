/** Which steps lead from what is to what is wanted. Pure: the decision is data, apply.ts carries it out. */
import { describePort, type PortSettings, portChange } from '../network/bridge-port.js';
import { type PortVlans, sameVlans } from '../network/bridge-vlan.js';
import { TX_CHECKSUM_FEATURES } from '../network/ethtool.js';
import type { Guard } from '../network/guard-table.js';
import {
  ADDR_GEN_MODE_NONE,
  describeChange,
  type Link,
  type LinkAddress,
  type LinkChange,
} from '../network/rtnetlink.js';
import type { BridgeAttachment } from './policy.js';
import { formatVlans } from './vlan.js';

/** The kernel's side of a vif, read in one go. */
export interface Observed {
  /** The vif's interface, under netback's name or already under its own. */
  readonly link: Link;
  readonly addresses: readonly LinkAddress[];
  /** Features that are wanted, active or not; undefined: not asked, so any may be. */
  readonly features: ReadonlySet<string> | undefined;
  /** The chain that guards the interface's name. */
  readonly guard: string | undefined;
  /** Of the port; read only where any are wanted. */
  readonly vlans: PortVlans;
  readonly bridge: Link;
}

export type Step =
  | { readonly do: 'set-guard'; readonly ifname: string; readonly guard: Guard | undefined; readonly required: boolean }
  | { readonly do: 'set-link'; readonly link: Link; readonly change: LinkChange }
  | { readonly do: 'set-port'; readonly link: Link; readonly port: PortSettings }
  /** These and no others. */
  | { readonly do: 'set-vlans'; readonly link: Link; readonly vlans: PortVlans }
  /** A frontend without scatter-gather keeps netback at 1500 bytes (xenvif_change_mtu): worth a warning, no failure. */
  | { readonly do: 'set-mtu'; readonly link: Link; readonly mtu: number }
  | { readonly do: 'delete-address'; readonly link: Link; readonly address: LinkAddress }
  | { readonly do: 'clear-features'; readonly link: Link; readonly names: readonly string[] };

/**
 * INVARIANTS
 * - Empty when all is as wanted: a second run changes nothing and never flaps the link.
 * - The guard is in force before the link can carry a frame.
 * - The MTU is set before the link joins the bridge, which else shrinks its own to the smallest port's.
 * - The port's settings and VLANs are in force before the link is up: an isolated guest sends no first packet to its neighbours.
 * - The link goes up last, in a request of its own: kernels before 6.2 set the flags before the master.
 */
export function planBridge(want: BridgeAttachment, seen: Observed): Step[] {
  const { link } = seen;
  const joined = link.master === seen.bridge.ifindex; // what another bridge's port had goes with it
  const takeDown = link.up && (needsDown(want, link) || (!joined && isSetApart(want)));
  const steps: Step[] = [];
  if (want.guard?.chain !== seen.guard)
    steps.push({ do: 'set-guard', ifname: want.ifname, guard: want.guard, required: want.guardRequired });
  if (takeDown) steps.push({ do: 'set-link', link, change: { up: false } });
  if (link.ifname !== want.ifname) {
    // The alias tells whose interface a custom name is; see isOwnLink.
    steps.push({ do: 'set-link', link, change: { ifname: want.ifname, alias: want.kernelName } });
  }
  for (const address of seen.addresses) steps.push({ do: 'delete-address', link, address });
  const mtu = wantedMtu(want, seen);
  if (link.mtu !== mtu) steps.push({ do: 'set-mtu', link, mtu });
  const names = want.clearTxChecksum ? TX_CHECKSUM_FEATURES.filter((name) => seen.features?.has(name) ?? true) : [];
  if (names.length > 0) steps.push({ do: 'clear-features', link, names });
  const change = bridgePortChange(want, seen);
  if (Object.keys(change).length > 0) steps.push({ do: 'set-link', link, change });
  const port = portChange(want.port, joined ? link.port : undefined);
  if (Object.keys(port).length > 0) steps.push({ do: 'set-port', link, port });
  const { vlans } = want;
  if (vlans !== undefined && !(joined && sameVlans(vlans, seen.vlans))) steps.push({ do: 'set-vlans', link, vlans });
  if (!link.up || takeDown) steps.push({ do: 'set-link', link, change: { up: true } });
  return steps;
}

/**
 * Without an MTU of its own a vif takes the bridge's when it joins, and then keeps what it has: the bridge's follows its smallest
 * port's, and one guest with small packets must not drag its neighbours along.
 */
function wantedMtu(want: BridgeAttachment, { link, bridge }: Observed): number {
  return want.mtu ?? (link.master === bridge.ifindex ? link.mtu : bridge.mtu);
}

/** netback refuses a new address, and kernels before 6.2 a new name, while the link is up. */
function needsDown(want: BridgeAttachment, link: Link): boolean {
  return link.address !== want.address || link.ifname !== want.ifname;
}

/** For a moment after it joins, a port is like any other. */
const isSetApart = ({ vlans, port }: BridgeAttachment): boolean => vlans !== undefined || port.isolated === true;

function bridgePortChange(want: BridgeAttachment, { link, bridge }: Observed): LinkChange {
  return {
    ...(link.address !== want.address && { address: want.address }),
    ...(link.txqlen !== want.txqlen && { txqlen: want.txqlen }),
    // Else the port takes an IPv6 address of its own and sends neighbour and router solicitations to the guest.
    ...(link.addrGenMode !== undefined &&
      link.addrGenMode !== ADDR_GEN_MODE_NONE && { addrGenMode: ADDR_GEN_MODE_NONE }),
    ...(link.master !== bridge.ifindex && { master: bridge.ifindex }),
  };
}

/**
 * Whether an interface found under one of a vif's names is that vif's. A custom name may be the previous owner's (a guest that
 * reboots keeps its vifname), or one of the host's own: the device behind it decides, before Linux 5.14 our alias.
 */
export function isOwnLink(want: BridgeAttachment, link: Link): boolean {
  if (link.parentDev !== '') return link.parentDev === want.parentDev;
  return link.alias === want.kernelName || (link.alias === '' && link.ifname === want.kernelName);
}

/** One word or two per step, for the log. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case 'set-guard':
      return step.guard === undefined ? 'unguarded' : 'guarded';
    case 'set-link':
      return describeChange(step.change);
    case 'set-port':
      return describePort(step.port);
    case 'set-vlans':
      return `vlan=${formatVlans(step.vlans)}`;
    case 'set-mtu':
      return `mtu=${step.mtu}`;
    case 'delete-address':
      return 'address removed';
    case 'clear-features':
      return `off: ${step.names.join(' ')}`;
    default:
      return step satisfies never;
  }
}
