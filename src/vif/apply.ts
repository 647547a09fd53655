/** EDGE: carries the steps of a plan out, in order; the first that fails ends it with the kernel's reason. */
import { AttachError, hasCode } from '../errors.js';
import type { KernelNetwork } from '../network/kernel.js';
import { formatPrefix, shortPrefix } from '../network/prefix.js';
import { RT_TABLE_MAIN } from '../network/routes.js';
import { plainWord } from '../text.js';
import { dropProxy } from './leftovers.js';
import type { GuardStep, Step } from './plan.js';

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
    case 'add-address':
      await kernel.addAddress(step.link, step.prefix);
      return undefined;
    case 'add-route':
      await addRoute(step, kernel);
      return undefined;
    case 'delete-route':
      await kernel.deleteRoute(step.link, step.route);
      return undefined;
    case 'add-rule':
      await kernel.addRule(step.rule);
      return undefined;
    case 'delete-rule':
      await kernel.deleteRule(step.rule);
      return undefined;
    case 'delete-proxy':
      await dropProxy(step.proxy, kernel);
      return undefined;
    case 'add-proxy':
      await kernel.addProxy(step.link, step.address);
      return undefined;
    default:
      return step satisfies never;
  }
}

async function setGuard(step: GuardStep, kernel: KernelNetwork): Promise<string | undefined> {
  try {
    await kernel.setGuard(step.ifname, step.guard, step.table);
    return undefined;
  } catch (error) {
    return unguarded(step, error);
  }
}

/** What to say of a vif that goes without it. Throws where it must not. */
export function unguarded({ ifname, required }: GuardStep, error: unknown): string {
  if (required || !hasCode(error, 'ENONFT', 'ENFT', 'ENFTTIME')) throw error;
  return `${ifname} is not held to the addresses in dom0's ip=: ${error.message}; ${(error as AttachError).hint}`;
}

/** One destination leads to one place. Rejects with AttachError where it leads to another already. */
async function addRoute({ link, route }: Extract<Step, { do: 'add-route' }>, kernel: KernelNetwork): Promise<void> {
  try {
    await kernel.addRoute(link, route);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    const { destination } = route;
    const [routes, links] = await Promise.all([kernel.listRoutes(destination.family), kernel.listLinks()]);
    const holder = routes.find(
      (seen) => seen.table === RT_TABLE_MAIN && formatPrefix(seen.destination) === formatPrefix(destination),
    );
    const ifname = links.find(({ ifindex }) => ifindex === holder?.ifindex)?.ifname ?? 'another interface';
    const text = shortPrefix(destination);
    throw new AttachError(
      'EROUTE',
      `${text} cannot be routed to ${link.ifname}: it is routed to ${plainWord(ifname)} already`,
      `an address belongs to one vif; give another in ip=, or remove the route: ip route del ${text} dev ${plainWord(ifname)}`,
    );
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
