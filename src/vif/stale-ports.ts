/** EDGE: ports of Open vSwitch whose vif is gone, with this vifd or before it: the database keeps them. */
import type { KernelNetwork } from '../network/kernel.js';

/** Those of an interface that is there stay, unless its vif is connected in another way. Rejects with AttachError. */
export async function dropStalePorts(
  kernel: KernelNetwork,
  wantedAs: (ifname: string) => string | undefined,
): Promise<void> {
  const { openVSwitch } = kernel;
  const isStale = (ifname: string) => wantedAs(ifname) !== 'openvswitch';
  for (const ifname of (await openVSwitch.ownPorts()).filter(isStale)) {
    const isThere = wantedAs(ifname) === undefined && (await kernel.getLink(ifname)) !== undefined;
    if (!isThere && isStale(ifname)) await openVSwitch.removePort(ifname);
  }
}
