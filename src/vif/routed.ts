/**
 * A vif to which its guest's addresses are routed, as by vif-route and vif-nat, but for both families and for many addresses:
 * what is wanted, and which steps lead there. Pure.
 */
import type { VifSettings } from '../config/schema.js';
import { AttachError, NodeError } from '../errors.js';
import {
  addressBits,
  type Family,
  formatPrefix,
  holds,
  hostPrefix,
  isHost,
  type Prefix,
  routedPrefix,
} from '../network/prefix.js';
import {
  isSameRoute,
  type Route,
  RT_TABLE_MAIN,
  RTPROT_VIFD,
  RTPROT_VIFD_OWN,
  type SeenProxy,
  type SeenRoute,
  type SourceRule,
} from '../network/routes.js';
import { type Link, type LinkAddress, type LinkChange, prefixOf } from '../network/rtnetlink.js';
import type { InterfaceWanted, RoutedAttachment } from './attachment.js';
import type { Ifname, VifBackend } from './backend.js';
import { dhcpWanted } from './dhcp.js';
import {
  featureSteps,
  linkChange,
  masqueradeStep,
  mtuSteps,
  needsDown,
  type SeenInterface,
  startSteps,
} from './interface-steps.js';
import { masqueradeOf, natAddress, natGateway, parseNatNetwork } from './nat.js';
import type { Step } from './plan.js';

/** How this domain's routing stands to a vif. */
export interface RoutedPlace {
  readonly mode: 'routed' | 'nat';
  /** What this domain has on the vif. */
  readonly gateways: readonly Prefix[];
  /** Where this domain answers for the guest; undefined: nowhere. */
  readonly uplink: Link | undefined;
  /** Those of the guest's addresses for which it must: they lie in a network of the uplink. */
  readonly proxied: readonly string[];
  readonly routes: readonly SeenRoute[];
  readonly rules: readonly SourceRule[];
  readonly proxies: readonly SeenProxy[];
  /** The chain that hides the guest's addresses. */
  readonly masquerade: string | undefined;
  /** Whether this domain passes packets on at all. */
  readonly forwards: Readonly<Record<Family, boolean>>;
}

export type RoutedStep =
  | { readonly do: 'add-address'; readonly link: Link; readonly prefix: Prefix }
  | { readonly do: 'add-route'; readonly link: Link; readonly route: Route }
  | { readonly do: 'delete-route'; readonly link: Link; readonly route: Route }
  | { readonly do: 'add-rule'; readonly rule: SourceRule }
  | { readonly do: 'delete-rule'; readonly rule: SourceRule }
  /** Answers for the guest on the uplink. */
  | { readonly do: 'add-proxy'; readonly link: Link; readonly address: string }
  | { readonly do: 'delete-proxy'; readonly proxy: SeenProxy };

/** Bytes; the network's, where nobody says otherwise. */
const ROUTED_MTU = 1500;
/** Every guest has the same, so it need not be told. */
const IPV6_GATEWAY = 'fe80::1';
/** Before the main table (32766), behind what an administrator wants first. */
const RULE_PRIORITY = 11_800;

/** What a routed attachment has beside its interface. Throws NodeError where there is no address, AttachError. */
export function routedWanted(
  backend: VifBackend,
  mode: 'routed' | 'nat',
  settings: VifSettings,
): Omit<RoutedAttachment, keyof InterfaceWanted> {
  const given = once([settings.ip ?? []].flat().flatMap((text) => routedPrefix(text) ?? []));
  const addresses = given.length === 0 && mode === 'nat' ? natAddresses(backend, settings) : given;
  if (addresses.length === 0)
    throw (
      backend.ipFault ??
      new NodeError('ip', undefined, 'the addresses that are routed to the vif; or set ip = [...] here')
    );
  const named = [settings.gateway ?? []].flat();
  const first = addresses.find(({ family }) => family === 'ipv4');
  const own = mode === 'nat' && first !== undefined && !named.some(isIpv4) ? [natGateway(first.address)] : [];
  return {
    mode,
    addresses,
    gateways: [...named, ...own],
    gatewaydev: settings.gatewaydev as Ifname | undefined,
    sourceTable: settings.sourceTable,
    masquerade: mode === 'nat' ? masqueradeOf(addresses) : undefined,
    dhcp: dhcpWanted(backend, settings),
  };
}

const once = (prefixes: readonly Prefix[]): Prefix[] => [
  ...new Map(prefixes.map((prefix) => [formatPrefix(prefix), prefix])).values(),
];

function natAddresses(backend: VifBackend, { natNetwork }: VifSettings): Prefix[] {
  if (backend.ipFault !== undefined) throw backend.ipFault;
  return [natNetwork].flat().flatMap((text) => {
    const network = parseNatNetwork(text);
    return network === undefined ? [] : [natAddress(network, backend)];
  });
}

export const isIpv4 = (address: string): boolean => !address.includes(':');
export const familiesOf = ({ addresses }: RoutedAttachment): Family[] => [
  ...new Set(addresses.map(({ family }) => family)),
];

/** The interface whose address is the gateway's where no other is named; vif-route's default. */
export const uplinkName = ({ gatewaydev }: RoutedAttachment): string => gatewaydev ?? 'eth0';

/**
 * What this domain has on the vif. `own`: the uplink's addresses, primary ones first. Throws AttachError where there is none,
 * and for a guest that shall have an address of this domain: nothing would ever get there.
 */
export function findGateways(want: RoutedAttachment, uplink: Link | undefined, own: readonly Prefix[]): Prefix[] {
  const gateways = gatewaysFor(want, uplink, own);
  const taken = [...gateways, ...own].map(({ address }) => addressBits(address));
  const twice = want.addresses.find((one) => isHost(one) && taken.includes(addressBits(one.address)));
  if (twice === undefined) return gateways;
  throw new AttachError(
    'EOWNADDRESS',
    `${twice.address} cannot be the guest's: it is this domain's own`,
    'give the vif another address in ip=, or its gateway another by gateway = "..."',
  );
}

function gatewaysFor(want: RoutedAttachment, uplink: Link | undefined, own: readonly Prefix[]): Prefix[] {
  const ipv4 = own.find(({ family }) => family === 'ipv4')?.address;
  return familiesOf(want).flatMap((family): Prefix[] => {
    const named = want.gateways.filter((address) => isIpv4(address) === (family === 'ipv4'));
    const addresses = named.length > 0 ? named : [family === 'ipv6' ? IPV6_GATEWAY : (ipv4 ?? noGateway(want, uplink))];
    return addresses.map((address) => ({ family, address, length: gatewayLength(address) }));
  });
}

/** The address on the link holds the link's network, the others only themselves: networks are reached by routes. */
const gatewayLength = (address: string): number => (isIpv4(address) ? 32 : /^fe[89ab]/i.test(address) ? 64 : 128);

function noGateway(want: RoutedAttachment, uplink: Link | undefined): never {
  const name = uplinkName(want);
  const what = uplink === undefined ? 'does not exist' : 'has no IPv4 address';
  throw new AttachError(
    'ENOGATEWAY',
    `the guest has no gateway: interface "${name}" ${what}`,
    `set gateway to the address that this domain is to have for the guest, such as gateway = "192.0.2.1"; or name the interface to the network: gatewaydev=NAME in the guest's vif line`,
  );
}

/** Those of the guest's that the uplink's neighbours look for on their own network. */
export function proxiedAddresses(want: RoutedAttachment, networks: readonly Prefix[]): string[] {
  if (want.mode === 'nat') return [];
  return want.addresses
    .filter((one) => isHost(one) && networks.some((network) => !isHost(network) && holds(network, one.address)))
    .map(({ address }) => address);
}

/** Packets of a guest that may send what it likes need only be answerable at all. */
const rpFilter = ({ guard }: RoutedAttachment): number => (guard === undefined ? 2 : 1);

/**
 * INVARIANTS
 * - Addresses, routes and rules come when the link is up: the kernel takes routes, and IPv6 addresses, from one that goes down.
 * - An IPv4 route needs its source address to be there.
 */
export function planRouted(want: RoutedAttachment, seen: SeenInterface, place: RoutedPlace): Step[] {
  const { link } = seen;
  const takeDown = link.up && needsDown(want, link);
  const steps = startSteps(want, seen, takeDown, 'inet');
  if (want.masquerade?.chain !== place.masquerade) steps.push(masqueradeStep(want));
  steps.push(...mtuSteps(link, want.mtu ?? ROUTED_MTU), ...featureSteps(want, seen));
  const change: LinkChange = {
    ...linkChange(want, link),
    ...(link.master !== 0 && { master: 0 }),
    ...ipv4Change(want, link),
  };
  if (Object.keys(change).length > 0) steps.push({ do: 'set-link', link, change });
  if (!link.up || takeDown) steps.push({ do: 'set-link', link, change: { up: true } });
  const settled = link.up && !takeDown;
  return [...steps, ...addressSteps(link, seen.addresses, place, settled), ...routeSteps(want, link, place, settled)];
}

function ipv4Change(want: RoutedAttachment, { ipv4 }: Link): LinkChange {
  const conf = { forwarding: true, proxyArp: true, rpFilter: rpFilter(want) };
  return Object.fromEntries(
    Object.entries(conf).filter(([name, value]) => ipv4?.[name as keyof typeof conf] !== value),
  );
}

/** Where the kernel has IPv6 off the guest has its IPv4. */
export const hasFamily = ({ ipv6 }: Link, family: Family): boolean =>
  family === 'ipv4' || (ipv6 !== undefined && !ipv6.disabled);

function addressSteps(link: Link, seen: readonly LinkAddress[], { gateways }: RoutedPlace, settled: boolean): Step[] {
  const wanted = gateways.filter(({ family }) => hasFamily(link, family));
  const extra = seen.filter(
    (address) => address.protocol !== RTPROT_VIFD_OWN && !wanted.some((prefix) => isAddress(prefix, address)),
  );
  const missing = wanted.filter(
    (prefix) => !seen.some((address) => isAddress(prefix, address) && (settled || prefix.family === 'ipv4')),
  );
  return [
    ...extra.map((address): Step => ({ do: 'delete-address', link, address })),
    ...missing.map((prefix): Step => ({ do: 'add-address', link, prefix })),
  ];
}

const isAddress = (prefix: Prefix, seen: LinkAddress): boolean => {
  const { address, length } = prefixOf(seen);
  return length === prefix.length && addressBits(address) === addressBits(prefix.address);
};

/** What is to be there for each of the guest's addresses; as the kernel has them, ours to keep. */
export function routesOf(want: RoutedAttachment, link: Link, gateways: readonly Prefix[]): Route[] {
  const source = gateways.find(({ family }) => family === 'ipv4')?.address;
  return want.addresses
    .filter(({ family }) => hasFamily(link, family))
    .map((destination) => ({
      destination,
      ifindex: link.ifindex,
      ...(destination.family === 'ipv4' && { source }),
    }));
}

/** This domain's own routes first, so that guests reach each other; then, instead of its default route, the table. */
export function rulesOf({ addresses, sourceTable }: RoutedAttachment): SourceRule[] {
  if (sourceTable === undefined) return [];
  return addresses.flatMap((from) => [
    { from, table: RT_TABLE_MAIN, priority: RULE_PRIORITY, skipDefault: true },
    { from, table: sourceTable, priority: RULE_PRIORITY + 1 },
  ]);
}

/** One of those, whoever's it was. */
export const isRoutedRule = ({ priority }: SourceRule): boolean =>
  priority === RULE_PRIORITY || priority === RULE_PRIORITY + 1;

export const isSameRule = (a: SourceRule, b: SourceRule): boolean =>
  formatPrefix(a.from) === formatPrefix(b.from) &&
  a.table === b.table &&
  a.priority === b.priority &&
  (a.skipDefault ?? false) === (b.skipDefault ?? false);

function routeSteps(want: RoutedAttachment, link: Link, place: RoutedPlace, settled: boolean): Step[] {
  const wanted = routesOf(want, link, place.gateways);
  const there = settled ? place.routes : [];
  const own = there.filter(({ protocol, ifindex }) => protocol === RTPROT_VIFD && ifindex === link.ifindex);
  return [
    ...own
      .filter((seen) => !wanted.some((route) => isSameRoute(route, seen)))
      .map((route): Step => ({ do: 'delete-route', link, route })),
    ...wanted
      .filter((route) => !there.some((seen) => isSameRoute(route, seen)))
      .map((route): Step => ({ do: 'add-route', link, route })),
    ...ruleSteps(want, link, place),
    ...proxySteps(want, place),
  ];
}

function ruleSteps(want: RoutedAttachment, link: Link, { rules }: RoutedPlace): Step[] {
  const wanted = rulesOf(want).filter(({ from }) => hasFamily(link, from.family));
  const own = rules.filter((rule) => isOwnRule(want, rule));
  return [
    ...own
      .filter((seen) => !wanted.some((rule) => isSameRule(rule, seen)))
      .map((rule): Step => ({ do: 'delete-rule', rule })),
    ...wanted
      .filter((rule) => !rules.some((seen) => isSameRule(rule, seen)))
      .map((rule): Step => ({ do: 'add-rule', rule })),
  ];
}

function proxySteps(want: RoutedAttachment, { uplink, proxied, proxies }: RoutedPlace): Step[] {
  const isWanted = ({ address, ifindex }: SeenProxy) => ifindex === uplink?.ifindex && proxied.includes(address);
  const own = proxies.filter((proxy) => isOwnProxy(want, proxy));
  const missing = proxied.filter((address) => !proxies.some((seen) => isWanted(seen) && seen.address === address));
  return [
    ...own.filter((seen) => !isWanted(seen)).map((proxy): Step => ({ do: 'delete-proxy', proxy })),
    ...(uplink === undefined ? [] : missing.map((address): Step => ({ do: 'add-proxy', link: uplink, address }))),
  ];
}

/** vifd's, for one of the guest's addresses. */
export const isOwnRule = ({ addresses }: RoutedAttachment, rule: SourceRule): boolean =>
  isRoutedRule(rule) && isOneOf(addresses, rule.from);
export const isOwnProxy = ({ addresses }: RoutedAttachment, { address, protocol }: SeenProxy): boolean =>
  protocol === RTPROT_VIFD && isOneOf(addresses, hostPrefix(address));

const isOneOf = (prefixes: readonly Prefix[], prefix: Prefix): boolean =>
  prefixes.some((one) => formatPrefix(one) === formatPrefix(prefix));
