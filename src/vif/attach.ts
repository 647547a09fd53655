/** EDGE: brings the kernel's side of one vif to what is wanted: observe, plan, apply. */
import { hasCode } from '../errors.js';
import { NO_VLANS } from '../network/bridge-vlan.js';
import type { KernelNetwork } from '../network/kernel.js';
import { applySteps } from './apply.js';
import { findBridge, findLink } from './observe.js';
import { planBridge, type Step } from './plan.js';
import type { Attachment } from './policy.js';

export interface Attached {
  /** The bridge's name. */
  readonly bridge: string;
  /** Bytes; what is in force, and what the guest should use. */
  readonly mtu: number;
  /** What was done; empty when all was in place. */
  readonly steps: readonly Step[];
  readonly warnings: readonly string[];
}

/** Others may have flushed all rules; one look serves all vifs of a scan. */
const GUARD_MAX_AGE_MS = 5_000;

/** What the caller knows already, to spare the kernel a question. */
export interface Known {
  /** The vif was never connected: whatever offload it has is the driver's choice, and is cleared without asking. */
  readonly fresh?: boolean;
  /** The interface is overdue: look for it under names that are not its own. */
  readonly overdue?: boolean;
}

/** Undefined while netback has not made the interface. Rejects with AttachError or NetlinkError. */
export async function attach(want: Attachment, kernel: KernelNetwork, known: Known): Promise<Attached | undefined> {
  try {
    return await attachOnce(want, kernel, known);
  } catch (error) {
    // A bridge that has been made anew since it was found: for the master's old index the kernel says EINVAL.
    if (!hasCode(error, 'EINVAL')) throw error;
    return attachOnce(want, kernel, known);
  }
}

async function attachOnce(want: Attachment, kernel: KernelNetwork, known: Known): Promise<Attached | undefined> {
  const [link, bridge] = await Promise.all([findLink(want, kernel, known.overdue), findBridge(want, kernel)]);
  if (link === undefined) return undefined;
  const [guard, addresses, features, vlans] = await Promise.all([
    known.fresh && want.guard !== undefined
      ? undefined // it is set in any case: what was read long ago may be gone
      : kernel.getGuard(want.ifname, want.guard === undefined ? Number.POSITIVE_INFINITY : GUARD_MAX_AGE_MS),
    kernel.listAddresses(link.ifindex),
    known.fresh || !want.clearTxChecksum ? undefined : kernel.getWantedFeatures(link),
    want.vlans === undefined ? NO_VLANS : kernel.getVlans(link),
  ]);
  const { done, warnings } = await applySteps(
    planBridge(want, { link, guard, addresses, features, vlans, bridge: bridge.link }),
    kernel,
  );
  if (bridge.warning !== undefined) warnings.push(bridge.warning);
  if (!bridge.link.up) {
    const { ifname } = bridge.link;
    warnings.push(`the bridge ${ifname} is down, so no packet passes: ip link set ${ifname} up`);
  }
  const mtu = done.find((step) => step.do === 'set-mtu')?.mtu ?? link.mtu;
  return { bridge: bridge.link.ifname, mtu, steps: done, warnings };
}
