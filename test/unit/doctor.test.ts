/** Each check of `vifd doctor`: one machine that makes it say so, and a healthy one that keeps it silent. */
import { describe, expect, test } from 'vitest';
import { type Check, examine, formatFindings, type Severity } from '../../src/doctor/finding.js';
import type { Machine } from '../../src/doctor/machine.js';
import { NETWORK_CHECKS } from '../../src/doctor/network-checks.js';
import { formatObservers } from '../../src/doctor/own-network.js';
import { parseIptablesPolicy, parseNftChains } from '../../src/doctor/policies.js';
import { matchesVif } from '../../src/doctor/unit-file.js';
import { XEN_CHECKS } from '../../src/doctor/xen-checks.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { aLink, backend, live, seen } from './vif-seen.js';

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
  hasDnsmasq: true,
  running: new Set(['systemd']),
  files: noFiles,
  bridgeFilter: { iptables: true, ip6tables: true, dropping: [] },
  forwards: { ipv4: true, ipv6: true },
  programs: [VIFD],
  netback: 'loaded',
  observes: false,
  asksForVifs: false,
  own: [],
};

const examined = (more: Partial<Machine>) => examine({ ...HEALTHY, ...more }, CHECKS);
const file = (path: string, text: string) => [{ path, text }];
const files = (more: Partial<Machine['files']>): Partial<Machine> => ({ files: { ...noFiles, ...more } });
const withLinks = (...links: Link[]): Partial<Machine> => ({ links });
const dropping = (family: string, more: Partial<Machine['bridgeFilter']> = {}): Partial<Machine> => ({
  bridgeFilter: { ...HEALTHY.bridgeFilter, dropping: [{ family, table: 'filter', chain: 'FORWARD' }], ...more },
});
const manyVifs = (count: number) => Array.from({ length: count }, () => seen());
const routedVif = seen({
  want: resolveAttachment(backend({ ip: '192.0.2.7' }), { vif: { mode: 'routed' }, rules: [] }),
});
const servedVif = seen({
  want: resolveAttachment(backend({ ip: '192.0.2.7' }), { vif: { mode: 'nat', dhcp: true }, rules: [] }),
});
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
  expect(findings.map(({ message }) => message)).toEqual(
    expect.arrayContaining([
      'this machine runs under Xen',
      'xenstore answers on /dev/xen/xenbus',
      'this is domain 1',
      'xen-netback is loaded',
      'vifd run (pid 77) runs',
      'the configuration files are valid',
      'no udev rule attaches vifs',
      'this domain owns 40 xenstore nodes with 1 vifs; by default it may own 1000, which leaves room for 40 vifs more',
      'of the vifs here (1) none has failed',
      'the kernel speaks ethtool over netlink',
      'iproute2 is here',
      'br0 has the ports eth0, lan',
      'no policy was found that drops bridged packets',
    ]),
  );
});

test.each<[string, string, Partial<Machine>]>([
  [
    'networkmanager',
    'NetworkManager leaves vifs alone',
    { ...NM_RUNS, ...files({ networkManager: file('a', '[keyfile]\nunmanaged-devices=interface-name:vif*\n') }) },
  ],
  [
    'networkd',
    '05-vif.network keeps networkd off vifs',
    { ...NETWORKD_RUNS, ...files({ networkd: file('05-vif.network', '[Match]\nName=vif*\n[Link]\nUnmanaged=yes\n') }) },
  ],
  ['networkd', 'systemd-networkd has no file for vifs', NETWORKD_RUNS],
  ['bridge', 'br1 has no ports', withLinks({ ...bridge, ifname: 'br1' })],
])('%s: %s', (code, message, more) =>
  expect(examined(more).findings).toContainEqual({ code, severity: 'ok', message, remedy: '' }),
);

/** Code, severity, the machine, what is said, what is to be done. */
const FIRES: [string, Severity, Partial<Machine>, string, string][] = [
  [
    'xen',
    'error',
    { hypervisor: undefined, ...noXenstore },
    '/sys/hypervisor/type is missing: this machine does not run under Xen',
    'run vifd in a Xen driver domain; to see it work here: vifd demo',
  ],
  ['xen', 'warning', { hypervisor: 'kvm' }, '/sys/hypervisor/type is "kvm": no Xen, but a xenstore answers', ''],
  [
    'xenstore',
    'error',
    noXenstore,
    '/dev/xen/xenbus: permission denied: run as root. What needs xenstore (vifs, agents, quotas) was not examined',
    '',
  ],
  [
    'configuration',
    'error',
    { configFault: 'a.toml:3: vif.qlen is "x"' },
    '"a.toml:3: vif.qlen is \\"x\\""; vifs are judged by the defaults here',
    'correct it: vifd does not start with it, and a running one keeps what it had',
  ],
  [
    'domain',
    'warning',
    { xenstore: { ...store, domid: '0' } },
    'this is dom0, where libxl runs the vif scripts itself',
    'run vifd in the driver domain, or make sure that libxl does not (run_hotplug_scripts=0 in xl.conf)',
  ],
  [
    'domain',
    'warning',
    { xenstore: { ...store, domid: undefined } },
    'the node "domid" is missing: this domain does not know its number',
    'vifd works without it',
  ],
  [
    'netback',
    'error',
    { netback: 'missing' },
    'the module xen-netback is not loaded: every vif stays in state 1, and dom0 gives up after 10 s',
    'modprobe xen-netback; echo xen-netback >> /etc/modules-load.d/xen.conf',
  ],
  [
    'netback',
    'error',
    { netback: 'no bus' },
    '/sys/bus/xen-backend is missing: this kernel has no Xen backends',
    'use one with CONFIG_XEN_BACKEND',
  ],
  [
    'own-network',
    'warning',
    { own: [{ table: '[bind.b]', state: 'incomplete', interfaces: ['br0'], lacks: ['net.ipv4.ip_forward is 0'] }] },
    '[bind.b] is incomplete on br0: net.ipv4.ip_forward is 0',
    'see the log of vifd: journalctl -u vifd; a bridge that was put back is tried again at a reload',
  ],
  ['agent', 'warning', { programs: [] }, 'no agent seems to run: new vifs will not be attached', 'vifd run'],
  [
    'agent',
    'warning',
    { programs: [DEVD] },
    'xl devd (pid 88) runs',
    'stop it before vifd run is started: both would attach the same vifs',
  ],
  [
    'agent',
    'error',
    { programs: [VIFD, DEVD] },
    'several agents run: vifd run (pid 77), xl devd (pid 88); they attach the same vifs',
    'stop all but one vifd run',
  ],
  [
    'agent',
    'error',
    { programs: [VIFD, { ...VIFD, pid: 78 }] },
    'several agents run: vifd run (pid 77), vifd run (pid 78); they attach the same vifs',
    'stop all but one vifd run',
  ],
  [
    'udev-rules',
    'warning',
    files({ udevRules: file('/lib/udev/rules.d/xen-backend.rules', UDEV_RULE) }),
    '/lib/udev/rules.d/xen-backend.rules runs a program for each vif (xen-backend), beside the agent',
    'mask it: ln -s /dev/null /etc/udev/rules.d/xen-backend.rules; udevadm control --reload',
  ],
  [
    'ifupdown',
    'warning',
    files({ interfaces: file('/etc/network/interfaces', 'allow-hotplug /vif*\niface vif5.0 inet manual\n') }),
    '/etc/network/interfaces has a stanza for vifs: ifupdown configures them beside the agent',
    'remove it',
  ],
  [
    'node-quota',
    'warning',
    { xenstore: { ...store, nodes: 900 } },
    'this domain owns 900 xenstore nodes with 1 vifs; by default it may own 1000, which leaves room for 4 vifs more',
    'raise it in dom0: xenstore-control quota set nodes 10000 (from Xen 4.17 on, at once); for good: xenstored -E 10000, or quota-maxentity in oxenstored.conf',
  ],
  [
    'watch-quota',
    'warning',
    { vifs: manyVifs(36) },
    'the kernel takes 3 xenstore watches a vif, about 118 in all; by default a domain may have 128 (oxenstored: 100), which leaves room for 3 vifs more',
    'raise it in dom0: xenstore-control quota set watches 1000 (from Xen 4.17 on, at once); for good: xenstored -W 1000, or quota-maxwatch in oxenstored.conf',
  ],
  [
    'silo',
    'warning',
    { vifs: [refused] },
    "no guest has connected, and the drivers of these have given up: 5/0 (Closed). Xen's XSM policy may be SILO, which forbids guests to talk to a driver domain",
    'look for "allocating event channel" in the guest\'s kernel log; in dom0: xl dmesg | grep -i xsm; boot Xen with xsm=dummy',
  ],
  [
    'vif',
    'error',
    { vifs: [seen({ link: undefined })] },
    'vif 5/0: the kernel has made no interface vif5.0',
    'see the kernel log of this domain: dmesg | grep vif (vifd explain 5/0)',
  ],
  [
    'netlink',
    'error',
    { netlinkFault: 'ENOSYS' },
    'the kernel cannot be asked over netlink: ENOSYS',
    'see the README for what vifd needs',
  ],
  [
    'ethtool',
    'error',
    { ethtoolFault: 'no family' },
    'no family',
    'use Linux 5.6 or later, or tx_checksum = "keep" in the configuration',
  ],
  [
    'iproute2',
    'warning',
    { hasIp: false },
    'the program ip is missing, or not iproute2: vifd hears of changes by its periodic look only',
    'install iproute2',
  ],
  [
    'dhcp',
    'warning',
    { hasDnsmasq: false, vifs: [servedVif] },
    'dnsmasq is missing, so the guests of vif5.0 get no address by DHCP',
    'install dnsmasq-base (Debian) or dnsmasq',
  ],
  [
    'dhcp',
    'warning',
    { vifs: [servedVif] },
    'dnsmasq does not run, so the guests of vif5.0 get no address by DHCP',
    'the log of vifd run says why; under systemd it needs the drop-in vifd-dhcp.conf',
  ],
  ['dhcp', 'ok', { vifs: [servedVif], running: new Set(['dnsmasq']) }, 'dnsmasq is here for DHCP', ''],
  [
    'bridge',
    'warning',
    withLinks(eth0),
    'there is no bridge here for vifs to join',
    'ip link add br_lan type bridge && ip link set br_lan up && ip link set NIC master br_lan',
  ],
  [
    'bridge',
    'error',
    withLinks({ ...bridge, up: false }, eth0, vif),
    'br0 has the ports eth0, lan, but is down: no packet passes',
    'ip link set br0 up',
  ],
  [
    'bridge',
    'warning',
    withLinks({ ...bridge, up: false }, eth0),
    'br0 has the ports eth0, but is down: no packet passes',
    'ip link set br0 up',
  ],
  [
    'uplink',
    'warning',
    withLinks(bridge, vif),
    'br0 has no uplink: its guests reach each other and this domain only',
    'if they are to reach further: ip link set NIC master br0',
  ],
  [
    'uplink',
    'warning',
    withLinks(bridge, aLink('vif5.0', { master: 3 })),
    'br0 has no uplink: its guests reach each other and this domain only',
    'if they are to reach further: ip link set NIC master br0',
  ],
  [
    'vlan',
    'warning',
    withLinks(bridge, eth0, aLink('eth0.10', { ifindex: 12, kind: 'vlan', lower: eth0.ifindex })),
    'eth0.10 is a VLAN on eth0, which is a port of br0: the packets of this VLAN do not reach the guests of br0',
    'make the VLAN on the bridge: ip link add link br0 name NAME type vlan id N, and move the addresses of eth0.10 there',
  ],
  [
    'mtu',
    'warning',
    withLinks(bridge, { ...eth0, mtu: 9000 }, vif),
    'the ports of br0 have different MTUs (1500 on lan; 9000 on eth0): larger packets are lost between them',
    "give all the same: ip link set NIC mtu N, and mtu=N in the guest's vif line",
  ],
  [
    'br-netfilter',
    'warning',
    dropping('ip'),
    "policy DROP in ip filter FORWARD also meets bridged packets: guests' packets are lost unless a rule accepts them (Docker sets such a policy)",
    'sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0, or accept them by a rule',
  ],
  [
    'br-netfilter',
    'warning',
    dropping('ip6'),
    "policy DROP in ip6 filter FORWARD also meets bridged packets: guests' packets are lost unless a rule accepts them (Docker sets such a policy)",
    'sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0, or accept them by a rule',
  ],
  [
    'br-netfilter',
    'warning',
    dropping('inet'),
    "policy DROP in inet filter FORWARD also meets bridged packets: guests' packets are lost unless a rule accepts them (Docker sets such a policy)",
    'sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0, or accept them by a rule',
  ],
  [
    'br-netfilter',
    'warning',
    dropping('bridge', { iptables: false, ip6tables: false }),
    "policy DROP in bridge filter FORWARD also meets bridged packets: guests' packets are lost unless a rule accepts them (Docker sets such a policy)",
    'sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0, or accept them by a rule',
  ],
  [
    'br-netfilter',
    'warning',
    { bridgeFilter: { iptables: true, ip6tables: undefined, dropping: undefined } },
    'br_netfilter hands bridged packets to iptables, whose FORWARD policy cannot be read',
    'run vifd doctor as root, with nft and iptables installed',
  ],
  [
    'forwarding',
    'error',
    { vifs: [routedVif], forwards: { ipv4: false, ipv6: true } },
    'this domain passes no IPv4 packets on, which vif5.0 needs',
    'sysctl -w net.ipv4.ip_forward=1',
  ],
  [
    'networkmanager',
    'warning',
    NM_RUNS,
    'NetworkManager runs, and nothing tells it to leave vifs alone: it may detach them from their bridge',
    'in /etc/NetworkManager/conf.d/vif.conf: [keyfile] and unmanaged-devices=interface-name:vif*; nmcli general reload',
  ],
  [
    'networkd',
    'warning',
    { ...NETWORKD_RUNS, ...files({ networkd: file('/etc/systemd/network/a.network', '[Match]\nName=*\n') }) },
    '/etc/systemd/network/a.network makes systemd-networkd configure vifs: it may detach them from their bridge',
    'in /etc/systemd/network/05-vif.network: [Match] Name=vif* and [Link] Unmanaged=yes; networkctl reload',
  ],
];

describe.each(FIRES)('%s: %s', (code, severity, more, message, remedy) => {
  test(message, () => {
    const found = examined(more).findings.filter((finding) => finding.code === code);
    expect(found).toContainEqual({ code, severity, message, remedy });
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
  ['watch-quota', 'room enough', { vifs: manyVifs(34) }],
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

describe('where vifd only observes', () => {
  const FAILED = seen({ live: live({ state: '2', 'hotplug-status': 'error', 'hotplug-error': 'no br0' }) });
  const bare: Partial<Machine> = {
    observes: true,
    xenstore: { ...store, domid: '0' },
    netback: 'missing',
    links: [],
    ethtoolFault: 'no family',
    programs: [VIFD, DEVD],
    vifs: [seen({ link: undefined, placeFault: { code: 'X', message: 'no bridge', hint: '' } }), routedVif],
    forwards: { ipv4: false, ipv6: false },
    ...files({ udevRules: file('xen.rules', UDEV_RULE), interfaces: file('interfaces', 'allow-hotplug /vif*\n') }),
  };
  const problems = (more: Partial<Machine>) =>
    examined({ ...bare, ...more }).findings.filter(({ severity }) => severity !== 'ok');

  test('what attaching vifs would need is not missed, nor is who attaches them in the way', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ observes: false }).map(({ code }) => code)).toEqual(
      expect.arrayContaining(['domain', 'netback', 'agent', 'udev-rules', 'ifupdown', 'vif', 'ethtool', 'forwarding']),
    );
    expect(problems(withLinks(bridge, vif))).toEqual([]); // the firewall's vif is the uplink
  });

  test.each<[string, Severity, Partial<Machine>, string]>([
    ['agent', 'warning', { programs: [DEVD] }, 'no vifd seems to run: what [bridge] and [bind] ask for is not seen to'],
    [
      'agent',
      'error',
      { programs: [VIFD, { ...VIFD, pid: 78 }] },
      'several vifd run: vifd run (pid 77), vifd run (pid 78)',
    ],
    [
      'xenstore',
      'error',
      { ...noXenstore, asksForVifs: true },
      '/dev/xen/xenbus: permission denied: run as root. What needs xenstore (vifs, agents, quotas) was not examined',
    ],
    ['vif', 'error', { vifs: [FAILED] }, 'vif 5/0: who attaches vifs here has failed: "no br0"'],
  ])('%s: %s', (code, severity, more, message) =>
    expect(problems(more)).toEqual([expect.objectContaining({ code, severity, message })]),
  );

  test('without xenstore, where nothing asks it', () => expect(problems(noXenstore)).toEqual([]));

  test('what is said instead', () => {
    const said = (more: Partial<Machine>) => examined({ ...bare, ...more }).findings.map(({ message }) => message);
    expect(said({})).toEqual(
      expect.arrayContaining([
        'this is dom0, where vifd only observes: the toolstack attaches the vifs',
        'vifd run (pid 77) runs and only observes',
      ]),
    );
    expect(said(noXenstore)).toContain(
      'xenstore does not answer; vifd only observes here, and no binding has when.vif, which would need it',
    );
    expect([formatObservers([VIFD, DEVD]), formatObservers([])]).toEqual([
      'vifd run (pid 77) runs here and only observes (agent.mode = "observe"): vifs are attached by others, as xl devd (pid 88)',
      'no vifd seems to run here; it would only observe (agent.mode = "observe"): vifs are attached by others',
    ]);
  });
});

test('bridges and bindings of this domain', () => {
  const own = [
    { table: '[bridge.br0]', state: 'in force', interfaces: ['br0'], lacks: [] },
    { table: '[bind.a]', state: 'waiting', interfaces: [], lacks: ['for vif0.0'] },
    { table: '[bind.b]', state: 'incomplete', interfaces: ['br0'], lacks: ['net.ipv4.ip_forward is 0'] },
  ] as const;
  const said = (more: Partial<Machine>) =>
    examined({ own, ...more })
      .findings.filter(({ code }) => code === 'own-network')
      .map(({ severity, message, remedy }) => [severity, message, remedy]);
  expect(said({})).toEqual([
    ['ok', '[bridge.br0] is in force on br0', ''],
    ['ok', '[bind.a] is waiting for vif0.0', ''],
    [
      'warning',
      '[bind.b] is incomplete on br0: net.ipv4.ip_forward is 0',
      'see the log of vifd: journalctl -u vifd; a bridge that was put back is tried again at a reload',
    ],
  ]);
  expect(said({ programs: [] })[2]?.[2]).toBe('vifd run');
});

describe('the worst finding decides', () => {
  test.each<[Severity, Partial<Machine>]>([
    ['ok', {}],
    ['warning', { programs: [] }],
    ['error', { netback: 'missing', programs: [] }],
  ])('%s', (worst, more) => expect(examined(more).worst).toBe(worst));
});

test('the lines are ASCII and fit, and end with the sum', () => {
  const lines = formatFindings(examined({ programs: [], netback: 'missing' }), 80);
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
