/** Which steps lead from what is to what is wanted. Pure: the decision is data, apply.ts carries it out. */
import { describePort, type PortSettings, portChange } from '../network/bridge-port.js';
import { type PortVlans, sameVlans } from '../network/bridge-vlan.js';
import { describeFeatures, type FeatureChange, type Features } from '../network/ethtool.js';
import { type Guard, TABLES, type TableName } from '../network/guard-table.js';
import { canStay, describeOvsPort, isInPlace, type OvsPort, type SeenOvsPort } from '../network/ovs-port.js';
import { describeChange, type Link, type LinkAddress, type LinkChange } from '../network/rtnetlink.js';
import {
  type Attachment,
  type BridgeAttachment,
  type InterfaceWanted,
  isRouted,
  type OpenvswitchAttachment,
  type ScriptAttachment,
} from './attachment.js';
import type { Ifname } from './backend.js';
import { featureSteps, linkChange, mtuSteps, needsDown, type SeenInterface, startSteps } from './interface-steps.js';
import { planRouted, type RoutedPlace, type RoutedStep } from './routed.js';
import { describeRoutedStep } from './routed-words.js';
import { formatVlans } from './vlan.js';

/** The kernel's side of a vif's interface, read in one go. */
export interface Observed {
  /** The vif's interface, under netback's name or already under its own. */
  readonly link: Link;
  readonly addresses: readonly LinkAddress[];
  /** Undefined: not asked, so any may be otherwise. */
  readonly features: Features | undefined;
  /** The chain that guards the interface's name. */
  readonly guard: string | undefined;
  readonly place: Place;
}

/** What it is to be connected to, as it is now; by mode. */
export type Place = BridgePlace | RoutedPlace | ScriptPlace | OpenvswitchPlace;

export interface BridgePlace {
  readonly mode: 'bridge';
  readonly bridge: Link;
  /** Of the port; read only where any are wanted. */
  readonly vlans: PortVlans;
}

/** The script's matter. */
export interface ScriptPlace {
  readonly mode: 'script';
}

export interface OpenvswitchPlace {
  readonly mode: 'openvswitch';
  /** The port of the interface's name to be. */
  readonly port: SeenOvsPort | undefined;
  /** The vif was never connected: what is there of this name was of an interface that is gone. */
  readonly fresh: boolean;
}

export interface GuardStep {
  readonly do: 'set-guard';
  readonly table: TableName;
  readonly ifname: string;
  readonly guard: Guard | undefined;
  readonly required: boolean;
}

export type Step =
  | GuardStep
  | { readonly do: 'set-link'; readonly link: Link; readonly change: LinkChange }
  | { readonly do: 'set-port'; readonly link: Link; readonly port: PortSettings }
  /** These and no others. */
  | { readonly do: 'set-vlans'; readonly link: Link; readonly vlans: PortVlans }
  /** A frontend without scatter-gather keeps netback at 1500 bytes (xenvif_change_mtu): worth a warning, no failure. */
  | { readonly do: 'set-mtu'; readonly link: Link; readonly mtu: number }
  | { readonly do: 'set-ovs-port'; readonly ifname: string; readonly port: OvsPort; readonly anew: boolean }
  | { readonly do: 'delete-address'; readonly link: Link; readonly address: LinkAddress }
  | { readonly do: 'set-features'; readonly link: Link; readonly features: FeatureChange }
  | RoutedStep;

/**
 * INVARIANTS, of every mode
 * - Empty when all is as wanted: a second run changes nothing and never flaps the link.
 * - The guard is in force before the link can carry a frame.
 */
export function planVif(want: Attachment, { place, ...seen }: Observed): Step[] {
  switch (want.mode) {
    case 'bridge':
      return place.mode === want.mode ? planBridge(want, seen, place) : [];
    case 'routed':
    case 'nat':
      return isRouted(place) ? planRouted(want, seen, place) : [];
    case 'script':
      return planScript(want, seen);
    case 'openvswitch':
      return place.mode === want.mode ? planOpenvswitch(want, seen, place) : [];
    default:
      return want satisfies never;
  }
}

/**
 * INVARIANTS
 * - The MTU is set before the link joins the bridge, which else shrinks its own to the smallest port's.
 * - The port's settings and VLANs are in force before the link is up: an isolated guest sends no first packet to its neighbours.
 * - The link goes up last, in a request of its own: kernels before 6.2 set the flags before the master.
 */
function planBridge(want: BridgeAttachment, seen: SeenInterface, { bridge, vlans: seenVlans }: BridgePlace): Step[] {
  const { link } = seen;
  const joined = link.master === bridge.ifindex; // what another bridge's port had goes with it
  const takeDown = link.up && (needsDown(want, link) || (!joined && isSetApart(want)));
  const steps = startSteps(want, seen, takeDown, 'bridge');
  for (const address of seen.addresses) steps.push({ do: 'delete-address', link, address });
  // The bridge's MTU follows its smallest port's, and one guest with small packets must not drag its neighbours along.
  steps.push(...mtuSteps(link, want.mtu ?? (joined ? link.mtu : bridge.mtu)), ...featureSteps(want, seen));
  const change: LinkChange = { ...linkChange(want, link), ...(!joined && { master: bridge.ifindex }) };
  if (Object.keys(change).length > 0) steps.push({ do: 'set-link', link, change });
  const port = portChange(want.port, joined ? link.port : undefined);
  if (Object.keys(port).length > 0) steps.push({ do: 'set-port', link, port });
  const { vlans } = want;
  if (vlans !== undefined && !(joined && sameVlans(vlans, seenVlans))) steps.push({ do: 'set-vlans', link, vlans });
  if (!link.up || takeDown) steps.push({ do: 'set-link', link, change: { up: true } });
  return steps;
}

/** What the script does is its own: only what it could not do as well is kept so. It finds the name that netback gave. */
function planScript(want: ScriptAttachment, seen: SeenInterface): Step[] {
  const { link } = seen;
  const steps = [
    ...startSteps({ ...want, ifname: link.ifname as Ifname }, seen, false, 'bridge'),
    ...featureSteps(want, seen),
  ];
  const change: LinkChange = {
    ...(link.txqlen !== want.txqlen && { txqlen: want.txqlen }),
    ...(link.parentDev === '' && link.alias !== want.kernelName && { alias: want.kernelName }), // it may be renamed
  };
  if (Object.keys(change).length > 0) steps.push({ do: 'set-link', link, change });
  return steps;
}

/**
 * INVARIANTS
 * - The port has its VLANs from the first moment, for both come in one transaction.
 * - A port that is as it shall be is not touched, so that the switch forgets nothing.
 */
function planOpenvswitch(want: OpenvswitchAttachment, seen: SeenInterface, place: OpenvswitchPlace): Step[] {
  const { link } = seen;
  const takeDown = link.up && needsDown(want, link);
  const steps = startSteps(want, seen, takeDown, 'bridge');
  for (const address of seen.addresses) steps.push({ do: 'delete-address', link, address });
  steps.push(...mtuSteps(link, want.mtu ?? link.mtu), ...featureSteps(want, seen));
  const inLinuxBridge = link.port !== undefined; // the switch could not have it then
  const change: LinkChange = { ...linkChange(want, link), ...(inLinuxBridge && { master: 0 }) };
  if (Object.keys(change).length > 0) steps.push({ do: 'set-link', link, change });
  if (place.fresh || !isInPlace(want.port, place.port, link.ifindex)) {
    const anew = place.port !== undefined && (place.fresh || !canStay(want.port, place.port, link.ifindex));
    steps.push({ do: 'set-ovs-port', ifname: want.ifname, port: want.port, anew });
  }
  if (!link.up || takeDown) steps.push({ do: 'set-link', link, change: { up: true } });
  return steps;
}

/** For a moment after it joins, a port is like any other. */
const isSetApart = ({ vlans, port }: BridgeAttachment): boolean => vlans !== undefined || port.isolated === true;

/**
 * Whether an interface found under one of a vif's names is that vif's. A custom name may be the previous owner's (a guest that
 * reboots keeps its vifname), or one of the host's own: the device behind it decides, before Linux 5.14 our alias.
 */
export function isOwnLink(want: InterfaceWanted, link: Link): boolean {
  if (link.parentDev !== '') return link.parentDev === want.parentDev;
  return link.alias === want.kernelName || (link.alias === '' && link.ifname === want.kernelName);
}

/** One word or two per step, for the log. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case 'set-guard':
      return `${step.guard === undefined ? 'un' : ''}${TABLES[step.table].purpose}`;
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
    case 'set-ovs-port':
      return `port of ${describeOvsPort(step.port)}`;
    case 'set-features':
      return describeFeatures(step.features);
    case 'add-address':
    case 'add-route':
    case 'delete-route':
    case 'add-rule':
    case 'delete-rule':
    case 'add-proxy':
    case 'delete-proxy':
      return describeRoutedStep(step);
    default:
      return step satisfies never;
  }
}
