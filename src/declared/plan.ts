/** Which steps lead from what is to a declared bridge. Pure: the decision is data, apply.ts carries it out. */
import { bridgeChange } from '../network/bridge-settings.js';
import { sameVlans } from '../network/bridge-vlan.js';
import type { Prefix } from '../network/prefix.js';
import {
  describeRoute,
  IPV6_METRIC,
  isSameRoute,
  RT_TABLE_MAIN,
  RTPROT_VIFD_OWN,
  type SeenRoute,
} from '../network/routes.js';
import type { Link } from '../network/rtnetlink.js';
import {
  isLinkLocal,
  isOwnRoute,
  linkNamed,
  type Observed,
  type RouteOn,
  type SeenAddress,
  samePrefix,
} from './observed.js';
import type { Step } from './step.js';
import type { WantedBridge } from './wanted.js';

export interface Plan {
  readonly steps: readonly Step[];
  /** What keeps something from being as declared, a sentence each. */
  readonly warnings: readonly string[];
  /** The gateways that this machine may lose: it reaches them by a card whose addresses move. */
  readonly atRisk: readonly { readonly card: string; readonly gateway: string }[];
}

/** linux/rtnetlink.h, linux/if_addr.h: such routes come and go with an address. */
const RTPROT_KERNEL = 2;
/** What a router has advertised on the card it advertises on the bridge anew. */
const RTPROT_RA = 9;
const IFAPROT_KERNEL_RA = 2;

/**
 * INVARIANTS
 * - Empty when all is as wanted: a second run changes nothing.
 * - No interface is ever taken down: a VLAN interface would lose its routes, and a card its link.
 * - A card's addresses are on the bridge before it joins, and its routes follow at once.
 */
export function planBridge(want: WantedBridge, seen: Observed): Plan {
  const bridge = linkNamed(seen, want.ifname);
  if (bridge !== undefined && bridge.kind !== 'bridge')
    return {
      steps: [],
      warnings: [`${want.ifname} is there and is no bridge; name [bridge.${want.ifname}] otherwise`],
      atRisk: [],
    };
  const { cards, warnings } = cardsFor(want, bridge, seen);
  const moves = cards.map((card) => moveOf(card, seen));
  const held = new Held(bridge, moves, seen);
  const routes = planRoutes(want, held, seen);
  const steps = [
    ...planItself(want, bridge, cards),
    ...moves.flatMap((move) => planCard(want, move, bridge, held)),
    ...cards.flatMap((card) => planVlans(want, card, bridge, seen)),
    ...want.addresses.flatMap((prefix) => planAddress(want.ifname, prefix, held)),
    ...routes.steps,
  ];
  return {
    steps,
    warnings: [...warnings, ...routes.warnings],
    atRisk: moves.flatMap((move) => riskOf(want, move, bridge)),
  };
}

/** The declared ports that are there and free to join. */
function cardsFor(want: WantedBridge, bridge: Link | undefined, seen: Observed): { cards: Link[]; warnings: string[] } {
  const cards: Link[] = [];
  const warnings: string[] = [];
  for (const name of want.ports) {
    const card = linkNamed(seen, name);
    const other = seen.links.find(({ ifindex }) => ifindex === card?.master && ifindex !== bridge?.ifindex);
    if (card === undefined) warnings.push(`${name} is not there; it joins ${want.ifname} when it appears`);
    else if (other !== undefined)
      warnings.push(
        `${name} is a port of ${other.ifname}; it can join ${want.ifname} after: ip link set ${name} nomaster`,
      );
    else cards.push(card);
  }
  return { cards, warnings };
}

/** What leaves a card. */
interface Move {
  readonly card: Link;
  readonly addresses: readonly SeenAddress[];
  readonly routes: readonly SeenRoute[];
}

const isLasting = ({ protocol }: SeenRoute): boolean => protocol !== RTPROT_RA;
const isLastingAddress = ({ prefix, protocol }: SeenAddress): boolean =>
  prefix.family === 'ipv4' || protocol !== IFAPROT_KERNEL_RA;

function moveOf(card: Link, { addresses, routes }: Observed): Move {
  const own = addresses.filter(({ ifindex, prefix }) => ifindex === card.ifindex && !isLinkLocal(prefix));
  const isMoved = ({ ifindex, protocol }: SeenRoute) => ifindex === card.ifindex && protocol !== RTPROT_KERNEL;
  // The kernel takes a gateway only once the route to it is there.
  const byLink = (a: SeenRoute, b: SeenRoute) => Number(a.gateway !== undefined) - Number(b.gateway !== undefined);
  return { card, addresses: own, routes: own.length === 0 ? [] : routes.filter(isMoved).sort(byLink) };
}

/** What the bridge has, and will have of its cards. */
class Held {
  readonly addresses: readonly Prefix[];
  readonly routes: readonly SeenRoute[];
  /** Before any card has come. */
  readonly atFirst: readonly Prefix[];
  constructor(bridge: Link | undefined, moves: readonly Move[], seen: Observed) {
    const isOwn = ({ ifindex }: { ifindex: number }) => ifindex === bridge?.ifindex;
    this.atFirst = seen.addresses.filter(isOwn).map(({ prefix }) => prefix);
    this.addresses = [
      ...this.atFirst,
      ...moves.flatMap(({ addresses }) => addresses.filter(isLastingAddress).map(({ prefix }) => prefix)),
    ];
    this.routes = [...seen.routes.filter(isOwn), ...moves.flatMap(({ routes }) => routes.filter(isLasting))];
  }
}

function planItself({ ifname, settings, mtu }: WantedBridge, bridge: Link | undefined, cards: readonly Link[]): Step[] {
  const change = bridgeChange(settings, bridge?.bridge);
  const steps: Step[] = [];
  // Its first card's address for good: else it would be another one whenever a port comes or goes.
  if (bridge === undefined) steps.push({ do: 'create-bridge', ifname, settings, address: cards[0]?.address });
  else if (Object.keys(change).length > 0) steps.push({ do: 'set-bridge', ifname, settings: change });
  for (const card of cards)
    if (mtu !== undefined && card.mtu !== mtu) steps.push({ do: 'set-mtu', ifname: card.ifname, mtu, was: card.mtu });
  if (mtu !== undefined && bridge?.mtu !== mtu) steps.push({ do: 'set-mtu', ifname, mtu, was: bridge?.mtu });
  if (!bridge?.up) steps.push({ do: 'up', ifname });
  return steps;
}

function planCard({ ifname: bridge }: WantedBridge, move: Move, there: Link | undefined, held: Held): Step[] {
  const { card, addresses, routes } = move;
  const { ifname } = card;
  const isNew = (one: SeenAddress) =>
    isLastingAddress(one) && !held.atFirst.some((prefix) => samePrefix(one.prefix, prefix));
  const address =
    (one: 'add-address' | 'delete-address', on: string) =>
    ({ prefix, protocol }: SeenAddress) =>
      ({ do: one, ifname: on, prefix, protocol }) as const;
  const route = (one: 'add-route' | 'delete-route', on: string) => (seen: SeenRoute) =>
    ({ do: one, ifname: on, route: withoutLink(seen) }) as const;
  return [
    ...addresses.filter(isNew).map(address('add-address', bridge)),
    ...(card.master === 0 || card.master !== there?.ifindex ? [{ do: 'join', ifname, bridge } as const] : []),
    ...(card.up ? [] : [{ do: 'up', ifname } as const]),
    ...routes.toReversed().map(route('delete-route', ifname)),
    ...addresses.map(address('delete-address', ifname)),
    ...routes.filter(isLasting).map(route('add-route', bridge)),
  ];
}

function withoutLink({ ifindex: _, ...route }: SeenRoute): RouteOn {
  return route;
}

function planVlans({ vlans }: WantedBridge, card: Link, bridge: Link | undefined, seen: Observed): Step[] {
  if (vlans === undefined) return [];
  const present = card.master === bridge?.ifindex ? seen.vlans.get(card.ifindex) : undefined;
  return present !== undefined && sameVlans(vlans, present) ? [] : [{ do: 'set-vlans', ifname: card.ifname, vlans }];
}

function planAddress(ifname: string, prefix: Prefix, { addresses }: Held): Step[] {
  const isThere = addresses.some((one) => samePrefix(one, prefix));
  return isThere ? [] : [{ do: 'add-address', ifname, prefix, protocol: RTPROT_VIFD_OWN }];
}

function planRoutes(want: WantedBridge, held: Held, seen: Observed): { steps: Step[]; warnings: string[] } {
  const steps: Step[] = [];
  const warnings: string[] = [];
  for (const route of want.routes) {
    const wanted = { ...route, ifindex: 0 };
    const over = overruledBy(route, linkNamed(seen, want.ifname)?.ifindex, seen);
    if (over !== undefined && !held.routes.includes(over))
      warnings.push(routeInTheWay(over, seen, `[bridge.${want.ifname}]`, true));
    if (held.routes.some((one) => isSameRoute(wanted, one))) continue;
    const inTheWay = seen.routes.find((one) => isSamePlace(wanted, one));
    const isOurs = inTheWay !== undefined && isOwnRoute(inTheWay) && held.routes.includes(inTheWay);
    if (inTheWay !== undefined && !isOurs) {
      warnings.push(routeInTheWay(inTheWay, seen, `[bridge.${want.ifname}]`));
      continue;
    }
    if (inTheWay !== undefined) steps.push({ do: 'delete-route', ifname: want.ifname, route: withoutLink(inTheWay) });
    steps.push({ do: 'add-route', ifname: want.ifname, route: { ...route, protocol: RTPROT_VIFD_OWN } });
  }
  return { steps, warnings };
}

/** Two such cannot be: destination, metric and table are the same. */
export const isSamePlace = (wanted: RouteOn, seen: SeenRoute): boolean =>
  (wanted.table ?? RT_TABLE_MAIN) === seen.table &&
  isSameRoute({ ...wanted, ifindex: 0, gateway: seen.gateway, source: undefined }, seen);

export function routeInTheWay(route: SeenRoute, { links }: Observed, table: string, isOverruling = false): string {
  const by = links.find(({ ifindex }) => ifindex === route.ifindex)?.ifname ?? 'another interface';
  const mend = isOverruling ? `, which has ${IPV6_METRIC}; give that a lower metric` : '; give that another metric';
  return `the route ${describeRoute(route)} through ${by} stands in the way of the one in ${table}${mend}`;
}

/**
 * A route of another program that counts although this one is there as well. Whoever gives a metric wants to be
 * behind lower ones, and IPv4 without any has 0.
 */
export function overruledBy(wanted: RouteOn, ifindex: number | undefined, { routes }: Observed): SeenRoute | undefined {
  if (wanted.metric !== undefined || wanted.destination.family === 'ipv4') return undefined;
  return routes.find((one) => {
    const alike = { ...wanted, metric: one.metric, source: undefined };
    const leadsElsewhere = !isSameRoute({ ...alike, ifindex: ifindex ?? 0 }, one);
    return (
      one.metric < IPV6_METRIC &&
      !isOwnRoute(one) &&
      isSameRoute({ ...alike, ifindex: 0, gateway: one.gateway }, one) &&
      leadsElsewhere
    );
  });
}

/** None where the card keeps what it has, or has nothing. */
function riskOf(want: WantedBridge, { card, addresses, routes }: Move, bridge: Link | undefined): Plan['atRisk'] {
  if (addresses.length === 0 || (bridge !== undefined && card.master === bridge.ifindex)) return [];
  const used = routes.flatMap(({ destination, gateway }) => (destination.length === 0 && gateway ? [gateway] : []));
  return [...new Set([...used, ...want.gateways])].map((gateway) => ({ card: card.ifname, gateway }));
}
