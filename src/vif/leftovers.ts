/**
 * EDGE: removes what vifd made for vifs that are gone, with this agent or before it. What belongs to an interface that is
 * there stays, for it may be in use: a vif whose nodes cannot be read just now has wanted nothing yet.
 */
import type { TableName } from '../network/guard-table.js';
import type { KernelNetwork } from '../network/kernel.js';
import { type Family, formatPrefix, hostPrefix, type Prefix } from '../network/prefix.js';
import { RTPROT_VIFD, type SeenProxy, type SeenRoute } from '../network/routes.js';
import { type Attachment, guardTable, isRouted } from './attachment.js';
import { isRoutedRule } from './routed.js';
import { isVifLink } from './seen.js';

/** What a vif shall have; until that is in force, it may have something else that its guest lives on. */
export type Wanted = Attachment & { readonly inForce: boolean };

/** `wanted` is asked anew before each step. One that cannot go keeps none of the others. Resolves with what failed. */
export async function dropLeftovers(wanted: () => readonly Wanted[], kernel: KernelNetwork): Promise<Error[]> {
  const faults: Error[] = [];
  const each = (work: Promise<void>) => work.catch((error) => void faults.push(error));
  await Promise.all((['bridge', 'inet', 'nat'] as const).map((table) => each(dropChains(table, wanted, kernel))));
  for (const family of ['ipv4', 'ipv6'] as const) await each(dropRouting(family, wanted, kernel));
  await each(dropPorts(wanted, kernel));
  return faults;
}

const named = (ifname: string | undefined, wanted: () => readonly Wanted[]): Wanted[] =>
  wanted().filter((want) => want.ifname === ifname);

/** Nobody's: neither what a vif shall have nor what it may live on until then. */
async function isNobodys(
  ifname: string,
  has: (want: Wanted) => boolean,
  wanted: () => readonly Wanted[],
  kernel: KernelNetwork,
): Promise<boolean> {
  const isFree = () => named(ifname, wanted).every((want) => want.inForce && !has(want));
  if (!isFree()) return false;
  if (named(ifname, wanted).length > 0) return true;
  const link = await kernel.getLink(ifname);
  return (link === undefined || !isVifLink(link)) && isFree();
}

export const dropProxy = (proxy: SeenProxy, kernel: KernelNetwork): Promise<void> =>
  kernel.deleteProxy({ ...proxy, ifname: `interface ${proxy.ifindex}` }, proxy.address);

async function dropChains(table: TableName, wanted: () => readonly Wanted[], kernel: KernelNetwork): Promise<void> {
  const has = (want: Wanted) => standsIn(want, table);
  const drop = async (ifname: string) => {
    if (await isNobodys(ifname, has, wanted, kernel)) await kernel.setGuard(ifname, undefined, table);
  };
  await Promise.all((await kernel.listGuarded(table)).map(drop)); // in one transaction
}

const standsIn = (want: Attachment, table: TableName): boolean =>
  table === 'nat' ? want.mode === 'nat' : guardTable(want) === table;

/** One question at a time: vifs have the first word. Routes go with their interface; rules and answers for a guest do not, and are known by its route. */
async function dropRouting(family: Family, wanted: () => readonly Wanted[], kernel: KernelNetwork): Promise<void> {
  const own = await dropRoutes(
    (await kernel.listRoutes(family)).filter(({ protocol }) => protocol === RTPROT_VIFD),
    wanted,
    kernel,
  );
  const isInUse = (from: Prefix) =>
    wanted().some((want) => isRouted(want) && want.addresses.some((one) => isSame(one, from))) ||
    own.some(({ destination }) => isSame(destination, from));
  for (const rule of (await kernel.listRules(family)).filter(isRoutedRule))
    if (!isInUse(rule.from)) await kernel.deleteRule(rule);
  for (const proxy of await kernel.listProxies(family))
    if (proxy.protocol === RTPROT_VIFD && !isInUse(hostPrefix(proxy.address))) await dropProxy(proxy, kernel);
}

/** Those of a vif that was routed and is connected otherwise now; resolves with the others. */
async function dropRoutes(
  routes: readonly SeenRoute[],
  wanted: () => readonly Wanted[],
  kernel: KernelNetwork,
): Promise<SeenRoute[]> {
  const links = routes.length === 0 ? [] : await kernel.listLinks();
  const kept: SeenRoute[] = [];
  for (const route of routes) {
    const link = links.find(({ ifindex }) => ifindex === route.ifindex);
    const isOther = named(link?.ifname, wanted).some((want) => want.inForce && !isRouted(want));
    if (link !== undefined && isOther) await kernel.deleteRoute(link, route);
    else kept.push(route);
  }
  return kept;
}

const isSame = (a: Prefix, b: Prefix): boolean => formatPrefix(a) === formatPrefix(b);

/** Of Open vSwitch, whose database keeps them. */
async function dropPorts(wanted: () => readonly Wanted[], kernel: KernelNetwork): Promise<void> {
  const has = ({ mode }: Wanted) => mode === 'openvswitch';
  for (const ifname of await kernel.openVSwitch.ownPorts())
    if (await isNobodys(ifname, has, wanted, kernel)) await kernel.openVSwitch.removePort(ifname);
}
