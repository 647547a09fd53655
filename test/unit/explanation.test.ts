/** Each station of a vif's way, made to fire once by one thing that is not as it should be. */

import { describe, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import { NO_FEATURES } from '../../src/network/ethtool.js';
import { explain, obstacle, STATIONS } from '../../src/vif/explanation.js';
import type { Verdict } from '../../src/vif/judgement.js';
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
  expect(accounts.map(({ says }) => says)).toEqual([
    'dom0 has written backend/vif/5/0',
    'every node is valid: type vif, mac 00:16:3e:01:02:03, bridge br0',
    'bridge = "br0" of dom0',
    'online is 1: dom0 wants the vif',
    'xen-netback has taken the vif: the backend is Connected',
    'the kernel has made the interface vif5.0',
    'the bridge br0 is there and up; ports: 2',
    'vif5.0 has all that was asked for',
    'no guard is asked for: the guest may send as anybody',
    'MTU 1500',
    'hotplug-status is "connected": the kernel may let the guest connect',
    "the guest's driver is Connected",
    'the backend is Connected: kernel and guest exchange packets',
    'vif5.0 has carrier',
    'the bridge forwards its packets',
    'br0 leads on by eth0',
  ]);
  expect(obstacle(seen())).toBeUndefined();
});

test.each<[string, string, Partial<VifSeen>]>([
  [
    'interface',
    'the kernel has made the interface vif5.0, called lan',
    { ...unlike({ vifname: 'lan' }), link: aLink('lan', { ifindex: 8, master: 3, parentDev: 'vif-5-0' }) },
  ],
  ['bridge', 'no bridge is asked for', { bridge: undefined }],
])('%s: %s', (station, says, more) =>
  expect(explain(seen(more))).toContainEqual({ station, verdict: 'ok', says, remedy: '' }),
);

/** In order, but for what its frames pass by. */
function onOpenvswitch(): Partial<VifSeen> {
  const nodes = { script: '/etc/xen/scripts/vif-openvswitch', bridge: 'ovs0', ip: '192.0.2.7 192.0.2.8' };
  const { want } = unlike(nodes);
  if (want?.mode !== 'openvswitch') throw new Error('it is no port of Open vSwitch');
  const port = { ...want.port, vlanMode: '', ifindex: 8, ofport: 1 };
  return { ...unlike(nodes), link: link({ master: 0 }), place: { mode: 'openvswitch', port, fresh: false } };
}

const RULED = { vif: {}, rules: [{ name: 'a', mtu: 1500, profile: 'pf' }] } as const;
const NO_STATE = { state: undefined, online: false, hotplugStatus: undefined, hotplugError: undefined };

/** Station, verdict, what is seen, what is said, what is to be done. */
const CASES: [string, Verdict, Partial<VifSeen>, string, string][] = [
  [
    'dom0',
    'wrong',
    { live: NO_STATE },
    'there is no backend/vif/5/0 in xenstore: dom0 has not made this vif here, or it has gone',
    "in dom0: xl network-list 5; the guest's vif line needs backend=NAME with the name of this domain",
  ],
  [
    'nodes',
    'wrong',
    { nodeFault: 'node "mac" is "x"' },
    'node "mac" is "x"',
    "correct the guest's vif line in dom0, then xl network-detach and xl network-attach",
  ],
  [
    'settings',
    'note',
    { want: resolveAttachment(backend({ mtu: '9000' }), RULED), backend: backend({ mtu: '9000' }) },
    'bridge = "br0" of dom0, mtu = 1500 of [rule.a], tx_checksum = "off" of [rule.a], profile = "pf" of [rule.a]; dom0 named mtu 9000',
    'a rule counts more than dom0: vifd config show',
  ],
  [
    'nodes',
    'note',
    { backend: backend({ ip: 'x' }) },
    'node "ip" is "x"; expected IPv4 or IPv6 addresses or prefixes, separated by spaces; left out, so the guest is not held to it',
    "correct the guest's vif line in dom0",
  ],
  [
    'online',
    'wait',
    { live: live({ online: '0', state: '5' }) },
    'online is 0: dom0 wants the vif gone; the backend is Closing',
    'nothing to do: it leaves',
  ],
  [
    'online',
    'wait',
    { live: live({ online: '0', state: '6' }) },
    'online is 0: dom0 wants the vif gone; the backend is Closed',
    'nothing to do: it leaves',
  ],
  [
    'online',
    'wrong',
    { live: live({ online: '0', state: '6' }), around: nobody },
    'online is 0: dom0 wants the vif gone; the backend is Closed, and nobody removes its directory: no agent runs here',
    'start it: vifd run. Until then dom0 cannot end it without a time-out',
  ],
  [
    'netback',
    'wait',
    { live: live({ ...waitingFor, state: '1' }) },
    'xen-netback has not taken this vif: the backend is Initialising',
    'if it stays so for seconds: modprobe xen-netback; see the kernel log of this domain: dmesg | grep vif',
  ],
  [
    'netback',
    'wrong',
    { live: live({ ...waitingFor, state: '1' }), around: around({ netback: 'missing' }) },
    'xen-netback has not taken this vif: the backend is Initialising, and its module is not loaded',
    'modprobe xen-netback',
  ],
  [
    'netback',
    'wrong',
    { live: live({ state: '1', 'hotplug-status': 'error' }) },
    'xen-netback has not taken this vif: the backend is Initialising',
    'modprobe xen-netback; see the kernel log of this domain: dmesg | grep vif',
  ],
  [
    'netback',
    'wrong',
    { live: live({ state: '5' }), kernelError: '28 writing feature-sg' },
    'the backend is Closing; the kernel says: "28 writing feature-sg"; the xenstore quota of this driver domain is used up: each vif takes 23 or 24 of the 1000 nodes it may own, so about 40 fit. Raise it in dom0: xenstore-control quota set nodes 10000 (from Xen 4.17 on, at once); for good: xenstored -E 10000, or quota-maxentity in oxenstored.conf',
    'see the kernel log of this domain: dmesg | grep vif',
  ],
  [
    'interface',
    'wrong',
    { link: undefined },
    'the kernel has made no interface vif5.0',
    'see the kernel log of this domain: dmesg | grep vif',
  ],
  [
    'interface',
    'wrong',
    { link: undefined, ...unlike({ vifname: 'lan' }) },
    'the kernel has made no interface vif5.0 nor lan',
    'see the kernel log of this domain: dmesg | grep vif',
  ],
  [
    'interface',
    'wait',
    { link: undefined, live: live({ state: '6' }) },
    'the guest has let go (the backend is Closed), and its interface vif5.0 has gone',
    'attach the vif again in dom0, if the guest is to have it',
  ],
  [
    'bridge',
    'wrong',
    { placeFault: { code: 'ENOBRIDGE', message: 'bridge "x" does not exist', hint: 'bridges here: br0' } },
    'bridge "x" does not exist',
    'bridges here: br0',
  ],
  [
    'bridge',
    'wrong',
    { bridge: { ...BRIDGE, link: { ...BRIDGE.link, up: false } } },
    'the bridge br0 is down',
    'ip link set br0 up',
  ],
  ['bridge', 'note', { bridge: { ...BRIDGE, warning: 'dom0 named no bridge' } }, 'dom0 named no bridge', ''],
  [
    'attachment',
    'wrong',
    { link: link({ master: 0 }), around: nobody },
    'not in force on vif5.0: port of br0',
    'no agent runs here; start it: vifd run',
  ],
  [
    'attachment',
    'wrong',
    { link: link({ master: 0 }) },
    'not in force on vif5.0: port of br0',
    'vifd repairs it within 20 s; if it comes back, another program changes it: ip monitor link shows what, vifd doctor may name it',
  ],
  [
    'attachment',
    'wait',
    { link: link({ up: false }), live: live(waitingFor) },
    'not in force on vif5.0: up',
    'vifd is about to do it',
  ],
  [
    'attachment',
    'wrong',
    { link: link({ up: false }), around: devd },
    'not in force on vif5.0: up',
    'xl devd runs here; see its log /var/log/xen/xldevd.log, or run vifd instead',
  ],
  [
    'attachment',
    'note',
    { link: link({ txqlen: 32 }), around: devd },
    'not in force on vif5.0: txqlen=1000; xl devd attached it, which does not do that',
    'run vifd instead of xl devd',
  ],
  [
    'attachment',
    'wrong',
    { link: link({ txqlen: 32 }), live: live({ state: '2', 'hotplug-status': 'error', 'hotplug-error': 'EPERM' }) },
    'not in force on vif5.0: txqlen=1000; hotplug-error is "EPERM"',
    'the log of vifd run has the whole reason',
  ],
  [
    'attachment',
    'wrong',
    { features: { ...NO_FEATURES, wanted: new Set(['tx-checksum-ipv4']) } },
    'not in force on vif5.0: off: tx-checksum-ipv4',
    'vifd repairs it within 20 s; if it comes back, another program changes it: ip monitor link shows what, vifd doctor may name it',
  ],
  [
    'guard',
    'note',
    { ...onOpenvswitch(), bridge: undefined },
    'nothing holds the guest to 192.0.2.7 and 192.0.2.8 (ip= of dom0): frames of Open vSwitch pass nftables by',
    'let flows of Open vSwitch do it, and set guard = "off" for the vif',
  ],
  [
    'mtu',
    'note',
    unlike({ mtu: '9000' }),
    'vif5.0 has MTU 1500; 9000 is asked for',
    "the guest's driver may not allow it (no scatter-gather); packets above are lost",
  ],
  [
    'mtu',
    'note',
    { frontend: { state: '4', mtu: '1400' } },
    'vif5.0 has MTU 1500, but the guest is told "1400"',
    'set the MTU of the interface inside the guest; packets above the smaller one are lost',
  ],
  [
    'hotplug',
    'wrong',
    { live: live({ state: '2', 'hotplug-status': 'error', 'hotplug-error': 'no\x1b' }) },
    'hotplug-error is "no\\u001b"',
    'the log of vifd run has the whole reason',
  ],
  [
    'hotplug',
    'wrong',
    { live: live({ state: '2', 'hotplug-status': 'error' }) },
    'hotplug-status is "error", without a reason',
    'the log of vifd run has the whole reason',
  ],
  [
    'hotplug',
    'wrong',
    { live: live({ ...waitingFor }), around: nobody },
    'hotplug-status is empty: nobody has attached the interface, and the guest hangs until then; no agent runs here',
    'start it: vifd run',
  ],
  [
    'hotplug',
    'wait',
    { live: live({ ...waitingFor }) },
    'hotplug-status is empty: nobody has attached the interface, and the guest hangs until then',
    'vifd run is about to do it; if not, see its log',
  ],
  [
    'hotplug',
    'wrong',
    { live: live({ state: '2', 'hotplug-status': 'ok' }) },
    'hotplug-status is "ok", which means nothing to the kernel',
    'run one agent only, and see which program wrote it: vifd monitor',
  ],
  [
    'guest',
    'wait',
    { frontend: { state: undefined, mtu: undefined } },
    "the guest's directory cannot be read: the guest has ended, or removed it",
    'dom0 has the next word: xl list',
  ],
  [
    'guest',
    'wait',
    { frontend: { state: '6', mtu: undefined } },
    "the guest's driver is Closed: it has let go, or could not connect",
    'see the guest\'s kernel log: dmesg | grep -i -e vif -e xennet. With "allocating event channel" there, Xen\'s XSM policy (SILO) forbids guests to talk to this domain: boot Xen with xsm=dummy',
  ],
  [
    'guest',
    'wait',
    { frontend: { state: '1', mtu: undefined }, live: live({ state: '2' }) },
    "the guest's driver is Initialising: it has not come yet",
    'wait until the guest has booted; inside a Linux guest: modprobe xen-netfront',
  ],
  [
    'guest',
    'wait',
    { frontend: { state: '3', mtu: undefined }, live: live({ state: '2' }) },
    "the guest's driver is Initialised: it is connecting",
    'nothing to do',
  ],
  [
    'guest',
    'wait',
    { frontend: { state: 'a\x07', mtu: undefined } },
    'the guest\'s driver is "a\\u0007": it is connecting',
    'nothing to do',
  ],
  [
    'connection',
    'wait',
    { live: live({ state: '2' }) },
    "the backend is InitWait, though all is in place: the kernel has not connected to the guest's driver yet",
    'see the kernel log of this domain: dmesg | grep vif',
  ],
  [
    'carrier',
    'wait',
    { statistics: statistics({ carrier: false }) },
    'vif5.0 has no carrier: the guest gives no receive buffers',
    'bring the interface up inside the guest',
  ],
  ['carrier', 'note', { statistics: undefined }, 'counters and carrier cannot be read', 'install iproute2'],
  [
    'forwarding',
    'wait',
    { statistics: statistics({ bridgePortState: 'learning' }) },
    'br0 does not forward packets of this port yet: it is learning',
    'that is STP or the forward delay; without loops: ip link set br0 type bridge stp_state 0 forward_delay 0',
  ],
  [
    'uplink',
    'note',
    { bridge: { ...BRIDGE, ports: [aLink('lan', { alias: 'vif5.0' }), aLink('wan', { parentDev: 'vif-6-0' })] } },
    'br0 has no port but vifs: guests reach each other and this domain only',
    'if they are to reach further: ip link set NIC master br0',
  ],
];

describe.each(CASES)('%s: %s', (station, verdict, spoilt, says, remedy) => {
  const accounts = explain(seen(spoilt));
  const found = accounts.find((account) => account.station === station);

  test(says, () => {
    expect(found).toMatchObject({ verdict, says, remedy });
  });
  test('is the only thing that is said', () => {
    expect(accounts.filter((account) => account.verdict !== 'ok')).toEqual([found]);
    if (verdict !== 'note') expect(accounts.at(-1)).toBe(found);
  });
});

test('every station has a case', () => {
  expect(new Set(CASES.map(([station]) => station))).toEqual(new Set(STATIONS.map(({ name }) => name)));
});
