/** What `vifd explain` says of the guard of a vif: "it works" is no answer to a guest whose every packet is dropped. Pure. */
import { tomlName } from '../config/schema.js';
import { type Family, shortPrefix } from '../network/prefix.js';
import type { Attachment } from './attachment.js';
import { freeFamilies, type GuardPolicy, ownPrefixes, refusesTags } from './guard.js';
import { type Judgement, note, ok } from './judgement.js';
import type { VifSeen } from './seen.js';

const REMEDY =
  'if no packet passes: compare with ip link and ip addr inside the guest. More may be named in ip= of its vif line, ' +
  'guard_ip and guard_macs; guard = "off" lets all pass';

/** Whether the rules are in force is the attachment's station to judge; behind it they are, but where xl devd attached. */
export function judgeGuard({ want, guard, link }: VifSeen): Judgement {
  if (want?.mode === 'openvswitch' && want.unguarded.length > 0)
    return note(
      `nothing holds the guest to ${and(want.unguarded)} (ip= of dom0): frames of Open vSwitch pass nftables by`,
      'let flows of Open vSwitch do it, and set guard = "off" for the vif',
    );
  if (want?.guard === undefined) return ok('no guard is asked for: the guest may send as anybody');
  const held = `the guest to ${heldText(heldBy(want.guard.policy))} (${askedBy(want, want.guard.policy)})`;
  if (guard !== want.guard.chain)
    return note(`nothing holds ${held}: the guard is not in force on ${link?.ifname}`, 'run vifd instead of xl devd');
  return ok(`holds ${held}: frames with any other source are dropped${alsoDropped(want.guard.policy)}`, REMEDY);
}

/** What a guarded guest may send as. */
export interface Held {
  readonly macs: readonly string[];
  /** And prefixes. */
  readonly addresses: readonly string[];
  /** The families in which it may have any address. */
  readonly free: readonly Family[];
}

/** Undefined: as anybody, for no guard is in force. */
export const heldTo = ({ want, guard }: VifSeen): Held | undefined =>
  want?.guard !== undefined && want.guard.chain === guard ? heldBy(want.guard.policy) : undefined;

const heldBy = (policy: GuardPolicy): Held => ({
  macs: policy.macs,
  addresses: ownPrefixes(policy).map(shortPrefix),
  free: freeFamilies(policy),
});

export function heldText({ macs, addresses, free }: Held): string {
  const any = free.map((family) => (family === 'ipv4' ? 'IPv4' : 'IPv6')).join(' or ');
  return and([...macs, ...addresses, ...(any === '' ? [] : [`any ${any} address`])]);
}

/** Who turned it on, and who gave the addresses. Of a NAT vif without any the mode did both. */
function askedBy({ policy: { settings, origins }, mode }: Attachment, { ip }: GuardPolicy): string {
  const said = (name: 'ip' | 'guardIp' | 'guardMacs'): string[] => {
    const origin = origins.get(name);
    return origin === undefined ? [] : [`${tomlName(name)}${origin === 'dom0' ? '=' : ''} of ${origin}`];
  };
  const lists = said(settings.guardIp === undefined ? 'ip' : 'guardIp');
  return [
    ...(settings.guard === 'auto' ? [] : [`guard = "${settings.guard}" of ${origins.get('guard')}`]),
    ...(ip === undefined ? [] : lists.length > 0 ? lists : [`mode "${mode}"`]),
    ...said('guardMacs'),
  ].join(', ');
}

function alsoDropped(policy: GuardPolicy): string {
  const kinds = [
    ...(policy.allowDhcp ? [] : ['DHCP answers']),
    ...(policy.allowRouter ? [] : ['router advertisements']),
    ...(refusesTags(policy) ? ['VLAN tags'] : []),
  ];
  return kinds.length === 0 ? '' : `, as are ${and(kinds)}`;
}

const and = (words: readonly string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
