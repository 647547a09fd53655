/**
 * EDGE: removes what vifd made for vifs that are gone, with this agent or before it. What belongs to an interface that is
 * there stays, for it may be in use: a vif whose nodes cannot be read just now has wanted nothing yet.
 */
import type { TableName } from '../network/guard-table.js';
import type { KernelNetwork } from '../network/kernel.js';
import { type Family, formatPrefix, type Prefix } from '../network/prefix.js';
import { RTPROT_VIFD, type SeenRoute } from '../network/routes.js';
import { type Attachment, guardTable } from './attachment.js';
import { isRoutedRule } from './routed.js';

/** `wanted` is asked anew before each step. Rejects with NetlinkError or AttachError. */
export async function dropLeftovers(wanted: () => readonly Attachment[], kernel: KernelNetwork): Promise<void> {
  await Promise.all((['bridge', 'inet', 'nat'] as const).map((table) => dropChains(table, wanted, kernel)));
  for (const family of ['ipv4', 'ipv6'] as const) await dropRouting(family, wanted, kernel);
}

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
  table === 'nat' ? want.mode === 'nat' : guardTable(want.mode) === table;

/** Routes go with their interface; rules and answers for a guest do not, and are known by its route. */
async function dropRouting(family: Family, wanted: () => readonly Attachment[], kernel: KernelNetwork): Promise<void> {
  const [routes, rules, proxies] = await Promise.all([
    kernel.listRoutes(family),
    kernel.listRules(family),
    kernel.listProxies(family),
  ]);
  const own = await dropRoutes(
    routes.filter(({ protocol }) => protocol === RTPROT_VIFD),
    wanted,
    kernel,
  );
  const isInUse = (from: Prefix) =>
    wanted().some((want) => want.mode !== 'bridge' && want.addresses.some((one) => isSame(one, from))) ||
    own.some(({ destination }) => isSame(destination, from));
  for (const rule of rules.filter(isRoutedRule)) if (!isInUse(rule.from)) await kernel.deleteRule(rule);
  for (const { address, ifindex, protocol } of proxies) {
    const host: Prefix = { family, address, length: family === 'ipv4' ? 32 : 128 };
    if (protocol === RTPROT_VIFD && !isInUse(host))
      await kernel.deleteProxy({ ifindex, ifname: `interface ${ifindex}` }, address);
  }
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
