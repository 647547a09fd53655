/** EDGE: carries the steps of a plan out, in order; the first that fails ends it with the kernel's reason. */
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../errors.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Step } from './plan.js';

/** Transient answers: EBUSY when several vifs appear at once (contract 10.6), EEXIST while a name's old holder goes. */
const RETRY_AFTER_MS = [2, 10, 50, 200];

/** Resolves with warnings: what the kernel refused without harm. Rejects with NetlinkError. */
export async function applySteps(steps: readonly Step[], kernel: KernelNetwork): Promise<string[]> {
  const warnings: string[] = [];
  for (const step of steps) {
    const warning = await retryTransient(() => applyStep(step, kernel));
    if (warning !== undefined) warnings.push(warning);
  }
  return warnings;
}

async function retryTransient<T>(attempt: () => Promise<T>): Promise<T> {
  for (const waitMs of RETRY_AFTER_MS) {
    try {
      return await attempt();
    } catch (error) {
      if (!hasCode(error, 'EBUSY', 'EEXIST')) throw error;
      await sleep(waitMs);
    }
  }
  return attempt();
}

async function applyStep(step: Step, kernel: KernelNetwork): Promise<string | undefined> {
  switch (step.do) {
    case 'set-link':
      await kernel.setLink(step.link, step.change);
      return undefined;
    case 'set-mtu':
      return setMtu(step, kernel);
    case 'delete-address':
      await kernel.deleteAddress(step.link, step.address);
      return undefined;
    case 'clear-features':
      await kernel.clearFeatures(step.link, step.names);
      return undefined;
    default:
      return step satisfies never;
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
