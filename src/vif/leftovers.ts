/**
 * EDGE: removes what vifd made for vifs that are gone, with this agent or before it. What belongs to an interface that is
 * there stays, for it may be in use: a vif whose nodes cannot be read just now has wanted nothing yet.
 */
import type { TableName } from '../network/guard-table.js';
import type { KernelNetwork } from '../network/kernel.js';
import { type Family, formatPrefix, hostPrefix, type Prefix } from '../network/prefix.js';
import { RTPROT_VIFD, type SeenProxy, type SeenRoute } from '../network/routes.js';
import { type Attachment, guardTable, isRouted } from './attachment.js';
import { familiesOf, isOwnProxy, isOwnRule, isRoutedRule } from './routed.js';

/** `wanted` is asked anew before each step. Rejects with NetlinkError or AttachError. */
export async function dropLeftovers(wanted: () => readonly Attachment[], kernel: KernelNetwork): Promise<void> {
  await Promise.all((['bridge', 'inet', 'nat'] as const).map((table) => dropChains(table, wanted, kernel)));
  for (const family of ['ipv4', 'ipv6'] as const) await dropRouting(family, wanted, kernel);
  await dropPorts(wanted, kernel);
}

/** What a vif that leaves has beside its interface. Rejects with NetlinkError or AttachError. */
export async function dropOwn(want: Attachment, kernel: KernelNetwork): Promise<void> {
  if (want.guard !== undefined) await kernel.setGuard(want.ifname, undefined, guardTable(want));
  if (!isRouted(want)) return;
  if (want.masquerade !== undefined) await kernel.setGuard(want.ifname, undefined, 'nat');
  for (const family of familiesOf(want)) {
    const [rules, proxies] = await Promise.all([kernel.listRules(family), kernel.listProxies(family)]);
    for (const rule of rules.filter((one) => isOwnRule(want, one))) await kernel.deleteRule(rule);
    for (const proxy of proxies.filter((one) => isOwnProxy(want, one))) await dropProxy(proxy, kernel);
  }
}

export const dropProxy = (proxy: SeenProxy, kernel: KernelNetwork): Promise<void> =>
  kernel.deleteProxy({ ...proxy, ifname: `interface ${proxy.ifindex}` }, proxy.address);

async function dropChains(table: TableName, wanted: () => readonly Attachment[], kernel: KernelNetwork): Promise<void> {
  const isStale = async (ifname: string): Promise<boolean> => {
    const want = wanted().find((one) => one.ifname === ifname);
    return want === undefined ? (await kernel.getLink(ifname)) === undefined : !standsIn(want, table);
  };
  for (const ifname of await kernel.listGuarded(table))
    if ((await isStale(ifname)) && !wanted().some((want) => want.ifname === ifname && standsIn(want, table)))
      await kernel.setGuard(ifname, undefined, table);
}

const standsIn = (want: Attachment, table: TableName): boolean =>
  table === 'nat' ? want.mode === 'nat' : guardTable(want) === table;

/** One question at a time: vifs have the first word. Routes go with their interface; rules and answers for a guest do not, and are known by its route. */
async function dropRouting(family: Family, wanted: () => readonly Attachment[], kernel: KernelNetwork): Promise<void> {
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

/** Those of a vif that was routed and is a port of a bridge now; resolves with the others. */
async function dropRoutes(
  routes: readonly SeenRoute[],
  wanted: () => readonly Attachment[],
  kernel: KernelNetwork,
): Promise<SeenRoute[]> {
  const links = routes.length === 0 ? [] : await kernel.listLinks();
  const kept: SeenRoute[] = [];
  for (const route of routes) {
    const link = links.find(({ ifindex }) => ifindex === route.ifindex);
    const isPort = wanted().some(({ mode, ifname }) => mode === 'bridge' && ifname === link?.ifname);
    if (link !== undefined && isPort) await kernel.deleteRoute(link, route);
    else kept.push(route);
  }
  return kept;
}

const isSame = (a: Prefix, b: Prefix): boolean => formatPrefix(a) === formatPrefix(b);

/** Of Open vSwitch, whose database keeps them. Those of an interface that is there stay, unless its vif is connected otherwise. */
async function dropPorts(wanted: () => readonly Attachment[], kernel: KernelNetwork): Promise<void> {
  const { openVSwitch } = kernel;
  const modeOf = (ifname: string) => wanted().find((want) => want.ifname === ifname)?.mode;
  const isStale = (ifname: string) => modeOf(ifname) !== 'openvswitch';
  for (const ifname of (await openVSwitch.ownPorts()).filter(isStale)) {
    const isThere = modeOf(ifname) === undefined && (await kernel.getLink(ifname)) !== undefined;
    if (!isThere && isStale(ifname)) await openVSwitch.removePort(ifname);
  }
}
