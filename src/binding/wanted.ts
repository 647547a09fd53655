/** What [bind.NAME] asks for, and of whom at this moment. Pure. */
import { type Binding, vifMatch } from '../config/schema.js';
import { linkNamed, type Observed, type RouteOn } from '../declared/observed.js';
import { listOf, prefixes } from '../declared/wanted.js';
import type { Family, Prefix } from '../network/prefix.js';
import { defaultRoute, parseRouteText } from '../network/route-text.js';
import type { VifBackend } from '../vif/backend.js';
import { parsePattern } from '../vif/pattern.js';
import { matches } from '../vif/rules.js';

/** A vif that is connected. */
export interface SeenVif {
  readonly backend: VifBackend;
  readonly ifname: string;
}

/** An interface that is there and for which a binding holds; for when.bridge the bridge. */
export interface Appearance {
  readonly binding: Binding;
  readonly ifname: string;
  /** Another one when the interface comes anew. */
  readonly key: string;
}

export function appearances(binding: Binding, seen: Observed, vifs: readonly SeenVif[] = []): Appearance[] {
  return [...namesFor(binding, seen), ...vifNames(binding, vifs)].flatMap((ifname) => {
    const ifindex = linkNamed(seen, ifname)?.ifindex;
    return ifindex === undefined ? [] : [{ binding, ifname, key: `${binding.name} ${ifname} ${ifindex}` }];
  });
}

/** What gets the addresses is there. Nothing of a binding begins before. */
export const hasPlace = ({ binding, ifname }: Appearance, seen: Observed): boolean =>
  linkNamed(seen, binding.on ?? ifname) !== undefined;

function namesFor({ whenInterface, whenBridge }: Binding, seen: Observed): string[] {
  const patterns = listOf(whenInterface).map(parsePattern);
  const names = seen.links.map(({ ifname }) => ifname).filter((name) => patterns.some((fits) => fits?.(name)));
  const bridge = whenBridge === undefined ? undefined : linkNamed(seen, whenBridge);
  const hasPort = bridge?.kind === 'bridge' && seen.links.some(({ master }) => master === bridge.ifindex);
  return hasPort ? [...names, bridge.ifname] : names;
}

function vifNames(binding: Binding, vifs: readonly SeenVif[]): string[] {
  const match = vifMatch(binding);
  return match === undefined ? [] : vifs.filter(({ backend }) => matches(match, backend)).map(({ ifname }) => ifname);
}

/** What comes in by an interface leaves by others with the address of this domain. */
export interface Masqueraded {
  /** The binding that asks for it. */
  readonly binding: string;
  readonly families: readonly Family[];
}

/** What an interface gets. */
export interface Wanted {
  readonly addresses: readonly Prefix[];
  readonly routes: readonly RouteOn[];
}

export function wantedOf({ addresses, routes, gateway, metric }: Binding): Wanted {
  return {
    addresses: prefixes(addresses),
    routes: [
      ...listOf(routes).flatMap((text) => parseRouteText(text) ?? []),
      ...listOf(gateway).map((one) => defaultRoute(one, metric)),
    ],
  };
}

/** Of what packets shall be forwarded. Nothing is masqueraded that is not. */
export const forwardedFamilies = (binding: Binding): Family[] =>
  binding.forwarding || binding.masquerade ? familiesOf(binding) : [];

export function familiesOf(binding: Binding): Family[] {
  const { addresses, routes } = wantedOf(binding);
  const families = [...addresses, ...routes.map(({ destination }) => destination)].map(({ family }) => family);
  return [...new Set<Family>(families.length === 0 ? ['ipv4'] : families)];
}
