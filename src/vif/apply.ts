/** EDGE: carries the steps of a plan out, in order; the first that fails ends it with the kernel's reason. */
import { type AttachError, hasCode } from '../errors.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Step } from './plan.js';

export interface Applied {
  /** The steps that took effect. */
  readonly done: readonly Step[];
  /** What the kernel refused without harm. */
  readonly warnings: string[];
}

/** Rejects with NetlinkError. */
export async function applySteps(steps: readonly Step[], kernel: KernelNetwork): Promise<Applied> {
  const done: Step[] = [];
  const warnings: string[] = [];
  for (const step of steps) {
    const warning = await applyStep(step, kernel);
    if (warning === undefined) done.push(step);
    else warnings.push(warning);
  }
  return { done, warnings };
}

async function applyStep(step: Step, kernel: KernelNetwork): Promise<string | undefined> {
  switch (step.do) {
    case 'set-guard':
      return setGuard(step, kernel);
    case 'set-link':
      await kernel.setLink(step.link, step.change);
      return undefined;
    case 'set-port':
      await kernel.setPort(step.link, step.port);
      return undefined;
    case 'set-vlans':
      await kernel.setVlans(step.link, step.vlans);
      return undefined;
    case 'set-mtu':
      return setMtu(step, kernel);
    case 'delete-address':
      await kernel.deleteAddress(step.link, step.address);
      return undefined;
    case 'set-ovs-port':
      await kernel.openVSwitch.setPort(step.ifname, step.port, step.anew);
      return undefined;
    case 'set-features':
      await kernel.setFeatures(step.link, step.features);
      return undefined;
    default:
      return step satisfies never;
  }
}

async function setGuard(
  { ifname, guard, required }: Extract<Step, { do: 'set-guard' }>,
  kernel: KernelNetwork,
): Promise<string | undefined> {
  try {
    await kernel.setGuard(ifname, guard);
    return undefined;
  } catch (error) {
    if (required || !hasCode(error, 'ENONFT', 'ENFT')) throw error;
    return `${ifname} is not held to the addresses in dom0's ip=: ${(error as Error).message}; ${(error as AttachError).hint}`;
  }
}

async function setMtu(
  { link, mtu }: Extract<Step, { do: 'set-mtu' }>,
  kernel: KernelNetwork,
): Promise<string | undefined> {
  try {
    await kernel.setLink(link, { mtu });
    return undefined;
  } catch (error) {
    if (!hasCode(error, 'EINVAL')) throw error;
    return `${link.ifname} keeps MTU ${link.mtu}: the guest's driver does not allow ${mtu} (no scatter-gather). Large packets for this guest will be lost`;
  }
}
