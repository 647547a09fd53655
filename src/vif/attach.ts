/** EDGE: brings the kernel's side of one vif to what is wanted: observe, plan, apply. */
import { tomlName } from '../config/schema.js';
import { hasCode, NetlinkError } from '../errors.js';
import { type Features, fixedOffloads, needNoAsking } from '../network/ethtool.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Prefix } from '../network/prefix.js';
import type { Link } from '../network/rtnetlink.js';
import { type Applied, applySteps, unguarded } from './apply.js';
import type { AttachQueue } from './attach-queue.js';
import { type Attachment, guardTable, isRouted, modeText } from './attachment.js';
import type { Ifname } from './backend.js';
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

/** What the caller knows already, to spare the kernel a question. */
export interface Spared {
  /**
   * Of the vif, by its status. `nothing`: what is there under its name was another's. All but `connected`: whatever offload it
   * has is the driver's choice, and is cleared without asking.
   */
  readonly said: 'nothing' | 'something' | 'connected';
  /** The interface is overdue: look for it under names that are not its own. */
  readonly overdue: boolean;
}

export interface AttachIo {
  readonly kernel: KernelNetwork;
  readonly attaching: AttachQueue;
}

/** Undefined while netback has not made the interface. Rejects with AttachError or NetlinkError. */
export async function attach(want: Attachment, io: AttachIo, spared: Spared): Promise<Attached | undefined> {
  const attached = await io.attaching.alone(want.ifname, () => attachAlone(want, io, spared));
  if (attached === false) throw nameTaken(want);
  return attached;
}

async function attachAlone(want: Attachment, io: AttachIo, spared: Spared): Promise<Attached | undefined> {
  const guarded = await guardFirst(want, io);
  const work = () => attachInTurn(want, io.kernel, { ...spared, guarded: guarded.ifname });
  const attached = await (want.mode === 'openvswitch' ? work() : io.attaching.run(work)); // it may take its time
  if (attached === undefined) return undefined;
  const { steps, warnings } = attached;
  return { ...attached, steps: [...guarded.done, ...steps], warnings: [...guarded.warnings, ...warnings] };
}

/** What was done for the guard. */
interface Guarded extends Applied {
  /** Undefined: it is the plan's matter. */
  readonly ifname: string | undefined;
}

/**
 * Before its turn comes: nft takes as long for one as for all that come together, and while it hangs others have their turn.
 * What stands in the way of the guard is the plan's to say.
 */
async function guardFirst(want: Attachment, { kernel, attaching }: AttachIo): Promise<Guarded> {
  const ifname = await nameToGuard(want, kernel);
  if (ifname === undefined) return { ifname, done: [], warnings: [] };
  const { lacking, warnings } = await notInForce(guardSteps({ ...want, ifname }), kernel);
  if (lacking.length === 0) return { ifname, done: [], warnings };
  const holder = await kernel.getLink(ifname);
  if (holder !== undefined && !isOwnLink(want, holder)) return { ifname: undefined, done: [], warnings };
  await findPlace(want, kernel); // a place that cannot be had takes nothing of what a running vif has
  await attaching.gather();
  const applied = await applySteps(lacking, kernel);
  return { ifname, done: applied.done, warnings: [...warnings, ...applied.warnings] };
}

/** Of which nft does not say it, a vif may have to do without. */
async function notInForce(
  steps: readonly GuardStep[],
  kernel: KernelNetwork,
): Promise<{ lacking: GuardStep[]; warnings: string[] }> {
  const [lacking, warnings]: [GuardStep[], string[]] = [[], []];
  for (const step of steps)
    try {
      if ((await chainOf(step, kernel)) !== step.guard?.chain) lacking.push(step);
    } catch (error) {
      warnings.push(unguarded(step, error));
    }
  return { lacking, warnings };
}

/** What a script calls the interface is not known before it is there. */
async function nameToGuard(want: Attachment, kernel: KernelNetwork): Promise<Ifname | undefined> {
  if (want.mode !== 'script') return want.ifname;
  return (await findLink(want, kernel))?.ifname as Ifname | undefined;
}

/** A vif that wants none waits for no nft. */
const chainOf = (
  { ifname, guard, table }: Pick<GuardStep, 'ifname' | 'guard' | 'table'>,
  kernel: KernelNetwork,
): Promise<string | undefined> => kernel.getGuard(ifname, guard === undefined ? 'stale' : 'now', table);

/** In its turn. */
interface SparedInTurn extends Spared {
  /** The name for which all has been done for the guard already; undefined: none. */
  readonly guarded: string | undefined;
}

async function attachInTurn(
  want: Attachment,
  kernel: KernelNetwork,
  spared: SparedInTurn,
): Promise<Attached | undefined> {
  try {
    return await attachOnce(want, kernel, spared);
  } catch (error) {
    // A bridge that has been made anew since it was found: for the master's old index the kernel says EINVAL.
    if (!hasCode(error, 'EINVAL')) throw error;
    return attachOnce(want, kernel, spared);
  }
}

async function attachOnce(
  want: Attachment,
  kernel: KernelNetwork,
  spared: SparedInTurn,
): Promise<Attached | undefined> {
  const [link, found] = await Promise.all([
    findLink(want, kernel, spared.overdue || undefined),
    findPlace(want, kernel),
  ]);
  if (link === undefined) return undefined;
  await checkName(want, link, kernel);
  await leaveOpenVSwitch(want, link, kernel);
  const ifname = guardedName(want, link);
  const [guard, addresses, features, place] = await Promise.all([
    spared.guarded === ifname
      ? want.guard?.chain
      : chainOf({ ifname, guard: want.guard, table: guardTable(want) }, kernel),
    kernel.listAddresses(link.ifindex),
    asksFeatures(want, spared) ? kernel.getFeatures(link) : undefined,
    observePlace(want, found, link, kernel, spared.said === 'nothing'),
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
  if (holder !== undefined && holder.ifindex !== link.ifindex) throw nameTaken(want);
}

const nameTaken = ({ ifname, kernelName }: Attachment): NetlinkError =>
  new NetlinkError('EEXIST', `set ifname=${ifname} of`, kernelName, 17);

/** Its switch would not give it away. */
async function leaveOpenVSwitch(want: Attachment, link: Link, { openVSwitch }: KernelNetwork): Promise<void> {
  if (want.mode === 'openvswitch' || want.mode === 'script' || link.master === 0 || link.port !== undefined) return;
  if ((await openVSwitch.ownPorts()).includes(link.ifname)) await openVSwitch.removePort(link.ifname);
}

function nameOf(found: Found, want: Attachment): Pick<Attached, 'to' | 'bridge'> {
  if (found.mode === 'bridge') return { to: found.link.ifname, bridge: found.link.ifname };
  if (want.mode === 'openvswitch') return { to: want.port.bridge, bridge: want.port.bridge };
  if (isRouted(want)) return { to: `routes for ${routedText(want)}`, bridge: undefined };
  return { to: modeText(want), bridge: undefined };
}

const asksFeatures = ({ offloads }: Attachment, { said }: Spared): boolean =>
  !(said !== 'connected' && needNoAsking(offloads)) && Object.keys(offloads).length > 0;

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
