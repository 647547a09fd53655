/** The steps that every mode needs for the interface itself. Pure. */
import { featureChange } from '../network/ethtool.js';
import type { TableName } from '../network/guard-table.js';
import { ADDR_GEN_MODE_NONE, type Link, type LinkChange } from '../network/rtnetlink.js';
import { type Attachment, guardTable, type InterfaceWanted, isRouted, type RoutedAttachment } from './attachment.js';
import type { GuardStep, Observed, Step } from './plan.js';

export type SeenInterface = Omit<Observed, 'place'>;

/** What comes first in every mode: guarded, down if it must be, and under its own name. */
export function startSteps(
  want: InterfaceWanted,
  { link, guard }: SeenInterface,
  takeDown: boolean,
  table: TableName,
): Step[] {
  const steps: Step[] = [];
  if (want.guard?.chain !== guard) steps.push(guardStep(want, table));
  if (takeDown) steps.push({ do: 'set-link', link, change: { up: false } });
  // The alias tells whose interface a custom name is; see isOwnLink.
  if (link.ifname !== want.ifname)
    steps.push({ do: 'set-link', link, change: { ifname: want.ifname, alias: want.kernelName } });
  return steps;
}

const guardStep = (want: InterfaceWanted, table: TableName): GuardStep => ({
  do: 'set-guard',
  table,
  ifname: want.ifname,
  guard: want.guard,
  required: want.guardRequired,
});

export const masqueradeStep = ({ ifname, masquerade: guard }: RoutedAttachment): GuardStep => ({
  do: 'set-guard',
  table: 'nat',
  ifname,
  guard,
  required: true,
});

/** All that holds its guest from the first moment on. */
export function guardSteps(want: Attachment): GuardStep[] {
  return [
    guardStep(want, guardTable(want)),
    ...(isRouted(want) && want.masquerade !== undefined ? [masqueradeStep(want)] : []),
  ];
}

/** netback refuses a new address, and kernels before 6.2 a new name, while the link is up. */
export function needsDown(want: InterfaceWanted, link: Link): boolean {
  return link.address !== want.address || link.ifname !== want.ifname;
}

export const mtuSteps = (link: Link, mtu: number): Step[] => (link.mtu === mtu ? [] : [{ do: 'set-mtu', link, mtu }]);

export function featureSteps(want: InterfaceWanted, { link, features }: SeenInterface): Step[] {
  const change = featureChange(want.offloads, features);
  return Object.keys(change).length === 0 ? [] : [{ do: 'set-features', link, features: change }];
}

export function linkChange(want: InterfaceWanted, link: Link): LinkChange {
  return {
    ...(link.address !== want.address && { address: want.address }),
    ...(link.txqlen !== want.txqlen && { txqlen: want.txqlen }),
    // Else it takes an IPv6 address of its own and sends neighbour and router solicitations to the guest.
    ...(link.addrGenMode !== undefined &&
      link.addrGenMode !== ADDR_GEN_MODE_NONE && { addrGenMode: ADDR_GEN_MODE_NONE }),
  };
}
