/** EDGE: brings the kernel's side of one vif to what is wanted: observe, plan, apply. */
import { tomlName } from '../config/schema.js';
import { hasCode, NetlinkError } from '../errors.js';
import { type Features, fixedOffloads, needNoAsking } from '../network/ethtool.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Prefix } from '../network/prefix.js';
import type { Link } from '../network/rtnetlink.js';
import { applySteps } from './apply.js';
import type { AttachQueue } from './attach-queue.js';
import { type Attachment, guardTable, isRouted } from './attachment.js';
import { guardSteps } from './interface-steps.js';
import { type Found, type FoundBridge, findLink, findPlace, guardedName, observePlace } from './observe.js';
import { type GuardStep, isOwnLink, type Place, planVif, type Step } from './plan.js';
import { routedText, routedWarnings } from './routed-words.js';

export interface Attached {
  /** What it is connected to, for people: the bridge's name. */
  readonly to: string;
  /** The bridge's name; undefined where there is none. */
  readonly bridge: string | undefined;
  /** Bytes; what is in force, and what the guest should use. */
  readonly mtu: number;
  /** What was done; empty when all was in place. */
  readonly steps: readonly Step[];
  readonly warnings: readonly string[];
  /** Of a routed vif's guest. */
  readonly gateways: readonly Prefix[];
}

/** Others may have flushed all rules; one look serves all vifs of a scan. */
const GUARD_MAX_AGE_MS = 5_000;

/** What the caller knows already, to spare the kernel a question. */
export interface Known {
  /** The vif was never connected: whatever offload it has is the driver's choice, and is cleared without asking. */
  readonly fresh?: boolean;
  /** Nobody has said yet what became of it, so what is there under its name was another's. */
  readonly first?: boolean;
  /** The interface is overdue: look for it under names that are not its own. */
  readonly overdue?: boolean;
}

export interface AttachIo {
  readonly kernel: KernelNetwork;
  readonly attaching: AttachQueue;
}

/** Undefined while netback has not made the interface. Rejects with AttachError or NetlinkError. */
export async function attach(want: Attachment, io: AttachIo, known: Known): Promise<Attached | undefined> {
  const early = known.first ? await guardEarly(want, io) : [];
  const work = () => attachInTurn(want, io.kernel, known);
  const attached = await (want.mode === 'openvswitch' ? work() : io.attaching.run(work)); // it may take its time
  return attached && { ...attached, steps: [...early, ...attached.steps] };
}

/**
 * For a vif of which nobody has said anything yet, before its turn comes: nft takes as long for one as for all that come
 * together. What stands in the way is the plan's to say.
 */
async function guardEarly(want: Attachment, { kernel, attaching }: AttachIo): Promise<readonly Step[]> {
  const steps = guardSteps(want);
  if (steps.length === 0) return [];
  const holder = await kernel.getLink(want.ifname);
  if (holder !== undefined && !isOwnLink(want, holder)) return [];
  if (holder === undefined && (await areInForce(steps, kernel))) return []; // it is looked for again and again
  await attaching.gather();
  return applySteps(steps, kernel).then(
    ({ done }) => done,
    () => [],
  );
}

async function areInForce(steps: readonly GuardStep[], kernel: KernelNetwork): Promise<boolean> {
  for (const { ifname, guard, table } of steps)
    if ((await kernel.getGuard(ifname, GUARD_MAX_AGE_MS, table)) !== guard?.chain) return false;
  return true;
}

async function attachInTurn(want: Attachment, kernel: KernelNetwork, known: Known): Promise<Attached | undefined> {
  try {
    return await attachOnce(want, kernel, known);
  } catch (error) {
    // A bridge that has been made anew since it was found: for the master's old index the kernel says EINVAL.
    if (!hasCode(error, 'EINVAL')) throw error;
    return attachOnce(want, kernel, known);
  }
}

async function attachOnce(want: Attachment, kernel: KernelNetwork, known: Known): Promise<Attached | undefined> {
  const [link, found] = await Promise.all([
    findLink(want, kernel, known.overdue || undefined),
    findPlace(want, kernel),
  ]);
  if (link === undefined) return undefined;
  await checkName(want, link, kernel);
  await leaveOpenVSwitch(want, link, kernel);
  const [guard, addresses, features, place] = await Promise.all([
    kernel.getGuard(
      guardedName(want, link),
      known.first || want.guard === undefined ? Number.POSITIVE_INFINITY : GUARD_MAX_AGE_MS,
      guardTable(want),
    ),
    kernel.listAddresses(link.ifindex),
    asksFeatures(want, known) ? kernel.getFeatures(link) : undefined,
    observePlace(want, found, link, kernel, known.first),
  ]);
  const { done, warnings } = await applySteps(planVif(want, { link, guard, addresses, features, place }), kernel);
  const mtu = done.find((step) => step.do === 'set-mtu')?.mtu ?? link.mtu;
  return {
    ...nameOf(found, want),
    mtu,
    steps: done,
    gateways: isRouted(place) ? place.gateways : [],
    warnings: [...warnings, ...warningsOf(want, found, link, place), ...fixedIn(features, want)],
  };
}

/** A guard is for a name, and would cut off whoever has that. Rejects with NetlinkError as the kernel would. */
async function checkName(want: Attachment, link: Link, kernel: KernelNetwork): Promise<void> {
  if (want.mode === 'script' || link.ifname === want.ifname) return;
  const holder = await kernel.getLink(want.ifname);
  if (holder !== undefined && holder.ifindex !== link.ifindex)
    throw new NetlinkError('EEXIST', `set ifname=${want.ifname} of`, link.ifname, 17);
}

/** Its switch would not give it away. */
async function leaveOpenVSwitch(want: Attachment, link: Link, { openVSwitch }: KernelNetwork): Promise<void> {
  if (want.mode === 'openvswitch' || want.mode === 'script' || link.master === 0 || link.port !== undefined) return;
  if ((await openVSwitch.ownPorts()).includes(link.ifname)) await openVSwitch.removePort(link.ifname);
}

function nameOf(found: Found, want: Attachment): Pick<Attached, 'to' | 'bridge'> {
  if (found.mode === 'bridge') return { to: found.link.ifname, bridge: found.link.ifname };
  if (want.mode === 'openvswitch') return { to: want.port.bridge, bridge: want.port.bridge };
  if (isRouted(want)) return { to: `routes for ${routedText(want)}`, bridge: undefined };
  return { to: want.mode === 'script' ? want.script.name : want.mode, bridge: undefined };
}

const asksFeatures = ({ offloads }: Attachment, { fresh }: Known): boolean =>
  !(fresh && needNoAsking(offloads)) && Object.keys(offloads).length > 0;

/** The driver has a word in it, too. */
function fixedIn(features: Features | undefined, { offloads }: Attachment): string[] {
  if (features === undefined) return []; // not asked
  return fixedOffloads(offloads, features).map(
    (offload) =>
      `its driver does not let ${tomlName(offload)} be ${offloads[offload] ? 'on' : 'off'}; it stays as it is`,
  );
}

function warningsOf(want: Attachment, found: Found, link: Link, place: Place): string[] {
  if (found.mode === 'bridge') return bridgeWarnings(found);
  if (want.mode === 'openvswitch' && want.unguarded.length > 0)
    return ["it is not held to the addresses in dom0's ip=: frames of Open vSwitch pass nftables by"];
  if (!isRouted(want) || !isRouted(place)) return [];
  return routedWarnings(want, link, place).map(({ says, remedy }) => `${says}: ${remedy}`);
}

function bridgeWarnings({ warning, link: { ifname, up } }: FoundBridge): string[] {
  const down = `the bridge ${ifname} is down, so no packet passes: ip link set ${ifname} up`;
  return [...(warning === undefined ? [] : [warning]), ...(up ? [] : [down])];
}
