/** Routed vifs: what is wanted, which steps lead there, and what is said of them. */

import { execFileSync, spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Config } from '../../src/config/schema.js';
import { examine } from '../../src/doctor/finding.js';
import type { Machine } from '../../src/doctor/machine.js';
import { NETWORK_CHECKS } from '../../src/doctor/network-checks.js';
import { NO_FEATURES } from '../../src/network/ethtool.js';
import { headOf, linesFor, TABLES } from '../../src/network/guard-table.js';
import { type Prefix, parsePrefix } from '../../src/network/prefix.js';
import type { SeenRoute, SourceRule } from '../../src/network/routes.js';
import type { Link, LinkAddress } from '../../src/network/rtnetlink.js';
import type { RoutedAttachment } from '../../src/vif/attachment.js';
import { parseBackend } from '../../src/vif/backend.js';
import { explain } from '../../src/vif/explanation.js';
import { describeStep, planVif } from '../../src/vif/plan.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { formatStatus, reportStatus } from '../../src/vif/report.js';
import { findGateways, proxiedAddresses, type RoutedPlace } from '../../src/vif/routed.js';
import { aLink, NODES, seen } from './vif-seen.js';

const prefix = (text: string) => parsePrefix(text) as Prefix;
type Vif = { domid?: number; devid?: number; config?: Config['vif'] } & Record<string, unknown>;

const described = ({ domid = 5, devid = 0, config: _, ...nodes }: Vif = {}) =>
  parseBackend(
    { domid, devid },
    new Map(
      Object.entries({
        ...NODES,
        script: '/etc/xen/scripts/vif-route',
        ip: '192.0.2.7 2001:db8::7',
        frontend: `/local/domain/${domid}/device/vif/${devid}`,
        'frontend-id': String(domid),
        handle: String(devid),
        ...(nodes as Record<string, string>),
      }),
    ),
  );
const wanted = (vif: Vif = {}) =>
  resolveAttachment(described(vif), { vif: vif.config ?? {}, rules: [] }) as RoutedAttachment;
const nat = (vif: Vif = {}) => wanted({ script: '/etc/xen/scripts/vif-nat', ip: '', ...vif });

const IP_CONF = {
  ipv4: { forwarding: true, proxyArp: true, rpFilter: 1 },
  ipv6: { forwarding: true, proxyNdp: false, disabled: false },
};
const fresh: Link = aLink('vif5.0', {
  up: false,
  parentDev: 'vif-5-0',
  addrGenMode: 0,
  ipv4: { forwarding: false, proxyArp: false, rpFilter: 0 },
  ipv6: { forwarding: true, proxyNdp: false, disabled: false },
});
const settled: Link = { ...fresh, ...IP_CONF, up: true, addrGenMode: 1 };
const eth0 = aLink('eth0', { ifindex: 2, ...IP_CONF });
const GATEWAYS = [
  { family: 'ipv4', address: '192.0.2.1', length: 32 },
  { family: 'ipv6', address: 'fe80::1', length: 64 },
] as const;
const place = (more: Partial<RoutedPlace> = {}): RoutedPlace => ({
  mode: 'routed',
  gateways: GATEWAYS,
  uplink: eth0,
  proxied: [],
  routes: [],
  rules: [],
  proxies: [],
  masquerade: undefined,
  forwards: { ipv4: true, ipv6: true },
  ...more,
});
const route = (destination: string, more: Partial<SeenRoute> = {}): SeenRoute => ({
  destination: prefix(destination),
  ifindex: settled.ifindex,
  metric: destination.includes(':') ? 1024 : 0,
  table: 254,
  protocol: 118,
  ...(!destination.includes(':') && { source: '192.0.2.1' }),
  ...more,
});
const ROUTES = [route('192.0.2.7'), route('2001:db8::7')];
const address = (text: string): LinkAddress => {
  const { family, length } = prefix(text);
  const bytes =
    family === 'ipv4' ? [192, 0, 2, 1] : [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, Number(text.slice(6, 7))];
  return {
    ifindex: settled.ifindex,
    family: family === 'ipv4' ? 2 : 10,
    prefixLength: length,
    bytes: Uint8Array.from(bytes),
  };
};
const ADDRESSES = [address('192.0.2.1/32'), address('fe80::1/64')];

describe('the steps', () => {
  const plan = (want: RoutedAttachment, link: Link, at: RoutedPlace, addresses: LinkAddress[] = []) =>
    planVif(want, { link, addresses, features: NO_FEATURES, guard: want.guard?.chain, place: at }).map(describeStep);

  test('a fresh vif: set, up, then addresses and routes', () =>
    expect(plan(wanted(), fresh, place())).toEqual([
      'addrGenMode=1 forwarding=true proxyArp=true rpFilter=1',
      'up=true',
      'address 192.0.2.1',
      'address fe80::1',
      'route 192.0.2.7/32',
      'route 2001:db8:0:0:0:0:0:7/128',
    ]));
  test('guarded before all else', () =>
    expect(
      planVif(wanted(), { link: fresh, addresses: [], features: NO_FEATURES, guard: undefined, place: place() })[0],
    ).toMatchObject({ do: 'set-guard', table: 'inet', required: false }));
  test('nothing when all is in place', () =>
    expect(plan(wanted(), settled, place({ routes: ROUTES }), ADDRESSES)).toEqual([]));
  test('a route that another program made alike is as good', () =>
    expect(
      plan(wanted(), settled, place({ routes: ROUTES.map((one) => ({ ...one, protocol: 4 })) }), ADDRESSES),
    ).toEqual([]));
  test('out of the bridge that it is in', () =>
    expect(plan(wanted(), { ...settled, master: 3 }, place({ routes: ROUTES }), ADDRESSES)).toEqual(['master=0']));
  test('an address too many goes, one that is no more the gateway with its route', () => {
    const want = wanted({ config: { gateway: ['192.0.2.1'] } });
    const routes = [route('192.0.2.7', { source: '192.0.2.9' }), route('2001:db8::7'), route('192.0.2.8')];
    expect(plan(want, settled, place({ routes }), [...ADDRESSES, address('fe80::2/64')])).toEqual([
      'address removed',
      'no route 192.0.2.7/32',
      'no route 192.0.2.8/32',
      'route 192.0.2.7/32',
    ]);
  });
  test('routes of others on the vif, and ours elsewhere, stay', () => {
    const others = [route('198.51.100.0/24', { protocol: 4 }), route('192.0.2.99', { ifindex: 99 })];
    expect(plan(wanted(), settled, place({ routes: [...ROUTES, ...others] }), ADDRESSES)).toEqual([]);
  });
  test('what goes down loses its routes and its IPv6 addresses', () =>
    expect(plan(wanted({ vifname: 'lan' }), settled, place({ routes: ROUTES }), ADDRESSES)).toEqual([
      'up=false',
      'ifname=lan alias=vif5.0',
      'up=true',
      'address fe80::1',
      'route 192.0.2.7/32',
      'route 2001:db8:0:0:0:0:0:7/128',
    ]));
  test.each([undefined, { forwarding: false, proxyNdp: false, disabled: true }])('IPv6 is off: %j', (ipv6) =>
    expect(
      plan(wanted(), { ...settled, ipv6 }, place({ routes: [route('192.0.2.7')] }), [address('192.0.2.1/32')]),
    ).toEqual([]),
  );
  test('a source table: rules, once', () => {
    const want = wanted({ ip: '192.0.2.7', config: { sourceTable: 100 } });
    const at = place({ gateways: [GATEWAYS[0]], routes: [route('192.0.2.7')] });
    const rules = [
      { from: prefix('192.0.2.7'), table: 254, priority: 11800, skipDefault: true },
      { from: prefix('192.0.2.7'), table: 100, priority: 11801 },
    ];
    expect(plan(want, settled, at, [address('192.0.2.1/32')])).toEqual([
      'rule from 192.0.2.7/32 table 254',
      'rule from 192.0.2.7/32 table 100',
    ]);
    expect(plan(want, settled, { ...at, rules }, [address('192.0.2.1/32')])).toEqual([]);
  });
  test('another source table, or none: the old rules go', () => {
    const old = [
      { from: prefix('192.0.2.7'), table: 254, priority: 11800, skipDefault: true },
      { from: prefix('192.0.2.7'), table: 100, priority: 11801 },
    ];
    const others = [
      { from: prefix('192.0.2.7'), table: 9, priority: 50 },
      { ...old[1], from: prefix('192.0.2.8') },
    ];
    const at = place({
      gateways: [GATEWAYS[0]],
      routes: [route('192.0.2.7')],
      rules: [...old, ...others] as SourceRule[],
    });
    const steps = (config: Config['vif']) =>
      plan(wanted({ ip: '192.0.2.7', config }), settled, at, [address('192.0.2.1/32')]);
    expect(steps({ sourceTable: 101 })).toEqual([
      'no rule from 192.0.2.7/32 table 100',
      'rule from 192.0.2.7/32 table 101',
    ]);
    expect(steps({})).toEqual(['no rule from 192.0.2.7/32 table 254', 'no rule from 192.0.2.7/32 table 100']);
  });
  test('answers on an interface that is no more the uplink go, if they are ours', () => {
    const proxies = [118, 0].map((protocol) => ({ address: '192.0.2.7', ifindex: 3 + protocol, protocol }));
    expect(plan(wanted(), settled, place({ routes: ROUTES, proxies }), ADDRESSES)).toEqual([
      'answers no more for 192.0.2.7 on interface 121',
    ]);
  });
  test('answers on the uplink, once, whoever made them', () => {
    const at = place({ routes: ROUTES, proxied: ['192.0.2.7'] });
    expect(plan(wanted(), settled, at, ADDRESSES)).toEqual(['answers for 192.0.2.7 on eth0']);
    const there = { address: '192.0.2.7', ifindex: 2, protocol: 0 };
    expect(plan(wanted(), settled, { ...at, proxies: [there] }, ADDRESSES)).toEqual([]);
    expect(plan(wanted(), settled, { ...at, proxies: [{ ...there, ifindex: 3 }] }, ADDRESSES)).toHaveLength(1);
  });
  test('without a guard any address that can be answered may send', () =>
    expect(plan(wanted({ config: { guard: 'off' } }), settled, place({ routes: ROUTES }), ADDRESSES)).toEqual([
      'rpFilter=2',
    ]));
  test('NAT: masqueraded before it is up', () => {
    const steps = plan(nat(), fresh, place({ mode: 'nat', gateways: [prefix('10.0.5.128')] }));
    expect(steps.slice(0, 1)).toEqual(['masqueraded']);
    expect(steps.at(-1)).toBe('route 10.0.5.1/32');
  });
  test('MTU: what dom0 says, else 1500', () => {
    const low = { ...settled, mtu: 1400 };
    expect(plan(wanted(), low, place({ routes: ROUTES }), ADDRESSES)).toEqual(['mtu=1500']);
    expect(plan(wanted({ mtu: '1400' }), low, place({ routes: ROUTES }), ADDRESSES)).toEqual([]);
  });
});

describe('the addresses', () => {
  const addresses = (vif: Vif) => wanted(vif).addresses.map(({ address: one, length }) => `${one}/${length}`);

  test('hosts and networks; one with its network is a host', () =>
    expect(addresses({ ip: '192.0.2.7 192.0.2.9/24 198.51.100.0/28 2001:db8:7::/64 2001:db8::5/64' })).toEqual([
      '192.0.2.7/32',
      '192.0.2.9/32',
      '198.51.100.0/28',
      '2001:db8:7::/64',
      '2001:db8::5/128',
    ]));
  test('one that is named twice is one', () =>
    expect(addresses({ ip: '192.0.2.7 192.0.2.7/32 2001:db8::7 2001:DB8:0::7' })).toEqual([
      '192.0.2.7/32',
      '2001:db8::7/128',
    ]));
  test('whatever stands in ip, gatewaydev and mac, there is an attachment or a sentence, and nft gets only addresses', () => {
    const word = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.string({ maxLength: 20 }),
      fc.constantFrom('192.0.2.7/33', '::/129', '; drop', '10.0.0.1}'),
    );
    const text = fc.oneof(
      fc.array(word, { maxLength: 4 }).map((words) => words.join(' ')),
      fc.string(),
    );
    fc.assert(
      fc.property(text, text, text, fc.constantFrom('vif-route', 'vif-nat'), (ip, gatewaydev, mac, script) => {
        try {
          const want = wanted({ ip, gatewaydev, mac, script: `/etc/xen/scripts/${script}` });
          const rules = [...(want.guard?.rules ?? []), ...(want.masquerade?.rules ?? [])];
          for (const rule of rules) expect(rule).toMatch(/^[a-z0-9 !={},:./_-]+$/);
          for (const one of want.addresses) expect(parsePrefix(one.address)).toBeDefined();
        } catch (error) {
          expect((error as { code?: string }).code).toMatch(/^E(BADNODE|NATNETWORK)$/);
        }
      }),
    );
  });
  test('of the configuration where dom0 says nothing', () => {
    expect(addresses({ ip: '', config: { ip: ['192.0.2.8'] } })).toEqual(['192.0.2.8/32']);
    expect(addresses({ config: { ip: '192.0.2.8' } })).toEqual(['192.0.2.7/32', '2001:db8::7/128']);
  });
  test('none is an error, and so is a list that cannot be read', () => {
    expect(() => wanted({ ip: '' })).toThrow(
      'node "ip" is missing; expected the addresses that are routed to the vif; or set ip = [...] here',
    );
    expect(() => wanted({ ip: '192.0.2.7,192.0.2.8' })).toThrow('node "ip" is "192.0.2.7,192.0.2.8"; expected IPv4');
    expect(() => nat({ ip: 'nonsense' })).toThrow('node "ip" is "nonsense"; expected IPv4');
  });
  test('the modes by name, script or setting', () => {
    expect([wanted().mode, nat().mode]).toEqual(['routed', 'nat']);
    expect(wanted({ script: '/etc/xen/scripts/vif-bridge', config: { mode: 'routed' } }).mode).toBe('routed');
  });
});

describe('the gateway', () => {
  const gateways = (vif: Vif, own?: string, uplink: Link | undefined = eth0) =>
    findGateways(wanted(vif), uplink, own === undefined ? [] : [prefix(own)]).map(
      ({ address: one, length }) => `${one}/${length}`,
    );

  test('the address of gatewaydev, and fe80::1', () =>
    expect(gateways({}, '192.0.2.1')).toEqual(['192.0.2.1/32', 'fe80::1/64']));
  test('only of the families that the guest has', () => {
    expect(gateways({ ip: '192.0.2.7' }, '192.0.2.1')).toEqual(['192.0.2.1/32']);
    expect(gateways({ ip: '2001:db8::7' })).toEqual(['fe80::1/64']);
  });
  test('as configured', () =>
    expect(gateways({ config: { gateway: ['192.0.2.99', '2001:db8::1'] } })).toEqual([
      '192.0.2.99/32',
      '2001:db8::1/128',
    ]));
  test('none', () => {
    const hint =
      'set gateway to the address that this domain is to have for the guest, such as gateway = "192.0.2.1"; or name the interface to the network: gatewaydev=NAME in the guest\'s vif line';
    const failure = (act: () => unknown) => {
      try {
        act();
      } catch (error) {
        return error;
      }
      return undefined;
    };
    expect(failure(() => findGateways(wanted(), undefined, []))).toMatchObject({
      code: 'ENOGATEWAY',
      message: 'the guest has no gateway: interface "eth0" does not exist',
      hint,
    });
    expect(failure(() => gateways({ gatewaydev: 'wan' }))).toMatchObject({
      message: 'the guest has no gateway: interface "wan" has no IPv4 address',
    });
  });
  test.each<[Vif, string]>([
    [{ ip: '192.0.2.1' }, '192.0.2.1'],
    [{ ip: '192.0.2.9', config: { gateway: '192.0.2.9' } }, '192.0.2.9'],
    [{ ip: '192.0.2.7 fe80::1' }, 'fe80::1'],
  ])("an address of this domain is not the guest's: %j", (vif, own) =>
    expect(() => gateways(vif, '192.0.2.1/24')).toThrow(
      expect.objectContaining({
        message: `${own} cannot be the guest's: it is this domain's own`,
        hint: 'give the vif another address in ip=, or its gateway another by gateway = "..."',
      }),
    ),
  );
  test("answered for are the guest's hosts in the networks of the uplink", () => {
    const networks = ['192.0.2.1/24', '2001:db8::1/64', '198.51.100.1/32'].map(prefix);
    const ip = '192.0.2.7 198.51.100.1 192.0.2.64/28 2001:db8::7 2001:db8:1::7';
    expect(proxiedAddresses(wanted({ ip }), networks)).toEqual(['192.0.2.7', '2001:db8::7']);
    expect(proxiedAddresses(nat({ ip }), networks)).toEqual([]);
  });
});

describe('NAT', () => {
  test('a name that nft would take apart is refused without a guard, too', () =>
    expect(() => nat({ vifname: 'a";}', config: { guard: 'off' } })).toThrow('node "vifname"'));

  test.each([
    [5, 0, '10.0.5.1', '10.0.5.128'],
    [300, 2, '10.1.44.3', '10.1.44.130'],
    [32751, 126, '10.127.239.127', '10.127.239.254'],
  ])('vif %i/%i', (domid, devid, own, gateway) =>
    expect(nat({ domid, devid })).toMatchObject({
      addresses: [{ address: own, length: 32 }],
      gateways: [gateway],
      masquerade: { rules: [`ip saddr ${own}/32 masquerade`] },
    }),
  );
  test('in other networks, of both families', () =>
    expect(
      nat({ config: { natNetwork: ['172.16.0.0/12', 'fd00:5::/64'] } }).addresses.map(({ address: one }) => one),
    ).toEqual(['172.16.5.1', 'fd00:5::5:1']));
  test('an address that is given, with a gateway in its network', () => {
    expect(nat({ ip: '192.168.7.9' })).toMatchObject({
      addresses: [prefix('192.168.7.9')],
      gateways: ['192.168.7.136'],
    });
    expect(nat({ ip: '192.168.7.200' }).gateways).toEqual(['192.168.7.73']);
    expect(nat({ ip: '192.168.7.9', config: { gateway: '192.168.7.1' } }).gateways).toEqual(['192.168.7.1']);
  });
  test('no two vifs have one address, and none that of a gateway', () => {
    const vif = fc.record({ domid: fc.integer({ min: 1, max: 32751 }), devid: fc.nat(126) });
    fc.assert(
      fc.property(vif, vif, (a, b) => {
        const own = (one: Vif) => [nat(one).addresses[0]?.address, ...nat(one).gateways];
        if (a.domid === b.domid && a.devid === b.devid) return;
        expect(own(a).filter((one) => own(b).includes(one))).toEqual([]);
      }),
    );
  });
  test.each([
    [{ devid: 127 }, 'network 10.0.0.0/8 has no address for vif 5/127'],
    [{ domid: 300, config: { natNetwork: '192.168.0.0/16' } }, 'network 192.168.0.0/16 has no address for vif 300/0'],
  ])('%j', (vif, message) => {
    expect(() => nat(vif)).toThrow(
      expect.objectContaining({
        message,
        hint: "give the vif an address by ip=, or set nat_network to a larger one, such as 10.0.0.0/8; it takes a guest's first 127 vifs",
      }),
    );
  });
});

describe('the guard', () => {
  test('"auto" holds a routed vif to what is routed to it, in both families', () => {
    expect(wanted({ ip: '192.0.2.7' }).guard?.rules).toEqual([
      'ether saddr != 00:16:3e:01:02:03 drop',
      'meta protocol ip meta l4proto 17 udp sport 67 drop',
      'meta protocol ip meta l4proto 17 udp dport 68 drop',
      'meta protocol ip6 meta l4proto 17 udp sport 547 drop',
      'meta protocol ip6 meta l4proto 17 udp dport 546 drop',
      'meta protocol ip6 meta l4proto 58 icmpv6 type nd-router-advert drop',
      'meta protocol ip6 meta l4proto 58 icmpv6 type nd-redirect drop',
      'ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept',
      'ip saddr != 192.0.2.7/32 drop',
      'ip6 saddr != fe80:0:0:0:0:0:0:0/10 ip6 saddr != 0:0:0:0:0:0:0:0/128 drop',
    ]);
    expect(wanted({ ip: '2001:db8::7' }).guard?.rules).toContain('meta protocol ip drop');
    expect(nat().guard?.rules).toContain('ip saddr != 10.0.5.1/32 drop');
  });
  test('"mac", "off", guard_ip', () => {
    expect(wanted({ config: { guard: 'mac' } }).guard?.rules.join()).not.toContain('saddr != 192');
    expect(wanted({ config: { guard: 'off' } }).guard).toBeUndefined();
    expect(wanted({ config: { guardIp: '0.0.0.0/0' } }).guard?.rules.join()).not.toContain('ip saddr !=');
  });

  const nft = spawnSync('nft', ['--version']).status === 0 ? undefined : 'skipped: nft is not installed';
  test.skipIf(nft !== undefined)(nft ?? 'nft takes every guard and every masquerade that can be made', () => {
    const any = fc.oneof(fc.ipV4(), fc.ipV6());
    const one = fc.tuple(any, fc.nat(128)).map(([ip, n]) => `${ip}/${ip.includes(':') ? n : n % 33}`);
    const lists = fc.array(fc.uniqueArray(fc.oneof(any, one), { minLength: 1, maxLength: 4 }), {
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(lists, fc.boolean(), (all, loose) => {
        const chains = { inet: new Map<string, string>(), nat: new Map<string, string>() };
        const config = { allowDhcp: loose, allowRouter: loose, gateway: '192.0.2.1' };
        const lines = all.flatMap((words, i) => {
          const { guard, masquerade } = nat({ ip: words.join(' '), config });
          const ifname = `vif${i}.0`;
          return [
            ...linesFor(TABLES.inet, { ifname, guard }, chains.inet, new Set()),
            ...linesFor(TABLES.nat, { ifname, guard: masquerade }, chains.nat, new Set()),
          ];
        });
        const input = [...headOf(TABLES.inet), ...headOf(TABLES.nat), ...lines].join('\n');
        execFileSync('unshare', ['--net', 'nft', '-f', '-'], { input, stdio: ['pipe', 'ignore', 'pipe'] });
      }),
      { numRuns: 25 },
    );
  });
});

describe('what is said', () => {
  const defaults = [
    route('0.0.0.0/0', { gateway: '192.0.2.254', ifindex: 2 }),
    route('::/0', { gateway: 'fe80::9', ifindex: 2 }),
  ];
  const routedSeen = (more: Partial<RoutedPlace> = {}, vif: Vif = {}) =>
    seen({
      backend: described(vif),
      want: wanted(vif),
      link: settled,
      bridge: undefined,
      guard: wanted(vif).guard?.chain,
      addresses: ADDRESSES,
      place: place({ routes: [...ROUTES, ...defaults], ...more }),
    });
  const station = (name: string, ...about: Parameters<typeof routedSeen>) =>
    explain(routedSeen(...about)).find((account) => account.station === name);

  test('explain: what is routed, what to write in the guest, and the way out', () => {
    expect(station('bridge')).toEqual({
      station: 'bridge',
      verdict: 'ok',
      says: "no bridge: 192.0.2.7, 2001:db8::7 routed to the vif; the guest's gateway is 192.0.2.1 and fe80::1",
      remedy:
        'inside a Linux guest: ip addr add 192.0.2.7/32 dev eth0; ip addr add 2001:db8::7/128 dev eth0; ip route add default via 192.0.2.1 dev eth0 onlink; ip -6 route add default via fe80::1 dev eth0 onlink',
    });
    expect(station('bridge', {}, { ip: '2001:db8:7::/64' })?.remedy).toContain(
      'ip addr add 2001:db8:7::1/64 dev eth0;',
    );
    expect(explain(routedSeen()).every(({ verdict }) => verdict === 'ok')).toBe(true);
    expect(station('forwarding')?.says).toBe('this domain passes packets on');
    expect(station('uplink')?.says).toBe('what the guest sends leaves by 192.0.2.254 and fe80::9');
    const ppp = [...ROUTES, ...defaults].map((one) => ({ ...one, gateway: undefined }));
    expect(station('uplink', { routes: ppp }, {})?.says).toBe(
      'what the guest sends leaves by a default route without a gateway and a default route without a gateway',
    );
  });
  test('explain: NAT', () => {
    const want = nat({ ip: '192.0.2.7' });
    const says = explain({ ...routedSeen({ mode: 'nat', masquerade: want.masquerade?.chain }), want });
    expect(says.find(({ station: name }) => name === 'bridge')?.says).toBe(
      "no bridge: 192.0.2.7 routed to the vif, and hidden behind this domain's own; the guest's gateway is 192.0.2.1 and fe80::1",
    );
  });
  test('explain: what is missing', () => {
    const account = explain({ ...routedSeen({ routes: defaults }), addresses: [] }).at(-1);
    expect(account).toMatchObject({
      station: 'attachment',
      verdict: 'wrong',
      says: 'not in force on vif5.0: address 192.0.2.1, address fe80::1, route 192.0.2.7/32, route 2001:db8:0:0:0:0:0:7/128',
    });
  });
  test('explain: forwarding', () => {
    expect(station('forwarding', { forwards: { ipv4: false, ipv6: true } })).toMatchObject({
      verdict: 'note',
      says: 'this domain passes no IPv4 packets on',
      remedy: 'sysctl -w net.ipv4.ip_forward=1',
    });
    expect(
      station('forwarding', {
        proxied: ['2001:db8::7'],
        proxies: [{ address: '2001:db8::7', ifindex: 2, protocol: 118 }],
      }),
    ).toMatchObject({
      verdict: 'note',
      says: "eth0 does not answer for the guest's IPv6 addresses",
      remedy: 'sysctl -w net.ipv6.conf.eth0.proxy_ndp=1',
    });
  });
  test.each<[string, Vif, SeenRoute[], string, string]>([
    [
      'no default route',
      {},
      ROUTES,
      "there is no default route for IPv4: the guest reaches no further than this domain's own networks",
      'if it is to: ip route add default via GATEWAY',
    ],
    [
      'none in its table',
      { ip: '2001:db8::7', config: { sourceTable: 100 } },
      [route('2001:db8::7'), ...defaults],
      "there is no default route for IPv6 in table 100: the guest reaches no further than this domain's own networks",
      'if it is to: ip -6 route add default via GATEWAY table 100',
    ],
  ])('explain: %s', (_, vif, routes, says, remedy) => {
    const rules = [
      { from: prefix('2001:db8::7'), table: 254, priority: 11800, skipDefault: true },
      { from: prefix('2001:db8::7'), table: 100, priority: 11801 },
    ];
    const at = {
      routes,
      ...(vif.ip !== undefined && { rules }),
      ...(vif.ip !== undefined && { gateways: [GATEWAYS[1]] }),
    };
    const own = { ...routedSeen(at, vif), ...(vif.ip !== undefined && { addresses: [address('fe80::1/64')] }) };
    const found = explain(own).find(({ station: name }) => name === 'uplink');
    expect(found).toEqual({ station: 'uplink', verdict: 'note', says, remedy });
  });

  test('status: the mode and the addresses, and no bridge', () => {
    const report = reportStatus([], [routedSeen()]);
    expect(report.vifs[0]).toMatchObject({ mode: 'routed', bridge: null, addresses: ['192.0.2.7', '2001:db8::7'] });
    expect(formatStatus(report, 80).join('\n')).toMatch(
      /5\/0 +vif5\.0 +routed +- +Connected(.|\n)*routed: {2}192\.0\.2\.7 2001:db8::7/,
    );
  });

  const machine = (forwards: Machine['forwards'], vifs = [routedSeen()]): Machine => ({
    hypervisor: 'xen',
    xenstore: { peer: '/dev/xen/xenbus', domid: '1', nodes: 40 },
    links: [eth0, settled],
    netlinkFault: undefined,
    ethtoolFault: undefined,
    configFault: undefined,
    vifs,
    hasIp: true,
    observes: false,
    asksForVifs: false,
    own: [],
    hasDnsmasq: true,
    running: new Set(),
    files: { udevRules: [], interfaces: [], networkManager: [], networkd: [] },
    bridgeFilter: { iptables: undefined, ip6tables: undefined, dropping: [] },
    forwards,
    programs: [],
    netback: 'loaded',
  });
  const findings = (about: Machine) =>
    examine(about, NETWORK_CHECKS).findings.filter(({ code }) => code === 'forwarding' || code === 'bridge');
  test('doctor: forwarding that a routed vif needs, and no bridge that nobody needs', () => {
    expect(findings(machine({ ipv4: true, ipv6: true }))).toEqual([
      expect.objectContaining({ severity: 'ok', message: 'this domain passes on what routed vifs send' }),
    ]);
    expect(
      findings(machine({ ipv4: false, ipv6: false }, [routedSeen({ forwards: { ipv4: false, ipv6: false } })])),
    ).toEqual([
      expect.objectContaining({
        severity: 'error',
        message: 'this domain passes no IPv4 packets on, which vif5.0 needs',
        remedy: 'sysctl -w net.ipv4.ip_forward=1',
      }),
      expect.objectContaining({
        message: 'this domain passes no IPv6 packets on, which vif5.0 needs',
        remedy:
          "sysctl -w net.ipv6.conf.all.forwarding=1, and where the domain's own address comes by router advertisements net.ipv6.conf.eth0.accept_ra=2 before it",
      }),
    ]);
    // IPv4 asks the interface: all off and these two on is enough, and all on but the uplink is not.
    expect(findings(machine({ ipv4: false, ipv6: true }))).toEqual([expect.objectContaining({ severity: 'ok' })]);
    const uplink = { ...eth0, ipv4: { ...IP_CONF.ipv4, forwarding: false } };
    expect(findings(machine({ ipv4: true, ipv6: true }, [routedSeen({ uplink })]))).toEqual([
      expect.objectContaining({
        severity: 'error',
        message: 'eth0 passes no IPv4 packets on, so no answers reach vif5.0',
        remedy: 'sysctl -w net.ipv4.conf.eth0.forwarding=1',
      }),
    ]);
    expect(findings(machine({ ipv4: false, ipv6: false }, [])).map(({ code }) => code)).toEqual(['bridge']);
  });
});
