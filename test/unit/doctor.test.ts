/** Each check of `vifd doctor`: one machine that makes it say so, and a healthy one that keeps it silent. */
import { describe, expect, test } from 'vitest';
import { type Check, examine, formatFindings, type Severity } from '../../src/doctor/finding.js';
import type { Machine } from '../../src/doctor/machine.js';
import { NETWORK_CHECKS } from '../../src/doctor/network-checks.js';
import { parseIptablesPolicy, parseNftChains } from '../../src/doctor/policies.js';
import { matchesVif } from '../../src/doctor/unit-file.js';
import { XEN_CHECKS } from '../../src/doctor/xen-checks.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { aLink, live, seen } from './vif-seen.js';

const CHECKS: readonly Check[] = [...XEN_CHECKS, ...NETWORK_CHECKS];

const VIFD = { pid: 77, command: 'vifd run' } as const;
const DEVD = { pid: 88, command: 'xl devd' } as const;
const bridge = aLink('br0', { ifindex: 3, kind: 'bridge' });
const eth0 = aLink('eth0', { ifindex: 2, master: 3 });
const vif = aLink('lan', { ifindex: 8, master: 3, parentDev: 'vif-5-0' });
const store = { peer: '/dev/xen/xenbus', domid: '1', nodes: 40 };
const noFiles = { udevRules: [], interfaces: [], networkManager: [], networkd: [] };

const HEALTHY: Machine = {
  hypervisor: 'xen',
  xenstore: store,
  links: [aLink('lo', { ifindex: 1 }), eth0, bridge, vif],
  netlinkFault: undefined,
  ethtoolFault: undefined,
  configFault: undefined,
  vifs: [seen()],
  hasIp: true,
  running: new Set(['systemd']),
  files: noFiles,
  bridgeFilter: { iptables: true, ip6tables: true, dropping: [] },
  programs: [VIFD],
  netback: 'loaded',
};

const examined = (more: Partial<Machine>) => examine({ ...HEALTHY, ...more }, CHECKS);
const file = (path: string, text: string) => [{ path, text }];
const files = (more: Partial<Machine['files']>): Partial<Machine> => ({ files: { ...noFiles, ...more } });
const withLinks = (...links: Link[]): Partial<Machine> => ({ links });
const dropping = (family: string, more: Partial<Machine['bridgeFilter']> = {}): Partial<Machine> => ({
  bridgeFilter: { ...HEALTHY.bridgeFilter, dropping: [{ family, table: 'filter', chain: 'FORWARD' }], ...more },
});
const manyVifs = (count: number) => Array.from({ length: count }, () => seen());
const NM_RUNS = { running: new Set(['NetworkManager']) };
const NETWORKD_RUNS = { running: new Set(['systemd-network']) };
const refused = seen({ live: live({ state: '2' }), frontend: { state: '6', mtu: undefined } });
const noXenstore = { xenstore: { code: 'EACCES', message: '/dev/xen/xenbus: permission denied: run as root' } };
const UDEV_RULE =
  '# no\nSUBSYSTEM=="xen-backend", KERNEL=="vif*", \\\n  RUN+="/etc/xen/scripts/vif-setup $env{ACTION}"\n';

test('a healthy machine: every check that says something says ok, without a remedy', () => {
  const { worst, findings } = examined({});
  expect(findings.filter(({ severity, remedy }) => severity !== 'ok' || remedy !== '')).toEqual([]);
  expect(worst).toBe('ok');
});

/** Code, severity, the machine, what is said, what is to be done. */
const FIRES: [string, Severity, Partial<Machine>, RegExp, RegExp][] = [
  ['xen', 'error', { hypervisor: undefined, ...noXenstore }, /type is missing: .*not run under Xen/, /vifd demo/],
  ['xen', 'warning', { hypervisor: 'kvm' }, /type is "kvm": no Xen, but a xenstore answers/, /^$/],
  ['xenstore', 'error', noXenstore, /permission denied: run as root.*not examined$/, /^$/],
  ['configuration', 'error', { configFault: 'a.toml:3: vif.qlen is "x"' }, /a\.toml:3.*defaults/, /^correct it/],
  ['domain', 'warning', { xenstore: { ...store, domid: '0' } }, /this is dom0/, /run_hotplug_scripts=0/],
  ['domain', 'warning', { xenstore: { ...store, domid: undefined } }, /"domid" is missing/, /works without/],
  [
    'netback',
    'error',
    { netback: 'missing' },
    /not loaded: every vif stays in state 1.*10 s/,
    /^modprobe xen-netback;/,
  ],
  ['netback', 'error', { netback: 'no bus' }, /no Xen backends/, /CONFIG_XEN_BACKEND/],
  ['agent', 'warning', { programs: [] }, /no agent seems to run/, /^vifd run$/],
  ['agent', 'warning', { programs: [DEVD] }, /xl devd \(pid 88\) runs/, /stop it before vifd run/],
  ['agent', 'error', { programs: [VIFD, DEVD] }, /vifd run \(pid 77\), xl devd \(pid 88\)/, /stop all but one/],
  ['agent', 'error', { programs: [VIFD, { ...VIFD, pid: 78 }] }, /pid 77.*pid 78/, /stop all but one/],
  [
    'udev-rules',
    'warning',
    files({ udevRules: file('/lib/udev/rules.d/xen-backend.rules', UDEV_RULE) }),
    /xen-backend\.rules runs a program/,
    /ln -s \/dev\/null \/etc\/udev\/rules\.d\/xen-backend\.rules/,
  ],
  [
    'ifupdown',
    'warning',
    files({ interfaces: file('/etc/network/interfaces', 'allow-hotplug /vif*\niface vif5.0 inet manual\n') }),
    /\/etc\/network\/interfaces has a stanza/,
    /remove it/,
  ],
  ['node-quota', 'warning', { xenstore: { ...store, nodes: 900 } }, /owns 900 .*room for 4 vifs more/, /quota nodes=/],
  ['watch-quota', 'warning', { vifs: manyVifs(36) }, /about 116 in all.*room for 4 vifs more/, /quota watches=/],
  ['silo', 'warning', { vifs: [refused] }, /given up: 5\/0 \(Closed\)/, /allocating event channel.*xsm=dummy/],
  ['vif', 'error', { vifs: [seen({ link: undefined })] }, /^vif 5\/0: .*no interface vif5\.0/, /vifd explain 5\/0/],
  ['netlink', 'error', { netlinkFault: 'ENOSYS' }, /over netlink: ENOSYS/, /README/],
  ['ethtool', 'error', { ethtoolFault: 'no family' }, /^no family$/, /Linux 5\.6.*tx_checksum/],
  ['iproute2', 'warning', { hasIp: false }, /program ip is missing/, /install iproute2/],
  ['bridge', 'warning', withLinks(eth0), /no bridge here/, /type bridge/],
  [
    'bridge',
    'error',
    withLinks({ ...bridge, up: false }, eth0, vif),
    /br0 has the ports eth0, lan, but is down/,
    /ip link set br0 up/,
  ],
  ['bridge', 'warning', withLinks({ ...bridge, up: false }, eth0), /is down/, /ip link set br0 up/],
  ['uplink', 'warning', withLinks(bridge, vif), /br0 has no uplink/, /master br0/],
  [
    'vlan',
    'warning',
    withLinks(bridge, eth0, aLink('eth0.10', { ifindex: 12, kind: 'vlan', lower: eth0.ifindex })),
    /^eth0\.10 is a VLAN on eth0, which is a port of br0/,
    /link br0 name NAME type vlan/,
  ],
  ['uplink', 'warning', withLinks(bridge, aLink('vif5.0', { master: 3 })), /br0 has no uplink/, /master br0/],
  [
    'mtu',
    'warning',
    withLinks(bridge, { ...eth0, mtu: 9000 }, vif),
    /br0 .*\(1500 on lan; 9000 on eth0\)/,
    /ip link set NIC mtu N/,
  ],
  ['br-netfilter', 'warning', dropping('ip'), /policy DROP in ip filter FORWARD/, /bridge-nf-call-iptables=0/],
  ['br-netfilter', 'warning', dropping('ip6'), /policy DROP in ip6 /, /bridge-nf-call-ip6tables=0/],
  ['br-netfilter', 'warning', dropping('inet'), /policy DROP in inet /, /rule/],
  ['br-netfilter', 'warning', dropping('bridge', { iptables: false, ip6tables: false }), /bridge filter/, /rule/],
  [
    'br-netfilter',
    'warning',
    { bridgeFilter: { iptables: true, ip6tables: undefined, dropping: undefined } },
    /cannot be read/,
    /as root/,
  ],
  ['networkmanager', 'warning', NM_RUNS, /NetworkManager runs/, /unmanaged-devices=interface-name:vif\*/],
  [
    'networkd',
    'warning',
    { ...NETWORKD_RUNS, ...files({ networkd: file('/etc/systemd/network/a.network', '[Match]\nName=*\n') }) },
    /a\.network makes systemd-networkd configure vifs/,
    /Unmanaged=yes/,
  ],
];

describe.each(FIRES)('%s: %s', (code, severity, more, message, remedy) => {
  test(`${message}`, () => {
    const found = examined(more).findings.filter((finding) => finding.code === code);
    expect(found).toContainEqual({
      code,
      severity,
      message: expect.stringMatching(message),
      remedy: expect.stringMatching(remedy),
    });
  });
});

test('every check has a machine that makes it fire', () => {
  expect(new Set(FIRES.map(([code]) => code))).toEqual(new Set(CHECKS.map(({ code }) => code)));
});

/** Near misses. */
const SILENT: [string, string, Partial<Machine>][] = [
  ['netback', 'without Xen', { netback: 'no bus', hypervisor: undefined }],
  ['domain', 'without xenstore', noXenstore],
  ['agent', 'without xenstore', { ...noXenstore, programs: [] }],
  ['vif', 'without xenstore', noXenstore],
  ['udev-rules', "vifd's own rule", files({ udevRules: file('a', UDEV_RULE.replace('vif-setup', 'vifd-hotplug')) })],
  ['udev-rules', 'a comment', files({ udevRules: file('a', UDEV_RULE.replace('SUBSYSTEM', '# SUBSYSTEM')) })],
  ['udev-rules', 'no program', files({ udevRules: file('a', 'SUBSYSTEM=="xen-backend", MODE="0660"') })],
  ['ifupdown', 'another interface', files({ interfaces: file('a', 'auto eth0\n# iface vif5.0 inet manual') })],
  ['node-quota', 'dom0', { xenstore: { ...store, domid: '0', nodes: 2000 } }],
  ['node-quota', 'room enough', { xenstore: { ...store, nodes: 880 } }],
  ['watch-quota', 'room enough', { vifs: manyVifs(35) }],
  ['silo', 'another guest has connected', { vifs: [refused, seen()] }],
  ['silo', 'the guest has not booted', { vifs: [seen({ ...refused, frontend: { state: '1', mtu: undefined } })] }],
  ['vif', 'a guest that has not booted', { vifs: [seen({ ...refused, frontend: { state: '1', mtu: undefined } })] }],
  ['mtu', 'ports of two bridges', withLinks(bridge, eth0, aLink('eth1', { mtu: 9000, master: 4 }))],
  ['br-netfilter', 'not loaded', dropping('ip', { iptables: undefined, ip6tables: undefined })],
  ['br-netfilter', 'switched off', dropping('ip', { iptables: false, ip6tables: true })],
  [
    'br-netfilter',
    'not readable, not loaded',
    { bridgeFilter: { iptables: false, ip6tables: false, dropping: undefined } },
  ],
  [
    'networkmanager',
    'told so',
    { ...NM_RUNS, ...files({ networkManager: file('a', '[keyfile]\nunmanaged-devices=mac:1;interface-name:vif*\n') }) },
  ],
  [
    'networkmanager',
    'told so by device',
    {
      ...NM_RUNS,
      ...files({ networkManager: file('a', '[device-x]\nmatch-device=interface-name:vif*\nmanaged=0\n') }),
    },
  ],
  ['networkd', 'not running', files({ networkd: file('a', '[Match]\nName=*\n') })],
  [
    'networkd',
    'told so',
    {
      ...NETWORKD_RUNS,
      ...files({
        networkd: [
          ...file('05-vif.network', '[Match]\nName=vif*\n[Link]\nUnmanaged=yes\n'),
          ...file('80-all.network', '[Match]\nName=*\n'),
        ],
      }),
    },
  ],
];

describe.each(SILENT)('%s keeps silent: %s', (code, _, more) => {
  test('no warning, no error', () => {
    const found = examined(more).findings.filter((finding) => finding.code === code);
    expect(found.filter(({ severity }) => severity !== 'ok')).toEqual([]);
  });
});

test('of NetworkManager, excepted devices and other lists do not count', () => {
  for (const value of ['interface-name:eth*', 'except:interface-name:vif*', 'mac:00:16:3e:01:02:03']) {
    const text = `[keyfile]\nunmanaged-devices=${value}\n`;
    const { findings } = examined({ ...NM_RUNS, ...files({ networkManager: file('a', text) }) });
    expect(findings).toContainEqual(expect.objectContaining({ code: 'networkmanager', severity: 'warning' }));
  }
});

describe('the worst finding decides', () => {
  test.each<[Severity, Partial<Machine>]>([
    ['ok', {}],
    ['warning', { programs: [] }],
    ['error', { netback: 'missing', programs: [] }],
  ])('%s', (worst, more) => expect(examined(more).worst).toBe(worst));
});

test('the lines are ASCII and fit, and end with the sum', () => {
  const lines = formatFindings(examined({ programs: [], netback: 'missing' }));
  expect(lines.at(-1)).toBe('result: errors: 1, warnings: 1');
  expect(lines.filter((line) => line.length > 80 || /[^\x20-\x7e]/.test(line))).toEqual([]);
});

describe('.network files that would take a vif', () => {
  test.each([
    ['Name=vif*', true],
    ['Name=vif5.?', true],
    ['Name=vif[0-9]*', true],
    ['Name=eth* vif*', true],
    ['Name=!eth*', true],
    ['Type=ether', true],
    ['Type=ether\nKind=!*', true],
    ['Name=en*', false],
    ['Name=!vif*', false],
    ['Name=*\nMACAddress=00:16:3e:01:02:03', false],
    ['Type=wlan', false],
    ['Kind=bridge', false],
    ['Name=vif[', false],
    ['', false],
  ])('%s', (match, expected) => expect(matchesVif(`[Match]\n# x\n${match}\n\n[Network]\nDHCP=yes`)).toBe(expected));
});

describe('policies', () => {
  test('nft -j list chains', () => {
    const chain = { family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'drop' };
    const nftables = [
      { metainfo: {} },
      { chain },
      { chain: { ...chain, name: 'INPUT', hook: 'input' } },
      { chain: { ...chain, family: 'ip6', policy: 'accept' } },
      { chain: { family: 'ip', table: 'filter', name: 'DOCKER' } },
    ];
    expect(parseNftChains(JSON.stringify({ nftables }))).toEqual([{ family: 'ip', table: 'filter', chain: 'FORWARD' }]);
    expect(parseNftChains('nft: error')).toBeUndefined();
  });
  test('iptables -S FORWARD', () => {
    expect(parseIptablesPolicy('ip6', '-P FORWARD DROP\n-A FORWARD -j DOCKER\n')).toHaveLength(1);
    expect(parseIptablesPolicy('ip', '-P FORWARD ACCEPT\n')).toEqual([]);
  });
});
