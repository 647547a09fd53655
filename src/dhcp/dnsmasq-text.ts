/** What dnsmasq is told: its files' text, of values that were checked where they came in. Pure. */
import { addressBits, addressOf, formatPrefix } from '../network/prefix.js';

/** What the guest behind one vif gets; IPv4. */
export interface Offer {
  /** Also dnsmasq's tag for what came in there. */
  readonly ifname: string;
  readonly mac: string;
  readonly address: string;
  /** Of the network in which the guest is to believe itself. */
  readonly length: number;
  readonly gateway: string;
  readonly dns: readonly string[];
}

export interface Files {
  readonly config: string;
  readonly hosts: string;
  readonly options: string;
  readonly leases: string;
  readonly pid: string;
}

export const filesIn = (dir: string): Files => ({
  config: `${dir}/dnsmasq.conf`,
  hosts: `${dir}/dnsmasq.hosts`,
  options: `${dir}/dnsmasq.options`,
  leases: `${dir}/dnsmasq.leases`,
  pid: `${dir}/dnsmasq.pid`,
});

/** The end of vifd is the end of dnsmasq, and a guest that cannot renew loses its address. */
const LEASE = '24h';

/**
 * Read at the start only, so nothing is in it that changes with what a guest gets. The two ranges hold every address: which
 * are given out is in the hosts file, and all else in the options.
 */
export function configText(files: Files, ifnames: readonly string[], staysRoot: boolean): string {
  return lines([
    'port=0', // no DNS
    'no-hosts',
    'no-resolv',
    'no-ping',
    'bind-dynamic',
    ...ifnames.map((ifname) => `interface=${ifname}`),
    // Matches nothing. With one name alone the socket would be bound to that interface, and deaf to the next one of its name.
    'interface=none:*',
    'dhcp-authoritative',
    'dhcp-ignore=tag:!known',
    'dhcp-ignore-names',
    'dhcp-ignore-clid', // a guest's boot loader has another id than its system
    `dhcp-range=0.0.0.0,static,128.0.0.0,${LEASE}`,
    `dhcp-range=128.0.0.0,static,128.0.0.0,${LEASE}`,
    `dhcp-hostsfile=${files.hosts}`,
    `dhcp-optsfile=${files.options}`,
    `dhcp-leasefile=${files.leases}`,
    `pid-file=${files.pid}`,
    'log-facility=-',
    ...(staysRoot ? ['user=root', 'group='] : []),
  ]);
}

/** Each address for this MAC address on this vif alone. */
export const hostsText = (offers: readonly Offer[]): string =>
  lines(offers.map(({ mac, ifname, address }) => `${mac},tag:${ifname},${address}`));

/** By number (RFC 2132): subnet mask, router, DNS servers, broadcast address. */
export const optionsText = (offers: readonly Offer[]): string =>
  lines(
    offers.flatMap(({ ifname, address, length, gateway, dns }) => {
      const mask = (1n << 32n) - (1n << BigInt(32 - length));
      const network = formatPrefix({ family: 'ipv4', address, length }).split('/')[0] as string;
      const broadcast = addressBits(network) + (1n << BigInt(32 - length)) - 1n;
      return [
        `tag:${ifname},1,${addressOf(mask, 'ipv4')}`,
        `tag:${ifname},3,${gateway}`,
        ...(dns.length === 0 ? [] : [`tag:${ifname},6,${dns.join(',')}`]),
        `tag:${ifname},28,${addressOf(broadcast, 'ipv4')}`,
      ];
    }),
  );

/** dnsmasq knows a client by its MAC address, wherever it is: one that renews is told to begin anew. */
export const twinsIn = (offers: readonly Offer[]): string[] =>
  offers.flatMap(({ ifname, mac }, i) =>
    offers
      .slice(i + 1)
      .filter((other) => other.mac === mac)
      .map(
        (other) =>
          `${ifname} and ${other.ifname} have the same MAC address ${mac}, so each guest's lease ends the other's: give one another mac=`,
      ),
  );

/** Without those of an address that is another guest's now: dnsmasq would not give it to that one until they end. */
export function keptLeases(text: string, offers: readonly Offer[]): string {
  const owners = new Map(offers.map(({ address, mac }) => [address, mac]));
  return lines(
    text.split('\n').filter((line) => {
      const [, mac = '', address = ''] = line.split(' ');
      return line !== '' && (owners.get(address) ?? mac) === mac;
    }),
  );
}

const lines = (all: readonly string[]): string => all.map((line) => `${line}\n`).join('');
