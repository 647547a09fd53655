/** Each station of a vif's way, made to fire once by one thing that is not as it should be. */
import { describe, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import { explain, obstacle, STATIONS, type Verdict } from '../../src/vif/explanation.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import type { VifSeen } from '../../src/vif/seen.js';
import { aLink, BRIDGE, backend, live, seen } from './vif-seen.js';

const link = (more: Parameters<typeof aLink>[1]) =>
  aLink('vif5.0', { ifindex: 8, master: 3, parentDev: 'vif-5-0', ...more });
const around = (more: Partial<VifSeen['around']>): VifSeen['around'] => ({ ...seen().around, ...more });
const waitingFor = { state: '2', 'hotplug-status': '' };
const nobody = around({ programs: [] });
const devd = around({ programs: [{ pid: 9, command: 'xl devd' }] });
const unlike = (nodes: Record<string, string>): Partial<VifSeen> => ({
  backend: backend(nodes),
  want: resolveAttachment(backend(nodes), DEFAULTS),
});
const statistics = (more: object): VifSeen['statistics'] =>
  ({ ...seen().statistics, ...more }) as VifSeen['statistics'];

test('a vif in order passes every station, and nothing is to be done', () => {
  const accounts = explain(seen());
  expect(accounts.map(({ station }) => station)).toEqual(STATIONS.map(({ name }) => name));
  expect(accounts.filter(({ verdict, remedy }) => verdict !== 'ok' || remedy !== '')).toEqual([]);
  expect(obstacle(seen())).toBeUndefined();
});

const RULED = { vif: {}, rules: [{ name: 'a', mtu: 1500, profile: 'pf' }] } as const;
const NO_STATE = { state: undefined, online: false, hotplugStatus: undefined, hotplugError: undefined };

/** Station, verdict, what is seen, what is said, what is to be done. */
const CASES: [string, Verdict, Partial<VifSeen>, RegExp, RegExp][] = [
  ['dom0', 'wrong', { live: NO_STATE }, /no backend\/vif\/5\/0 in xenstore/, /xl network-list 5; .*backend=NAME/],
  ['nodes', 'wrong', { nodeFault: 'node "mac" is "x"' }, /^node "mac" is "x"$/, /correct the guest's vif line/],
  [
    'settings',
    'note',
    { want: resolveAttachment(backend({ mtu: '9000' }), RULED), backend: backend({ mtu: '9000' }) },
    /^bridge = "br0" of dom0, mtu = 1500 of \[rule.a\], tx_checksum = "off" of \[rule.a\], profile = "pf" of \[rule.a\]; dom0 named mtu 9000$/,
    /a rule counts more/,
  ],
  ['nodes', 'note', { backend: backend({ ip: 'x' }) }, /node "ip" is "x"/, /vif line/],
  ['online', 'wait', { live: live({ online: '0', state: '5' }) }, /online is 0.*Closing/, /it leaves/],
  ['online', 'wait', { live: live({ online: '0', state: '6' }) }, /online is 0.*Closed/, /it leaves/],
  ['online', 'wrong', { live: live({ online: '0', state: '6' }), around: nobody }, /nobody removes/, /vifd run/],
  ['netback', 'wait', { live: live({ ...waitingFor, state: '1' }) }, /not taken.*Initialising/, /modprobe xen-netback/],
  [
    'netback',
    'wrong',
    { live: live({ ...waitingFor, state: '1' }), around: around({ netback: 'missing' }) },
    /module is not loaded/,
    /^modprobe xen-netback$/,
  ],
  ['netback', 'wrong', { live: live({ state: '1', 'hotplug-status': 'error' }) }, /not taken/, /modprobe xen-netback/],
  [
    'netback',
    'wrong',
    { live: live({ state: '5' }), kernelError: '28 writing feature-sg' },
    /Closing; the kernel says: "28 writing feature-sg"; .*quota/,
    /dmesg/,
  ],
  ['interface', 'wrong', { link: undefined }, /no interface vif5\.0$/, /dmesg/],
  ['interface', 'wrong', { link: undefined, ...unlike({ vifname: 'lan' }) }, /no interface vif5\.0 nor lan/, /dmesg/],
  [
    'interface',
    'wait',
    { link: undefined, live: live({ state: '6' }) },
    /let go.*Closed.*gone/,
    /attach the vif again/,
  ],
  [
    'bridge',
    'wrong',
    { bridge: { code: 'ENOBRIDGE', message: 'bridge "x" does not exist', hint: 'bridges here: br0' } },
    /bridge "x" does not exist/,
    /bridges here: br0/,
  ],
  [
    'bridge',
    'wrong',
    { bridge: { ...BRIDGE, link: { ...BRIDGE.link, up: false } } },
    /br0 is down/,
    /ip link set br0 up/,
  ],
  ['bridge', 'note', { bridge: { ...BRIDGE, warning: 'dom0 named no bridge' } }, /dom0 named no bridge/, /^$/],
  [
    'attachment',
    'wrong',
    { link: link({ master: 0 }), around: nobody },
    /not in force on vif5\.0: port of br0/,
    /vifd run/,
  ],
  ['attachment', 'wrong', { link: link({ master: 0 }) }, /port of br0/, /repairs it within 20 s/],
  ['attachment', 'wait', { link: link({ up: false }), live: live(waitingFor) }, /vif5\.0: up$/, /about to do it/],
  ['attachment', 'wrong', { link: link({ up: false }), around: devd }, /: up$/, /xldevd\.log/],
  ['attachment', 'note', { link: link({ txqlen: 32 }), around: devd }, /txqlen=1000; xl devd/, /instead of xl devd/],
  [
    'attachment',
    'wrong',
    { link: link({ txqlen: 32 }), live: live({ state: '2', 'hotplug-status': 'error', 'hotplug-error': 'EPERM' }) },
    /txqlen=1000; hotplug-error is "EPERM"/,
    /log of vifd run/,
  ],
  ['attachment', 'wrong', { features: new Set(['tx-checksum-ipv4']) }, /off: tx-checksum-ipv4/, /vifd/],
  ['mtu', 'note', unlike({ mtu: '9000' }), /has MTU 1500; 9000 is asked for/, /scatter-gather/],
  [
    'mtu',
    'note',
    { frontend: { state: '4', mtu: '1400' } },
    /MTU 1500, but the guest is told "1400"/,
    /inside the guest/,
  ],
  [
    'hotplug',
    'wrong',
    { live: live({ state: '2', 'hotplug-status': 'error', 'hotplug-error': 'no\x1b' }) },
    /hotplug-error is "no\\u001b"/,
    /log of vifd run/,
  ],
  ['hotplug', 'wrong', { live: live({ ...waitingFor }), around: nobody }, /nobody has attached/, /vifd run/],
  ['hotplug', 'wait', { live: live({ ...waitingFor }) }, /guest hangs/, /vifd run is about to/],
  [
    'hotplug',
    'wrong',
    { live: live({ state: '2', 'hotplug-status': 'ok' }) },
    /is "ok", which means nothing/,
    /one agent/,
  ],
  ['guest', 'wait', { frontend: { state: undefined, mtu: undefined } }, /directory cannot be read/, /xl list/],
  ['guest', 'wait', { frontend: { state: '6', mtu: undefined } }, /driver is Closed/, /allocating event channel.*SILO/],
  [
    'guest',
    'wait',
    { frontend: { state: '1', mtu: undefined }, live: live({ state: '2' }) },
    /driver is Initialising: it has not come yet/,
    /xen-netfront/,
  ],
  [
    'guest',
    'wait',
    { frontend: { state: '3', mtu: undefined }, live: live({ state: '2' }) },
    /it is connecting/,
    /nothing/,
  ],
  ['guest', 'wait', { frontend: { state: 'a\x07', mtu: undefined } }, /driver is "a\\u0007"/, /./],
  ['connection', 'wait', { live: live({ state: '2' }) }, /InitWait, though all is in place/, /dmesg/],
  ['carrier', 'wait', { statistics: statistics({ carrier: false }) }, /no carrier/, /inside the guest/],
  ['carrier', 'note', { statistics: undefined }, /cannot be read/, /iproute2/],
  [
    'forwarding',
    'wait',
    { statistics: statistics({ bridgePortState: 'learning' }) },
    /br0 does not forward.*learning/,
    /type bridge stp_state 0/,
  ],
  [
    'uplink',
    'note',
    { bridge: { ...BRIDGE, ports: [aLink('lan', { alias: 'vif5.0' }), aLink('wan', { parentDev: 'vif-6-0' })] } },
    /no port but vifs/,
    /ip link set NIC master br0/,
  ],
];

describe.each(CASES)('%s: %s', (station, verdict, spoilt, says, remedy) => {
  const accounts = explain(seen(spoilt));
  const found = accounts.find((account) => account.station === station);

  test(`${says}`, () => {
    expect(found).toMatchObject({ verdict, says: expect.stringMatching(says), remedy: expect.stringMatching(remedy) });
  });
  test('is the only thing that is said', () => {
    expect(accounts.filter((account) => account.verdict !== 'ok')).toEqual([found]);
    if (verdict !== 'note') expect(accounts.at(-1)).toBe(found);
  });
});

test('every station has a case', () => {
  expect(new Set(CASES.map(([station]) => station))).toEqual(new Set(STATIONS.map(({ name }) => name)));
});
