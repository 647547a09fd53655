/** A private network namespace (made by test/run.mjs), read back with iproute2 and ethtool: a second implementation. */
import { writeFileSync } from 'node:fs';
import { execaSync } from 'execa';

if (process.env.VIFD_TEST_NETNS !== '1')
  throw new Error('run these tests by "npm test": they need a private network namespace');

export const ip = (...args: string[]): string => execaSync('ip', args).stdout;

export interface IpLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: string[];
  readonly mtu: number;
  readonly txqlen: number;
  readonly master?: string;
  readonly address: string;
  readonly ifalias?: string;
  readonly inet6_addr_gen_mode?: string;
}

/** `ip -j -d link show`, or undefined when there is no such link. */
export function showLink(ifname: string): IpLink | undefined {
  const { stdout, failed } = execaSync('ip', ['-j', '-d', 'link', 'show', 'dev', ifname], { reject: false });
  return failed ? undefined : (JSON.parse(stdout) as IpLink[])[0];
}

/** Addresses in the form `192.0.2.1/24`. */
export function showAddresses(ifname: string): string[] {
  const [link] = JSON.parse(ip('-j', 'addr', 'show', 'dev', ifname)) as {
    addr_info: { local?: string; prefixlen?: number }[];
  }[];
  return (link?.addr_info ?? [])
    .filter(({ local }) => local !== undefined)
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`);
}

const FORWARDING = ['ipv4/ip_forward', 'ipv6/conf/all/forwarding'];

/** Empties the namespace but for lo; it is no router any more, which new interfaces would be as well. */
export function clearLinks(): void {
  for (const name of FORWARDING) writeFileSync(`/proc/sys/net/${name}`, '0');
  for (const { ifname } of JSON.parse(ip('-j', 'link')) as IpLink[]) {
    if (ifname !== 'lo') execaSync('ip', ['link', 'del', 'dev', ifname], { reject: false });
  }
}

/** A veth pair: `ifname` is the host end, as netback would make it, `peer` the guest's. */
export function addVif(ifname: string, peer = `g${ifname.slice(3)}`): void {
  ip('link', 'add', ifname, 'address', 'fe:ff:ff:ff:ff:ff', 'type', 'veth', 'peer', 'name', peer);
}
