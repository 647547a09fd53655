/** Station "guard": a guest that sends as another is cut off, and nothing but this says so. */
import { describe, expect, test } from 'vitest';
import type { Config } from '../../src/config/schema.js';
import { explain } from '../../src/vif/explanation.js';
import { judgeGuard } from '../../src/vif/guard-explanation.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { formatAccounts, formatStatus, reportStatus } from '../../src/vif/report.js';
import type { VifSeen } from '../../src/vif/seen.js';
import { backend, seen } from './vif-seen.js';

type Said = { ip?: string; script?: string };

/** Its guard is in force. */
function guarded(nodes: Said, vif: Config['vif'] = {}, rule: Config['vif'] = {}): VifSeen {
  const described = backend(nodes);
  const want = resolveAttachment(described, { vif, rules: [{ name: 'a', ...rule }] });
  return seen({ backend: described, want, guard: want.guard?.chain });
}
const account = (vif: VifSeen) => explain(vif).find(({ station }) => station === 'guard');
const heldTo = (...about: Parameters<typeof guarded>) =>
  /^holds the guest to (.*): frames with any other source are dropped/.exec(
    judgeGuard(guarded(...about)).says ?? '',
  )?.[1];

const MAC = '00:16:3e:01:02:03';

test('ip= of dom0 on a bridge: who asked for it, what it holds to, what is dropped, and what to do', () => {
  const vif = guarded({ ip: '192.0.2.7/24' });
  expect(account(vif)).toEqual({
    station: 'guard',
    verdict: 'ok',
    says: `holds the guest to ${MAC}, 192.0.2.7 and any IPv6 address (ip= of dom0): frames with any other source are dropped, as are DHCP answers, router advertisements and VLAN tags`,
    remedy:
      'if no packet passes: compare with ip link and ip addr inside the guest. More may be named in ip= of its vif line, guard_ip and guard_macs; guard = "off" lets all pass',
  });
  expect(formatAccounts(explain(vif), 80).at(-1)).toBe('result: it works');
});

test.each<[string, Parameters<typeof guarded>]>([
  [`${MAC}, 192.0.2.0/24 and 2001:db8::7 (ip= of dom0)`, [{ ip: '192.0.2.0/24 2001:db8::7' }]],
  [`${MAC}, 2001:db8::/32 and any IPv4 address (ip of [vif])`, [{}, { ip: '2001:db8::/32' }]],
  [
    `${MAC}, 192.0.2.8 and any IPv6 address (guard_ip of [rule.a])`,
    [{ ip: '192.0.2.7' }, {}, { guardIp: '192.0.2.8' }],
  ],
  [`${MAC}, 2001:db8::7 and any IPv4 address (ip= of dom0)`, [{ ip: '0.0.0.0/0 2001:db8::7' }]],
  [`${MAC} and any IPv4 or IPv6 address (guard = "mac" of [vif])`, [{ ip: '192.0.2.7' }, { guard: 'mac' }]],
  [
    `${MAC}, 00:00:5e:00:01:01, 192.0.2.7 and any IPv6 address (guard = "ip" of [rule.a], ip= of dom0, guard_macs of [vif])`,
    [{ ip: '192.0.2.7' }, { guardMacs: '00:00:5E:00:01:01' }, { guard: 'ip' }],
  ],
  [
    `${MAC} and 192.0.2.7 (ip= of dom0)`,
    [{ ip: '192.0.2.7', script: '/etc/xen/scripts/vif-route' }, { gateway: '192.0.2.1' }],
  ],
  [
    `${MAC}, 192.0.2.7 and any IPv6 address (ip= of dom0)`,
    [{ ip: '192.0.2.7 ::/0', script: '/etc/xen/scripts/vif-nat' }],
  ],
  [`${MAC} and 10.0.5.1 (mode "nat")`, [{ script: '/etc/xen/scripts/vif-nat' }]],
  [
    `${MAC} and any IPv4 or IPv6 address (guard = "mac" of [vif])`,
    [{ script: '/etc/xen/scripts/vif-nat' }, { guard: 'mac' }],
  ],
])('%s', (said, about) => expect(heldTo(...about)).toBe(said));

describe('what is dropped as well', () => {
  const dropped = (...about: Parameters<typeof guarded>) =>
    judgeGuard(guarded(...about)).says.split('frames with any other source are dropped')[1];
  test('answers of servers, unless it may', () => {
    expect(dropped({}, { guard: 'mac' })).toBe(', as are DHCP answers and router advertisements');
    expect(dropped({}, { guard: 'mac', allowDhcp: true })).toBe(', as are router advertisements');
    expect(dropped({}, { guard: 'mac', allowDhcp: true, allowRouter: true })).toBe('');
  });
  test('tags on a bridge, unless it has VLANs', () => {
    expect(dropped({ ip: '192.0.2.7' })).toContain('VLAN tags');
    expect(dropped({ ip: '192.0.2.7' }, { vlan: '10p/20' })).not.toContain('VLAN tags');
    expect(dropped({ ip: '192.0.2.7', script: '/etc/xen/scripts/vif-nat' })).toBe(
      ', as are DHCP answers and router advertisements',
    );
  });
});

test('a vif that asks for none, and one whose guard is off', () => {
  const says = 'no guard is asked for: the guest may send as anybody';
  expect(account(guarded({}))).toEqual({ station: 'guard', verdict: 'ok', says, remedy: '' });
  expect(account(guarded({ ip: '192.0.2.7' }, { guard: 'off' }))).toMatchObject({ says });
});

test('one that xl devd attached is not held', () => {
  const programs = [{ pid: 9, command: 'xl devd' as const }];
  const vif = { ...guarded({ ip: '192.0.2.7' }), guard: undefined, around: { ...seen().around, programs } };
  expect(account(vif)).toEqual({
    station: 'guard',
    verdict: 'note',
    says: `nothing holds the guest to ${MAC}, 192.0.2.7 and any IPv6 address (ip= of dom0): the guard is not in force on vif5.0`,
    remedy: 'run vifd instead of xl devd',
  });
});

test('status: what a guard that is in force holds the guest to', () => {
  const vif = guarded({ ip: '192.0.2.7/24 192.0.2.128/25' });
  const report = reportStatus([], [vif, { ...vif, guard: 'guard_of_another' }, guarded({})]);
  const held = { macs: [MAC], addresses: ['192.0.2.7', '192.0.2.128/25'], free: ['ipv6'] };
  expect(report.vifs.map(({ heldTo }) => heldTo)).toEqual([held, null, null]);
  expect(formatStatus(report, 80).filter((line) => line.includes('held'))).toEqual([
    '  held to: 00:16:3e:01:02:03, 192.0.2.7, 192.0.2.128/25 and any IPv6 address',
  ]);
});
