/** EDGE: takes a vif out of all that it was connected to, for a script that is told `offline`. */
import { hasCode } from '../errors.js';
import type { KernelNetwork } from '../network/kernel.js';
import { formatPrefix, hostPrefix, type Prefix } from '../network/prefix.js';
import { RTPROT_VIFD } from '../network/routes.js';
import { type Attachment, guardTable, isRouted, type RoutedAttachment } from './attachment.js';
import { dropProxy } from './leftovers.js';
import { findLink } from './observe.js';
import { isOwnLink } from './plan.js';
import { familiesOf, isOwnProxy, isOwnRule } from './routed.js';

/**
 * An interface that is gone, or goes meanwhile, is detached. What stands under its name or for its addresses stays where another
 * vif has these: then it was never connected itself. Rejects with NetlinkError or AttachError.
 */
export async function detach(want: Attachment, kernel: KernelNetwork): Promise<void> {
  if (want.mode !== 'script') await takeDown(want, kernel); // else its own `offline` does that
  const holder = await kernel.getLink(want.ifname);
  if (holder === undefined || isOwnLink(want, holder)) await dropNamed(want, kernel);
  if (isRouted(want)) await dropRouting(want, kernel);
}

async function takeDown(want: Attachment, kernel: KernelNetwork): Promise<void> {
  try {
    const link = await findLink(want, kernel, true);
    if (link?.up) await kernel.setLink(link, { up: false });
    const isPort = link !== undefined && link.master !== 0 && want.mode !== 'openvswitch'; // whose port goes below
    if (isPort) await kernel.setLink(link, { master: 0 });
  } catch (error) {
    if (!hasCode(error, 'ENODEV')) throw error;
  }
}

async function dropNamed(want: Attachment, kernel: KernelNetwork): Promise<void> {
  if (want.mode === 'openvswitch') await kernel.openVSwitch.removePort(want.ifname);
  if (want.guard !== undefined) await kernel.setGuard(want.ifname, undefined, guardTable(want));
  if (isRouted(want) && want.masquerade !== undefined) await kernel.setGuard(want.ifname, undefined, 'nat');
}

async function dropRouting(want: RoutedAttachment, kernel: KernelNetwork): Promise<void> {
  const link = await findLink(want, kernel, true);
  for (const family of familiesOf(want)) {
    const own = await kernel.listRoutes(family, { protocol: RTPROT_VIFD });
    const others = own.filter(({ ifindex }) => ifindex !== link?.ifindex);
    const isFree = (one: Prefix) => !others.some(({ destination }) => formatPrefix(destination) === formatPrefix(one));
    const [rules, proxies] = await Promise.all([
      kernel.listRules(family, want.addresses),
      kernel.listProxies(family, want.addresses),
    ]);
    for (const rule of rules.filter((one) => isOwnRule(want, one) && isFree(one.from))) await kernel.deleteRule(rule);
    for (const proxy of proxies.filter((one) => isOwnProxy(want, one) && isFree(hostPrefix(one.address))))
      await dropProxy(proxy, kernel);
  }
}
