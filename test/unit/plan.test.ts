import { describe, expect, test } from 'vitest';
import { type Config, DEFAULTS } from '../../src/config/schema.js';
import { NO_VLANS, type PortVlans } from '../../src/network/bridge-vlan.js';
import { NO_FEATURES } from '../../src/network/ethtool.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { parseBackend } from '../../src/vif/backend.js';
import { describeStep, isOwnLink, type Observed, type Place, planVif } from '../../src/vif/plan.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { parseVlans } from '../../src/vif/vlan.js';

const nodes = {
  frontend: '/local/domain/5/device/vif/0',
  'frontend-id': '5',
  script: '/etc/xen/scripts/vif-bridge',
  bridge: 'br0',
  handle: '0',
  type: 'vif',
};
const wanted = (more: Record<string, string> = {}, config: Config = DEFAULTS) =>
  resolveAttachment(parseBackend({ domid: 5, devid: 0 }, new Map(Object.entries({ ...nodes, ...more }))), config);

/** The interface as netback of Linux 6.1 makes it. */
const fresh: Link = {
  ifindex: 7,
  ifname: 'vif5.0',
  up: false,
  address: 'fe:ff:ff:ff:ff:ff',
  mtu: 1500,
  txqlen: 1000,
  master: 0,
  kind: '',
  alias: '',
  port: undefined,
  lower: 0,
  vlanFiltering: false,
  parentDev: 'vif-5-0',
  addrGenMode: 0,
};
const bridge: Link = { ...fresh, ifindex: 3, ifname: 'br0', kind: 'bridge', parentDev: '', up: true };
const wants = (...names: string[]) => ({ ...NO_FEATURES, wanted: new Set(names) });
const checksums = wants('tx-checksum-ipv4', 'tx-checksum-ipv6', 'tx-scatter-gather');
const attached: Link = { ...fresh, up: true, master: 3, addrGenMode: 1 };
const onBridge = (vlans: PortVlans = NO_VLANS, more: Partial<Link> = {}): Place => ({
  mode: 'bridge',
  bridge: { ...bridge, ...more },
  vlans,
});
const plan = (seen: Partial<Observed>, more?: Record<string, string>) =>
  planVif(wanted(more), {
    link: attached,
    place: onBridge(),
    addresses: [],
    features: wants('tx-scatter-gather'),
    guard: undefined,
    ...seen,
  }).map(describeStep);

test('a fresh vif: checksum offload off, port of the bridge, and up last', () => {
  expect(plan({ link: fresh, features: checksums })).toEqual([
    'off: tx-checksum-ipv4 tx-checksum-ipv6',
    'addrGenMode=1 master=3',
    'up=true',
  ]);
});

test('the port is set before the link is up, and only what was asked for', () => {
  const want = wanted({}, { vif: { isolated: true, priority: 7 }, rules: [] });
  const steps = (link: Partial<Link>) =>
    planVif(want, {
      link: { ...attached, ...link },
      place: onBridge(),
      addresses: [],
      guard: undefined,
      features: NO_FEATURES,
    }).map(describeStep);
  expect(steps({ up: false, master: 0 })).toEqual(['master=3', 'isolated=true priority=7', 'up=true']);
  expect(steps({ port: { isolated: false, learning: false, priority: 7 } })).toEqual(['isolated=true']);
  expect(steps({ port: { isolated: true, learning: false, priority: 7 } })).toEqual([]);
  // The settings of a port of another bridge go with it.
  expect(steps({ master: 99, port: { isolated: true, priority: 7 } })).toEqual([
    'up=false', // not for a moment in there without it
    'master=3',
    'isolated=true priority=7',
    'up=true',
  ]);
});

test('the VLANs are set before the link is up, and again when they are others', () => {
  const want = wanted({ vlan: '10p/20' });
  const steps = (link: Partial<Link>, vlan: string) =>
    planVif(want, {
      link: { ...attached, ...link },
      place: onBridge(parseVlans(vlan)),
      addresses: [],
      guard: undefined,
      features: NO_FEATURES,
    }).map(describeStep);
  expect(steps({ up: false, master: 0 }, '')).toEqual(['master=3', 'vlan=10p/20', 'up=true']);
  expect(steps({}, '1')).toEqual(['vlan=10p/20']);
  expect(steps({}, '10p/20')).toEqual([]);
  expect(steps({}, '10u/20')).toEqual(['vlan=10p/20']);
  // Those of a port of another bridge go with it.
  expect(steps({ master: 99 }, '10p/20')).toEqual(['up=false', 'master=3', 'vlan=10p/20', 'up=true']);
});

test('offloads by name: off, on, and kept', () => {
  const want = wanted({}, { vif: { txChecksum: 'on', tso: 'off', gro: 'keep' }, rules: [] });
  const features = {
    wanted: new Set(['tx-tcp-segmentation', 'rx-gro']),
    unwanted: new Set(['tx-checksum-ipv4']),
    active: new Set<string>(),
  };
  const seen = { link: attached, place: onBridge(), addresses: [], guard: undefined };
  expect(planVif(want, { ...seen, features }).map(describeStep)).toEqual([
    'off: tx-tcp-segmentation, on: tx-checksum-ipv4',
  ]);
  const done = { ...features, wanted: new Set(['tx-checksum-ipv4']), unwanted: new Set(['tx-tcp-segmentation']) };
  expect(planVif(want, { ...seen, features: done })).toEqual([]);
});

test('an attached vif needs nothing', () => expect(plan({})).toEqual([]));

describe('what drifted is repaired, and only that', () => {
  const address = { ifindex: 7, family: 2, prefixLength: 24, bytes: Uint8Array.of(192, 0, 2, 1) };
  test.each<[string, Partial<Observed>, string[], Record<string, string>?]>([
    ['out of the bridge', { link: { ...attached, master: 0 } }, ['master=3']],
    ['in another bridge', { link: { ...attached, master: 99 } }, ['master=3']],
    ['down', { link: { ...attached, up: false } }, ['up=true']],
    ['queue length of old kernels', { link: { ...attached, txqlen: 32 } }, ['txqlen=1000']],
    ['offload on again', { features: checksums }, ['off: tx-checksum-ipv4 tx-checksum-ipv6']],
    ['an address', { addresses: [address] }, ['address removed']],
    ['the MTU that dom0 wrote', {}, ['mtu=9000'], { mtu: '9000' }],
    [
      'a MAC: only while it is down',
      { link: { ...attached, address: '02:00:00:00:00:01' } },
      ['up=false', 'address=fe:ff:ff:ff:ff:ff', 'up=true'],
    ],
  ])('%s', (_, seen, steps, more) => expect(plan(seen, more)).toEqual(steps));
});

test('the MTU is set before the link joins the bridge', () => {
  expect(plan({ link: fresh }, { mtu: '1400' })).toEqual(['mtu=1400', 'addrGenMode=1 master=3', 'up=true']);
});

test('the bridge’s MTU is taken when the link joins, and not followed afterwards', () => {
  expect(plan({ link: fresh, place: onBridge(NO_VLANS, { mtu: 9000 }) })).toContain('mtu=9000');
  expect(plan({ place: onBridge(NO_VLANS, { mtu: 1400 }) })).toEqual([]);
});

test('a kernel without IPv6 is not asked for an address mode', () => {
  expect(plan({ link: { ...fresh, addrGenMode: undefined } })).toEqual(['master=3', 'up=true']);
});

describe('vifname', () => {
  const vifname = { vifname: 'wan' };
  test('renames before all else, while the link is down', () => {
    expect(plan({ link: fresh }, vifname)[0]).toBe('ifname=wan alias=vif5.0');
    expect(plan({ link: attached }, vifname)).toEqual(['up=false', 'ifname=wan alias=vif5.0', 'up=true']);
  });
  test('is done once', () =>
    expect(plan({ link: { ...attached, ifname: 'wan', alias: 'vif5.0' } }, vifname)).toEqual([]));

  test.each<[boolean, Partial<Link>]>([
    [true, { parentDev: 'vif-5-0' }],
    [false, { parentDev: 'vif-4-0' }],
    [true, { parentDev: '', alias: 'vif5.0' }],
    [false, { parentDev: '', alias: 'vif4.0' }],
    [false, { parentDev: '', alias: '' }], // a tunnel or VLAN of the host's own
  ])('ours is %s for a link named wan with %o', (ours, link) => {
    expect(isOwnLink(wanted(vifname), { ...attached, ifname: 'wan', ...link })).toBe(ours);
  });
});

describe('the names of scripts that say what they want', () => {
  const config = { vif: { qlen: 50, txChecksum: 'keep' }, rules: [] } as const;
  test.each([
    ['vif-bridge', 50, false],
    ['vif-vifd', 50, false],
    ['vif-bridge_qlen', 1000, false],
    ['vif-bridge_TxOff', 50, true],
  ])('%s, whatever the configuration says', (name, txqlen, off) => {
    const script = `/etc/xen/scripts/${name}`;
    const backend = parseBackend({ domid: 5, devid: 0 }, new Map(Object.entries({ ...nodes, script })));
    expect(resolveAttachment(backend, config)).toMatchObject({ txqlen, offloads: off ? { txChecksum: false } : {} });
  });
});

describe('the mode', () => {
  const mode = (script: string, config: Config = DEFAULTS) =>
    wanted({ script: `/etc/xen/scripts/${script}` }, config).mode;
  test('a script that nobody knows is an error that says what to do', () => {
    expect(() => mode('my-vif-bridge_qlen')).toThrow(
      expect.objectContaining({
        message: 'script "my-vif-bridge_qlen" is none that vifd knows',
        hint: 'write another into the guest\'s vif line, such as script=vif-bridge; or say here how such vifs are connected: [rule.NAME] with match.script = "my-vif-bridge_qlen" and mode = "bridge"; or which file of this domain it is: [script.my-vif-bridge_qlen] with file = "/etc/xen/scripts/my-vif-bridge_qlen"',
      }),
    );
  });
  test('unless the configuration says how such vifs are connected', () => {
    expect(mode('vif-mine', { vif: { mode: 'bridge' }, rules: [] })).toBe('bridge');
    const rule = { name: 'mine', matchScript: 'vif-m*', mode: 'bridge' } as const;
    expect(mode('vif-mine', { vif: {}, rules: [rule] })).toBe('bridge');
    expect(() => mode('other', { vif: {}, rules: [rule] })).toThrow('script "other" is none that vifd knows');
  });
});
