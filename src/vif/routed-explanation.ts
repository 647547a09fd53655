/** What `vifd explain` says of a routed vif at the stations that are a bridge's for others. Pure. */
import type { Family } from '../network/prefix.js';
import { RT_TABLE_MAIN } from '../network/routes.js';
import { isRouted, type RoutedAttachment } from './attachment.js';
import { offerOf } from './dhcp.js';
import { type Judgement, note, ok } from './judgement.js';
import { familiesOf, type RoutedPlace } from './routed.js';
import { guestSnippet, routedText, routedWarnings } from './routed-words.js';
import type { VifSeen } from './seen.js';

/** Undefined for a vif that is not routed, or while something is at fault. */
function routedSeen({ want, place }: VifSeen): { want: RoutedAttachment; place: RoutedPlace } | undefined {
  return isRouted(want) && isRouted(place) ? { want, place } : undefined;
}

/** With what makes it work inside the guest. */
export function judgeRoutes(seen: VifSeen): Judgement | undefined {
  const routed = routedSeen(seen);
  if (routed === undefined) return undefined;
  const { want, place } = routed;
  const gateways = place.gateways.map(({ address }) => address).join(' and ');
  const hidden = want.mode === 'nat' ? ", and hidden behind this domain's own" : '';
  return ok(
    `no bridge: ${routedText(want)} routed to the vif${hidden}; the guest's gateway is ${gateways}`,
    `inside a Linux guest: ${guestSnippet(want, place.gateways)}${offerOf(want, place.gateways) ? ', or by DHCP' : ''}`,
  );
}

export function judgeRoutedForwarding(seen: VifSeen): Judgement | undefined {
  const routed = routedSeen(seen);
  if (routed === undefined || seen.link === undefined) return undefined;
  const [first] = routedWarnings(routed.want, seen.link, routed.place);
  return first === undefined ? ok('this domain passes packets on') : note(first.says, first.remedy);
}

/** By the default route that counts for the guest. */
export function judgeWayOut(seen: VifSeen): Judgement | undefined {
  const routed = routedSeen(seen);
  if (routed === undefined) return undefined;
  const { want, place } = routed;
  const table = want.sourceTable ?? RT_TABLE_MAIN;
  const which = table === RT_TABLE_MAIN ? '' : ` table ${table}`;
  const defaultOf = (family: Family) =>
    place.routes.find(({ destination: to, table: of }) => to.family === family && to.length === 0 && of === table);
  const missing = familiesOf(want).find((family) => defaultOf(family) === undefined);
  if (missing !== undefined)
    return note(
      `there is no default route for ${missing === 'ipv4' ? 'IPv4' : 'IPv6'}${which === '' ? '' : ` in${which}`}: the guest reaches no further than this domain's own networks`,
      `if it is to: ip ${missing === 'ipv6' ? '-6 ' : ''}route add default via GATEWAY${which}`,
    );
  const ways = familiesOf(want).map((family) => defaultOf(family)?.gateway ?? 'a default route without a gateway');
  return ok(`what the guest sends leaves by ${ways.join(' and ')}${which}`);
}
