/**
 * What a guarded guest may not send: nftables rules for the frames that come in by its vif. Pure.
 *
 * They stand in a chain of the prerouting hook, of the bridge family or, for a routed vif, of inet: so they hold for what is
 * forwarded and for what this domain itself receives, and for a vif in any bridge. The last word is "accept": only the guest's own falsehoods are dropped.
 */
import { NodeError } from '../errors.js';
import { chainName, type Guard } from '../network/guard-table.js';
import { addressBits, type Family, formatPrefix, type Prefix, routedPrefix } from '../network/prefix.js';
import type { MacAddress } from './backend.js';
import { parseAddressPattern } from './pattern.js';

export interface GuardPolicy {
  /** The guest's own addresses; none other may be a sender. */
  readonly macs: readonly MacAddress[];
  /** Addresses and prefixes, IPv4 and IPv6; undefined: any. */
  readonly ip: readonly string[] | undefined;
  /** Whether it may answer DHCP. */
  readonly allowDhcp: boolean;
  /** Whether it may say that it is a router (IPv6). */
  readonly allowRouter: boolean;
  /** Whether its frames may have VLAN tags. */
  readonly allowTags: boolean;
  /** What ARP and neighbour advertisements say concerns nobody but this domain, and without an address there is no way back. */
  readonly routed?: boolean;
}

/** With what its rules were made of, for people. */
export interface VifGuard extends Guard {
  readonly policy: GuardPolicy;
}

/** The chain's name is made of its rules, so the name alone says whether they are in force. */
export function guardOf(policy: GuardPolicy): VifGuard {
  const rules = guardRules(policy);
  return { chain: chainName('guard', rules), rules, policy };
}

/**
 * `meta protocol` is what stands behind the first tag, which `ether type` would see instead; Linux takes a tag with VLAN 0 for
 * none. A second tag would hide everything. Clients of DHCP look at the port an answer goes to, not at where it comes from.
 */
function guardRules(policy: GuardPolicy): string[] {
  const { macs, ip, routed = false } = policy;
  const senders = `${noneOf('ether saddr', macs)} drop`;
  if (routed) return [senders, ...serverRules(policy), ...(ip === undefined ? [] : sourceRules(ip))];
  return [
    senders,
    'meta protocol 0x8100 drop',
    'meta protocol 0x88a8 drop',
    `${ARP} ${noneOf('arp saddr ether', macs)} drop`,
    ...serverRules(policy),
    ...(ip === undefined ? [] : addressRules(ip)),
    ...(refusesTags(policy) ? ['ether type vlan drop', 'ether type 0x88a8 drop'] : []),
  ];
}

/** Also those with one tag only. */
export const refusesTags = ({ ip, allowTags, routed = false }: GuardPolicy): boolean =>
  ip !== undefined && !allowTags && !routed;

/** The addresses that a guarded guest may have, but for those of whole families. */
export const ownPrefixes = ({ ip = [] }: GuardPolicy): Prefix[] =>
  ip.flatMap((word) => routedPrefix(word) ?? []).filter(({ length }) => length > 0);

/** The families in which it may have any address. */
export function freeFamilies({ ip = [], routed = false }: GuardPolicy): Family[] {
  const isFree = (own: readonly Prefix[]) => (routed && ip.length > 0 ? isAny(own) : holdNothing(own));
  return (['ipv4', 'ipv6'] as const).filter((family) => isFree(ofFamily(ip, family)));
}

/** What only servers and routers say. */
function serverRules({ allowDhcp, allowRouter }: GuardPolicy): string[] {
  return [
    ...(allowDhcp ? [] : [`${UDP4} udp sport 67 drop`, `${UDP4} udp dport 68 drop`]),
    ...(allowDhcp ? [] : [`${UDP6} udp sport 547 drop`, `${UDP6} udp dport 546 drop`]),
    ...(allowRouter ? [] : ['nd-router-advert', 'nd-redirect'].map((type) => `${ICMP6} icmpv6 type ${type} drop`)),
  ];
}

const ARP = 'meta protocol arp';
/** By number: nft reads the names in /etc/protocols, which a small system has not. */
const UDP4 = 'meta protocol ip meta l4proto 17';
const UDP6 = 'meta protocol ip6 meta l4proto 17';
const ICMP6 = 'meta protocol ip6 meta l4proto 58';

/**
 * Only the families that are named are held to their addresses: ip= is older than guests with IPv6, and one with an IPv4
 * address in it must not lose the other. A guest asks for its address with none (DHCP, ARP probe, DAD).
 */
function addressRules(ip: readonly string[]): string[] {
  return [...ipv4Rules(ofFamily(ip, 'ipv4')), ...ipv6Rules(ofFamily(ip, 'ipv6'))];
}

const ofFamily = (ip: readonly string[], family: Family): Prefix[] =>
  ip.flatMap((word) => routedPrefix(word) ?? []).filter((one) => one.family === family);

/** For a routed vif: both families, for nothing leads back to an address that is not named. */
function sourceRules(ip: readonly string[]): string[] {
  const [v4, v6] = [ofFamily(ip, 'ipv4'), ofFamily(ip, 'ipv6')];
  const others = v4.length === 0 ? 'meta protocol ip drop' : `${noneOf('ip saddr', v4.map(formatPrefix))} drop`;
  return [
    'ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept',
    ...(isAny(v4) ? [] : [others]),
    ...(isAny(v6) ? [] : [`${noneOf('ip6 saddr', [...v6, LINK_LOCAL, UNSPECIFIED].map(formatPrefix))} drop`]),
  ];
}

function ipv4Rules(prefixes: readonly Prefix[]): string[] {
  if (holdNothing(prefixes)) return [];
  const own = prefixes.map(formatPrefix);
  return [
    `${ARP} ${noneOf('arp saddr ip', [...own, '0.0.0.0/32'])} drop`,
    'ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept',
    `${noneOf('ip saddr', own)} drop`,
  ];
}

const LINK_LOCAL: Prefix = { family: 'ipv6', address: 'fe80::', length: 10 };
const UNSPECIFIED: Prefix = { family: 'ipv6', address: '::', length: 128 };

/** The address on the link is the guest's own choice. */
function ipv6Rules(prefixes: readonly Prefix[]): string[] {
  if (holdNothing(prefixes)) return [];
  const own = [...prefixes, LINK_LOCAL];
  return [
    `${noneOf('ip6 saddr', [...own, UNSPECIFIED].map(formatPrefix))} drop`,
    ...own.map((prefix) => `${ICMP6} icmpv6 type nd-neighbor-advert ${target(prefix)} accept`),
    `${ICMP6} icmpv6 type nd-neighbor-advert drop`,
  ];
}

const isAny = (prefixes: readonly Prefix[]): boolean => prefixes.some(({ length }) => length === 0);
const holdNothing = (prefixes: readonly Prefix[]): boolean => prefixes.length === 0 || isAny(prefixes);

/** A rule holds some forty comparisons. */
const FEW = 8;

/** No set for a few: of each table that it changes nft reads all sets of prefixes first, one by one. */
function noneOf(field: string, words: readonly string[]): string {
  const all = outermost(words);
  return all.length > FEW ? `${field} != { ${all.join(', ')} }` : all.map((word) => `${field} != ${word}`).join(' ');
}

/** Without what another one holds: in a set nftables refuses intervals that overlap. */
function outermost(words: readonly string[]): string[] {
  const unique = [...new Set(words)];
  const holds = (outer: string, inner: string) => outer !== inner && parseAddressPattern(outer)?.(inner);
  return unique.filter((word) => !unique.some((other) => holds(other, word)));
}

/** The target of a neighbour advertisement stands behind 8 bytes (RFC 4861, 4.4); older nft has no name for it. */
function target({ address, length }: Prefix): string {
  return `@th,64,${length} 0x${(addressBits(address) >> BigInt(128 - length)).toString(16)}`;
}

/** Between quotes, as nftables writes names, a star at the end stands for more. Throws NodeError. */
export function checkGuardedName(ifname: string): void {
  if (/^[\w.:-]+$/.test(ifname)) return;
  throw new NodeError('vifname', ifname, 'letters, digits, ".", "_" and "-", since the vif is guarded');
}
