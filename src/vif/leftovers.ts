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

/** What is in use is found in one go, for it is nearly all; what is left is asked for by name. */
const namesOf = (wants: readonly Wanted[]): Set<string> => new Set(wants.map(({ ifname }) => ifname));

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
  const names = await kernel.listGuarded(table);
  const used = namesOf(wanted().filter((want) => !want.inForce || has(want)));
  await Promise.all(names.filter((ifname) => !used.has(ifname)).map(drop)); // in one transaction
}

const standsIn = (want: Attachment, table: TableName): boolean =>
  table === 'nat' ? want.mode === 'nat' : want.guard !== undefined && guardTable(want) === table;

/** One question at a time: vifs have the first word. Routes go with their interface; rules and answers for a guest do not, and are known by its route. */
async function dropRouting(family: Family, wanted: () => readonly Wanted[], kernel: KernelNetwork): Promise<void> {
  const own = await dropRoutes(await kernel.listRoutes(family, { protocol: RTPROT_VIFD }), wanted, kernel);
  const used = addressesOf(wanted());
  for (const { destination } of own) used.add(formatPrefix(destination));
  const isFree = (from: Prefix) => !used.has(formatPrefix(from)) && !addressesOf(wanted()).has(formatPrefix(from));
  for (const rule of (await kernel.listRules(family)).filter(isRoutedRule))
    if (isFree(rule.from)) await kernel.deleteRule(rule);
  for (const proxy of await kernel.listProxies(family))
    if (proxy.protocol === RTPROT_VIFD && isFree(hostPrefix(proxy.address))) await dropProxy(proxy, kernel);
}

const addressesOf = (wants: readonly Wanted[]): Set<string> =>
  new Set(wants.filter(isRouted).flatMap(({ addresses }) => addresses.map(formatPrefix)));

/** Those of a vif that was routed and is connected otherwise now; resolves with the others. */
async function dropRoutes(
  routes: readonly SeenRoute[],
  wanted: () => readonly Wanted[],
  kernel: KernelNetwork,
): Promise<SeenRoute[]> {
  const inForce = addressesOf(wanted().filter((want) => want.inForce));
  const isWanted = ({ destination }: SeenRoute) => inForce.has(formatPrefix(destination));
  const [kept, doubtful] = [routes.filter(isWanted), routes.filter((route) => !isWanted(route))];
  const links = doubtful.length === 0 ? [] : await kernel.listLinks();
  for (const route of doubtful) {
    const link = links.find(({ ifindex }) => ifindex === route.ifindex);
    const isOther = named(link?.ifname, wanted).some((want) => want.inForce && !isRouted(want));
    if (link !== undefined && isOther) await kernel.deleteRoute(link, route);
    else kept.push(route);
  }
  return kept;
}

/** Of Open vSwitch, whose database keeps them. */
async function dropPorts(wanted: () => readonly Wanted[], kernel: KernelNetwork): Promise<void> {
  const has = ({ mode }: Wanted) => mode === 'openvswitch';
  for (const ifname of await kernel.openVSwitch.ownPorts())
    if (await isNobodys(ifname, has, wanted, kernel)) await kernel.openVSwitch.removePort(ifname);
}
