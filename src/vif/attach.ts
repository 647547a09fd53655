/** EDGE: brings the kernel's side of one vif to what is wanted: observe, plan, apply. */
import type { KernelNetwork } from '../network/kernel.js';
import { applySteps } from './apply.js';
import { findBridge, findLink } from './observe.js';
import { planBridge, type Step } from './plan.js';
import type { Attachment } from './policy.js';

export interface Attached {
  /** The bridge's name. */
  readonly bridge: string;
  /** Bytes; what the guest should use. */
  readonly mtu: number;
  /** What was done; empty when all was in place. */
  readonly steps: readonly Step[];
  readonly warnings: readonly string[];
}

/** Undefined while netback has not made the interface. Rejects with AttachError or NetlinkError. */
export async function attach(want: Attachment, kernel: KernelNetwork): Promise<Attached | undefined> {
  const [link, bridge] = await Promise.all([findLink(want, kernel), findBridge(want.bridge, kernel)]);
  if (link === undefined) return undefined;
  const [addresses, features] = await Promise.all([kernel.listAddresses(link.ifindex), kernel.getWantedFeatures(link)]);
  const steps = planBridge(want, { link, addresses, features, bridge: bridge.link });
  const warnings = await applySteps(steps, kernel);
  if (bridge.warning !== undefined) warnings.push(bridge.warning);
  return { bridge: bridge.link.ifname, mtu: want.mtu ?? bridge.link.mtu, steps, warnings };
}
