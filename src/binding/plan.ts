/** Which steps lead from what is to what the bindings ask for. Pure. */
import type { Binding } from '../config/schema.js';
import { isOwnAddress, isOwnRoute, linkNamed, type Observed, prefixText, samePrefix } from '../declared/observed.js';
import { isSamePlace, overruledBy, routeInTheWay } from '../declared/plan.js';
import type { AddressStep, RouteStep, Step } from '../declared/step.js';
import { type Family, formatPrefix } from '../network/prefix.js';
import { describeRoute, isSameRoute, RTPROT_VIFD_OWN, type SeenRoute } from '../network/routes.js';
import type { Link } from '../network/rtnetlink.js';
import { type Appearance, familiesOf, type Masqueraded, wantedOf } from './wanted.js';

/** An address or a route of a binding, as the step that brings it. */
export interface Item {
  readonly binding: string;
  readonly ifindex: number;
  readonly step: AddressStep | RouteStep;
  /** It stays when the interface that appeared is gone. */
  readonly keep: boolean;
}

/** By itemKey. */
export type Items = ReadonlyMap<string, Item>;

export interface BindingPlan {
  /** By the binding's name: one that fails keeps no other from its own. */
  readonly steps: ReadonlyMap<string, readonly Step[]>;
  readonly warnings: ReadonlyMap<string, readonly string[]>;
  /** By interface. */
  readonly masqueraded: ReadonlyMap<string, Masqueraded>;
  /** What is a binding's from now on, as far as the steps succeed. */
  readonly owned: Items;
}

/**
 * INVARIANTS
 * - Empty when all is as wanted: a second run changes nothing.
 * - What no binding has put there is never removed. What one has put there goes when it is wanted no more.
 * - No interface is taken down.
 */
export function planBindings(
  bindings: readonly Binding[],
  present: readonly Appearance[],
  seen: Observed,
  ownedBefore: Items,
): BindingPlan {
  const plan = new Draft();
  const wanted = new Map<string, Item>();
  for (const appearance of present) for (const item of itemsOf(appearance, seen, plan)) wanted.set(itemKey(item), item);
  const owned = new Map([...ownedBefore, ...leftBehind(bindings, present, seen)]);
  for (const [key, item] of owned) {
    const { binding, keep } = item;
    if (!isThere(item, seen))
      owned.delete(key); // gone with its interface, or by another's hand
    else if (!wanted.has(key) && !keep) for (const one of removal(item, seen)) plan.add(binding, one);
  }
  for (const [key, item] of wanted) {
    const isNew = !isThere(item, seen);
    warnOfOverruling(item, seen, plan);
    if (isNew && !bring(item, wanted, seen, plan)) continue;
    if (isNew || owned.has(key)) owned.set(key, item);
  }
  return { ...plan, owned };
}

class Draft {
  readonly steps = new Map<string, Step[]>();
  readonly warnings = new Map<string, string[]>();
  readonly masqueraded = new Map<string, Masqueraded>();
  masquerade(ifname: string, binding: string, families: readonly Family[]): void {
    const before = this.masqueraded.get(ifname);
    const all = [...new Set([...(before?.families ?? []), ...families])].sort();
    this.masqueraded.set(ifname, { binding: before?.binding ?? binding, families: all });
  }
  add(binding: string, step: Step): void {
    this.steps.set(binding, [...(this.steps.get(binding) ?? []), step]);
  }
  warn(binding: string, sentence: string): void {
    this.warnings.set(binding, [...(this.warnings.get(binding) ?? []), sentence]);
  }
}

function itemsOf({ binding, ifname }: Appearance, seen: Observed, plan: Draft): Item[] {
  const { name, keep } = binding;
  const on = binding.on ?? ifname;
  const link = linkNamed(seen, on);
  if (link === undefined) plan.warn(name, `${on} is not there; all of it waits until it appears`);
  const steps = stepsOf(binding, on);
  if (link === undefined || (steps.length === 0 && !binding.masquerade)) return [];
  const bridge = seen.links.find(({ ifindex, kind }) => ifindex === link.master && kind === 'bridge');
  if (bridge !== undefined)
    plan.warn(name, `${on} is a port of ${bridge.ifname}, where addresses have no effect; set on = "${bridge.ifname}"`);
  if (bridge !== undefined) return [];
  if (binding.masquerade) maskOn(on, binding, plan);
  if (!link.up && steps.length > 0) plan.add(name, { do: 'up', ifname: on });
  return steps.map((step) => ({ binding: name, ifindex: link.ifindex, step, keep: keep && on !== ifname }));
}

/** Between quotes, as nftables writes names, a star at the end stands for more. */
function maskOn(ifname: string, binding: Binding, plan: Draft): void {
  if (/^[\w.:-]+$/.test(ifname)) plan.masquerade(ifname, binding.name, familiesOf(binding));
  else
    plan.warn(binding.name, `${ifname} cannot be masqueraded: nft takes letters, digits, ".", "_" and "-" in its name`);
}

function stepsOf(binding: Binding, ifname: string): (AddressStep | RouteStep)[] {
  const { addresses, routes } = wantedOf(binding);
  return [
    ...addresses.map((prefix) => ({ do: 'add-address', ifname, prefix, protocol: RTPROT_VIFD_OWN }) as const),
    ...routes.map((route) => ({ do: 'add-route', ifname, route: { ...route, protocol: RTPROT_VIFD_OWN } }) as const),
  ];
}

/** What a vifd before this one has left on another interface, whose mark it bears. */
function leftBehind(bindings: readonly Binding[], present: readonly Appearance[], seen: Observed): [string, Item][] {
  const idle = bindings.filter(
    ({ name, on }) => on !== undefined && !present.some(({ binding }) => binding.name === name),
  );
  return idle.flatMap((binding) => {
    const { name, keep, on = '' } = binding;
    const link = linkNamed(seen, on);
    const items = link === undefined ? [] : stepsOf(binding, on).map((step) => itemOn(link, name, keep, step));
    return items.filter((item) => isThere(item, seen, 'own')).map((item) => [itemKey(item), item] as const);
  }) as [string, Item][];
}

const itemOn = ({ ifindex }: Link, binding: string, keep: boolean, step: Item['step']): Item => ({
  binding,
  ifindex,
  step,
  keep,
});

/** `own`: only if vifd has put it there. */
function isThere({ ifindex, step }: Item, { addresses, routes }: Observed, by: 'own' | 'any' = 'any'): boolean {
  return 'prefix' in step
    ? addresses.some(
        (one) => one.ifindex === ifindex && samePrefix(one.prefix, step.prefix) && (by === 'any' || isOwnAddress(one)),
      )
    : routes.some((one) => isSameRoute({ ...step.route, ifindex }, one) && (by === 'any' || isOwnRoute(one)));
}

function warnOfOverruling({ binding, ifindex, step }: Item, seen: Observed, plan: Draft): void {
  const over = 'route' in step ? overruledBy(step.route, ifindex, seen) : undefined;
  if (over !== undefined) plan.warn(binding, routeInTheWay(over, seen, `[bind.${binding}]`, true));
}

/** False where it cannot be. */
function bring({ binding, step }: Item, wanted: Items, seen: Observed, plan: Draft): boolean {
  const inTheWay = 'route' in step ? seen.routes.find((one) => isSamePlace(step.route, one)) : undefined;
  if (inTheWay !== undefined) {
    const link = seen.links.find(({ ifindex }) => ifindex === inTheWay.ifindex);
    const isWanted = [...wanted.values()].some((one) => leadsTo(one, inTheWay));
    if (!isOwnRoute(inTheWay) || isWanted || link?.ifname !== step.ifname) {
      plan.warn(binding, routeInTheWay(inTheWay, seen, `[bind.${binding}]`));
      return false;
    }
    plan.add(binding, { do: 'delete-route', ifname: step.ifname, route: inTheWay });
  }
  plan.add(binding, step);
  return true;
}

const leadsTo = ({ step, ifindex }: Item, seen: SeenRoute): boolean =>
  'route' in step && isSameRoute({ ...step.route, ifindex }, seen);

/** With an IPv4 address the kernel removes others of its network, unless promote_secondaries is set: they are brought back. */
function removal({ step, ifindex }: Item, { addresses, routes }: Observed): Step[] {
  const { ifname } = step;
  if ('route' in step) {
    const own = routes.filter((one) => isSameRoute({ ...step.route, ifindex }, one) && isOwnRoute(one));
    return own.map((route) => ({ do: 'delete-route', ifname, route }) as const); // with the mark that it has
  }
  const { prefix } = step;
  const undo = { ...step, do: 'delete-address' } as const;
  if (prefix.family === 'ipv6') return [undo];
  const others = addresses.filter(
    (one) =>
      one.ifindex === ifindex && formatPrefix(one.prefix) === formatPrefix(prefix) && !samePrefix(one.prefix, prefix),
  );
  return [
    undo,
    ...others.map((one) => ({ do: 'add-address', ifname, prefix: one.prefix, protocol: one.protocol }) as const),
  ];
}

const itemKey = ({ binding, ifindex, step }: Item): string =>
  `${binding} ${ifindex} ${'prefix' in step ? prefixText(step.prefix) : describeRoute({ ...step.route, ifindex })}`;
