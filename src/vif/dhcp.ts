/** What a routed vif's guest gets by DHCP. Pure. */
import type { VifSettings } from '../config/schema.js';
import type { Offer } from '../dhcp/dnsmasq-text.js';
import { NodeError } from '../errors.js';
import { addressBits, formatPrefix, hostIn, type Prefix } from '../network/prefix.js';
import { type Attachment, type DhcpWanted, isRouted, type RoutedAttachment } from './attachment.js';
import { kernelName, type VifBackend } from './backend.js';

/** Tags that dnsmasq sets itself; an interface's name is one, too. */
const TAGS = ['known', 'known-othernet', 'bootp', 'dhcpv6', 'cpewan-id'];

/** Throws NodeError for a vif that dnsmasq could not tell from others. */
export function dhcpWanted(backend: VifBackend, { dhcp, dns = [] }: VifSettings): DhcpWanted | undefined {
  if (!dhcp) return undefined;
  if (backend.mac === undefined) throw new NodeError('mac', undefined, 'a MAC address, since the guest gets DHCP');
  const name = backend.vifname ?? kernelName(backend);
  if (!/^[\w.-]+$/.test(name) || TAGS.includes(name))
    throw new NodeError('vifname', name, 'letters, digits, ".", "_" and "-", and no word of dnsmasq\'s, with dhcp');
  return { mac: backend.mac, dns: [dns].flat() };
}

/** Undefined: nothing, or nothing that a guest could use. */
export function offerOf(want: Attachment, gateways: readonly Prefix[]): Offer | undefined {
  if (!isRouted(want) || want.dhcp === undefined) return undefined;
  const { address, gateway } = pairOf(want, gateways);
  if (address === undefined || gateway === undefined) return undefined;
  const length = commonLength(address, gateway);
  return length === undefined ? undefined : { ifname: want.ifname, ...want.dhcp, address, length, gateway };
}

/** Why the guest gets nothing although it is to. */
export function dhcpFault(
  want: RoutedAttachment,
  gateways: readonly Prefix[],
): { readonly says: string; readonly remedy: string } | undefined {
  if (want.dhcp === undefined || offerOf(want, gateways) !== undefined) return undefined;
  const { address, gateway } = pairOf(want, gateways);
  if (address === undefined)
    return { says: 'the guest gets nothing by DHCP, which is for IPv4 here', remedy: 'give the vif one in ip=' };
  return {
    says: `the guest gets nothing by DHCP: no network holds its address ${address} and its gateway ${gateway}`,
    remedy: 'set gateway to an address that begins like its own; only this vif has it',
  };
}

function pairOf(want: RoutedAttachment, gateways: readonly Prefix[]) {
  const first = want.addresses.find(({ family }) => family === 'ipv4');
  return {
    address: first && hostIn(first),
    gateway: gateways.find(({ family }) => family === 'ipv4')?.address,
  };
}

/**
 * The smallest of these networks in which both are a host's. Every client takes it, where some cannot use a gateway beyond a /32; and
 * as this domain answers for whatever else is in it (proxy ARP), the guest reaches that as well.
 */
function commonLength(address: string, gateway: string): number | undefined {
  const isHostIn = (length: number) => (one: string) => {
    const size = 1n << BigInt(32 - length);
    const place = addressBits(one) % size;
    return place !== 0n && place !== size - 1n;
  };
  const network = (length: number, one: string) => formatPrefix({ family: 'ipv4', address: one, length });
  return LENGTHS.find(
    (length) => network(length, address) === network(length, gateway) && [address, gateway].every(isHostIn(length)),
  );
}

/** The first and last address of a smaller one may well be somebody's; a larger one no guest could believe in. */
const LENGTHS = Array.from({ length: 17 }, (_, i) => 24 - i);
