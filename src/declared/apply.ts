/** EDGE: carries steps out, in order, and reads what the next plan looks at. Rejects with NetlinkError. */
import { hasCode, NetlinkError } from '../errors.js';
import type { HostKernel } from '../network/host-kernel.js';
import { addressBytes } from '../network/prefix.js';
import type { Link } from '../network/rtnetlink.js';
import { type Observed, seenAddress } from './observed.js';
import type { AddressStep, Step } from './step.js';

/** `onDone` hears of each step that took effect, also of those before the one that fails. */
export async function applySteps(
  steps: readonly Step[],
  kernel: HostKernel,
  onDone: (step: Step) => void = () => {},
): Promise<void> {
  for (const step of steps) {
    await applyStep(step, kernel);
    onDone(step);
  }
}

async function applyStep(step: Step, kernel: HostKernel): Promise<void> {
  if (step.do === 'create-bridge') return kernel.createBridge(step.ifname, step.settings, step.address);
  const link = await need(step.ifname, kernel);
  switch (step.do) {
    case 'set-bridge':
      return kernel.setBridge(link, step.settings);
    case 'set-mtu':
      return kernel.setLink(link, { mtu: step.mtu });
    case 'up':
      return kernel.setLink(link, { up: true });
    case 'join':
      return kernel.setLink(link, { master: (await need(step.bridge, kernel)).ifindex });
    case 'leave':
      return kernel.setLink(link, { master: 0 });
    case 'set-vlans':
      return kernel.setVlans(link, step.vlans);
    case 'add-address':
      return kernel.addAddress(link, step.prefix, step.protocol);
    case 'delete-address':
      return kernel.deleteAddress(link, addressOn(link, step));
    case 'add-route':
      return kernel.addRoute(link, { ...step.route, ifindex: link.ifindex });
    case 'delete-route':
      return kernel.deleteRoute(link, { ...step.route, ifindex: link.ifindex });
    default:
      return step satisfies never;
  }
}

async function need(ifname: string, kernel: HostKernel): Promise<Link> {
  const link = await kernel.getLink(ifname);
  if (link === undefined) throw new NetlinkError('ENODEV', 'find', ifname, 19);
  return link;
}

const [AF_INET, AF_INET6] = [2, 10];

const addressOn = ({ ifindex }: Link, { prefix }: AddressStep) => ({
  ifindex,
  family: prefix.family === 'ipv6' ? AF_INET6 : AF_INET,
  prefixLength: prefix.length,
  bytes: addressBytes(prefix.address),
});

/** `ports`: those of which the VLANs are needed. */
export async function observe(kernel: HostKernel, ports: readonly string[] = []): Promise<Observed> {
  const links = await kernel.listLinks();
  const addresses = (await kernel.listAllAddresses()).map(seenAddress);
  const routes = [...(await kernel.listRoutes('ipv4')), ...(await kernel.listRoutes('ipv6'))];
  const wanted = links.filter(({ ifname }) => ports.includes(ifname));
  const vlans = await Promise.all(wanted.map(async (link) => [link.ifindex, await vlansOf(link, kernel)] as const));
  return { links, addresses, routes, vlans: new Map(vlans) };
}

/** A kernel without VLAN filtering knows not even the question. */
async function vlansOf(link: Link, kernel: HostKernel) {
  return kernel.getVlans(link).catch((error) => {
    if (!hasCode(error, 'EOPNOTSUPP', 'ENOTSUP', 'EINVAL')) throw error;
    return { pvid: undefined, untagged: new Map<number, boolean>() };
  });
}
