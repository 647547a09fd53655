/** Declared bridges and bindings, decided: what the real kernel is told is in test/netns and test/agent. */
import { describe, expect, test } from 'vitest';
import { type Items, planBindings } from '../../src/binding/plan.js';
import { appearances, forwardedFamilies } from '../../src/binding/wanted.js';
import { type Binding, configOf, type DeclaredBridge } from '../../src/config/schema.js';
import type { Observed } from '../../src/declared/observed.js';
import { planBridge } from '../../src/declared/plan.js';
import { describeStep, type Step, wayBack } from '../../src/declared/step.js';
import { wantedBridge } from '../../src/declared/wanted.js';
import { type Prefix, parsePrefix } from '../../src/network/prefix.js';
import type { SeenRoute } from '../../src/network/routes.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { ensureSysctl } from '../../src/network/sysctl.js';
import type { VifBackend } from '../../src/vif/backend.js';
import { parseVlans } from '../../src/vif/vlan.js';

const named = (table: string, settings: Record<string, unknown>) =>
  configOf(Object.entries(settings).map(([setting, value]) => ({ table, name: 'br', setting, value })));
const bridge = (settings: Record<string, unknown>) =>
  wantedBridge(named('bridge', settings).bridges[0] as DeclaredBridge);
const binding = (settings: Record<string, unknown>) => named('bind', settings).bindings[0] as Binding;
const prefix = (text: string) => parsePrefix(text) as Prefix;

const link = (ifname: string, more: Partial<Link> = {}): Link => ({
  ifindex: [...ifname].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % 100_000,
  ifname,
  up: true,
  address: '02:00:00:00:00:01',
  mtu: 1500,
  txqlen: 1000,
  master: 0,
  kind: '',
  lower: 0,
  vlanFiltering: false,
  alias: '',
  port: undefined,
  parentDev: '',
  addrGenMode: 0,
  ...more,
});
const aBridge = (ifname: string, more: Partial<Link> = {}) =>
  link(ifname, {
    kind: 'bridge',
    bridge: { stp: false, forwardDelay: 15, multicastSnooping: true, vlanFiltering: false },
    ...more,
  });
const seen = (links: Link[], more: Partial<Observed> = {}): Observed => ({
  links,
  addresses: [],
  routes: [],
  vlans: new Map(),
  ...more,
});
const on = (one: Link, text: string, protocol = 0) => ({ ifindex: one.ifindex, prefix: prefix(text), protocol });
const by = (one: Link, to: string, gateway: string | undefined, more: Partial<SeenRoute> = {}): SeenRoute => ({
  destination: prefix(to),
  ifindex: one.ifindex,
  gateway,
  metric: 0,
  table: 254,
  protocol: 3,
  ...more,
});
const words = (steps: readonly Step[]) => steps.map(describeStep);

const br = aBridge('br');
const eth0 = link('eth0');

describe('a declared bridge', () => {
  test('from nothing, with its first card', () => {
    const { steps, atRisk } = planBridge(bridge({ ports: ['eth0'], mtu: 1400, vlan: '1p/10' }), seen([eth0]));
    expect(steps[0]).toMatchObject({ do: 'create-bridge', address: eth0.address });
    expect(words(steps)).toEqual([
      'bridge br made',
      'mtu=1400 on eth0',
      'mtu=1400 on br',
      'br up',
      'eth0 joined br',
      'VLANs of eth0 set',
    ]);
    expect(atRisk).toEqual([]);
  });

  test('as declared: nothing', () => {
    const port = link('eth0', { master: br.ifindex });
    const vlans = parseVlans('1p/10');
    const want = bridge({ ports: 'eth0', vlan: '10/1p', addresses: '2001:db8:0::4/64', stp: false, forward_delay: 15 });
    const there = seen([br, port], {
      addresses: [on(br, '2001:db8::4/64'), on(port, 'fe80::1/64')],
      vlans: new Map(vlans && [[port.ifindex, vlans]]),
    });
    expect(planBridge(want, there)).toEqual({ steps: [], warnings: [], atRisk: [] });
    expect(words(planBridge(bridge({ ports: 'eth0', vlan: '1p' }), there).steps)).toEqual(['VLANs of eth0 set']);
    expect(words(planBridge(bridge({ stp: true, forward_delay: 4 }), there).steps)).toEqual([
      'stp=true forwardDelay=4',
    ]);
  });

  test('an IPv6 gateway that another default route overrules: made and warned of', () => {
    const default6 = (more: Partial<SeenRoute>) => by(eth0, '::/0', 'fe80::9', { metric: 100, ...more });
    const plan = (route: SeenRoute, settings = {}) =>
      planBridge(bridge({ gateway: 'fe80::1', ...settings }), seen([br, eth0], { routes: [route] }));
    const { steps, warnings } = plan(default6({}));
    expect(words(steps)).toEqual(['route 0:0:0:0:0:0:0:0/0 via fe80::1 on br']);
    expect(warnings).toEqual([
      'the route 0:0:0:0:0:0:0:0/0 via fe80::9 metric 100 through eth0 stands in the way of the one in [bridge.br], which has 1024; give that a lower metric',
    ]);
    expect(plan(default6({}), { metric: 200 }).warnings).toEqual([]); // to be behind it
    expect(plan(default6({ table: 100 })).warnings).toEqual([]);
    expect(plan(default6({ protocol: 119 })).warnings).toEqual([]);
    expect(plan(default6({ ifindex: br.ifindex, gateway: 'fe80::1' })).warnings).toEqual([]);
  });

  test("a card's move, and the way back", () => {
    const there = seen([eth0], {
      addresses: [on(eth0, '192.0.2.4/24'), on(eth0, '2001:db8::ff/64', 2), on(eth0, 'fe80::1/64')],
      routes: [
        by(eth0, '0.0.0.0/0', '192.0.2.1'),
        by(eth0, '192.0.2.0/24', undefined, { protocol: 2 }),
        by(eth0, '::/0', 'fe80::9', { protocol: 9 }),
        by(eth0, '198.51.100.1/32', undefined),
        by(link('eth1'), '203.0.113.0/24', undefined),
      ],
    });
    const { steps, atRisk } = planBridge(bridge({ ports: 'eth0', gateway: '192.0.2.1' }), there);
    expect(words(steps)).toEqual([
      'bridge br made',
      'br up',
      '192.0.2.4/24 on br',
      'eth0 joined br',
      'route 0:0:0:0:0:0:0:0/0 via fe80::9 off eth0', // advertised
      'route 0.0.0.0/0 via 192.0.2.1 off eth0',
      'route 198.51.100.1/32 off eth0',
      '192.0.2.4/24 off eth0',
      '2001:db8::ff/64 off eth0',
      'route 198.51.100.1/32 on br',
      'route 0.0.0.0/0 via 192.0.2.1 on br',
    ]);
    expect(atRisk.map(({ gateway }) => gateway)).toEqual(['192.0.2.1', 'fe80::9']);
    expect(words(wayBack(steps))).toEqual([
      'route 0.0.0.0/0 via 192.0.2.1 off br',
      'route 198.51.100.1/32 off br',
      '2001:db8::ff/64 on eth0',
      '192.0.2.4/24 on eth0',
      'route 198.51.100.1/32 on eth0',
      'route 0.0.0.0/0 via 192.0.2.1 on eth0',
      'route 0:0:0:0:0:0:0:0/0 via fe80::9 on eth0',
      'eth0 left br',
      '192.0.2.4/24 off br',
    ]);
  });

  test('a card that is a port already and gets an address: it goes to the bridge, and no gateway is at risk', () => {
    const port = link('eth0', { master: br.ifindex });
    const there = seen([br, port], { addresses: [on(port, '192.0.2.4/24')] });
    const { steps, atRisk } = planBridge(bridge({ ports: 'eth0' }), there);
    expect(words(steps)).toEqual(['192.0.2.4/24 on br', '192.0.2.4/24 off eth0']);
    expect(atRisk).toEqual([]);
  });

  test('no step takes an interface down', () => {
    const all = planBridge(
      bridge({ ports: ['eth0', 'eth1.5'], mtu: 1400 }),
      seen([br, eth0, link('eth1.5', { kind: 'vlan' })]),
    );
    expect(new Set([...all.steps, ...wayBack(all.steps)].map((step) => step.do))).toEqual(
      new Set(['set-mtu', 'join', 'leave']),
    );
  });

  test('with STP a gateway has as long again as a port needs to forward', () => {
    expect([
      bridge({ ports: 'a' }).rollbackMs,
      bridge({ stp: true }).rollbackMs,
      bridge({ stp: true, forward_delay: 2, rollback: 5 }).rollbackMs,
      bridge({ stp: true, rollback: 0 }).rollbackMs,
    ]).toEqual([30_000, 60_000, 9_000, 0]);
  });
});

describe('bindings', () => {
  const vif = link('vif5.0', { master: br.ifindex });
  const plan = (bindings: Binding[], there: Observed, owned: Items = new Map()) =>
    planBindings(
      bindings,
      bindings.flatMap((one) => appearances(one, there)),
      there,
      owned,
    );

  test('whom they are for', () => {
    const names = (settings: Record<string, unknown>, ...links: Link[]) =>
      appearances(binding(settings), seen(links)).map(({ ifname }) => ifname);
    expect(names({ 'when.interface': ['vif5.*', 'eth0'] }, vif, eth0, br)).toEqual(['vif5.0', 'eth0']);
    expect(names({ 'when.bridge': 'br' }, br, eth0)).toEqual([]);
    expect(names({ 'when.bridge': 'br' }, br, vif)).toEqual(['br']);
    expect(names({ 'when.bridge': 'eth0' }, eth0, link('x', { master: eth0.ifindex }))).toEqual([]);
  });

  test('what one has put there goes when it is wanted no more; what was there before stays', () => {
    const want = binding({ 'when.interface': 'vif5.0', on: 'br', addresses: ['192.0.2.4/24', '192.0.2.5/24'] });
    const before = seen([br, vif], { addresses: [on(br, '192.0.2.5/24')] });
    const { steps, owned } = plan([want], before);
    expect(words(steps.get('br') ?? [])).toEqual(['192.0.2.4/24 on br']);
    const gone = seen([br], { addresses: [on(br, '192.0.2.5/24'), on(br, '192.0.2.4/24')] });
    expect(words(plan([want], gone, owned).steps.get('br') ?? [])).toEqual([
      '192.0.2.4/24 off br',
      '192.0.2.5/24 on br',
    ]);
    expect(words(plan([], gone, owned).steps.get('br') ?? [])).toEqual(['192.0.2.4/24 off br', '192.0.2.5/24 on br']);
    expect(plan([want], seen([br]), owned).steps.size).toBe(0);
    // Without memory the mark tells, and nothing but that.
    expect(plan([want], gone).steps.size).toBe(0);
    const marked = seen([br], { addresses: [on(br, '192.0.2.4/24', 118)] });
    expect(words(plan([want], marked).steps.get('br') ?? [])).toEqual(['192.0.2.4/24 off br']);
    expect(plan([{ ...want, keep: true }], marked).steps.size).toBe(0);
  });

  test('what an older vifd left is known by its mark, which a vif has as well: but its routes have no gateway', () => {
    const routes = ['10.0.0.0/8 via 192.0.2.1', '203.0.113.7/32'];
    const want = binding({ 'when.interface': 'vif5.0', on: 'br', routes });
    const left = (protocol: number) =>
      plan(
        [want],
        seen([br], {
          routes: [by(br, '10.0.0.0/8', '192.0.2.1', { protocol }), by(br, '203.0.113.7/32', undefined, { protocol })],
        }),
      )
        .steps.get('br')
        ?.map((step) => [describeStep(step), 'route' in step && step.route.protocol]);
    expect(left(118)).toEqual([['route 10.0.0.0/8 via 192.0.2.1 off br', 118]]);
    expect(left(119)).toEqual([
      ['route 10.0.0.0/8 via 192.0.2.1 off br', 119],
      ['route 203.0.113.7/32 off br', 119],
    ]);
    expect(left(3)).toBeUndefined();
  });

  test("a gateway that is configured anew takes the place of the old one, and no other program's", () => {
    const want = binding({ 'when.interface': 'eth0', gateway: '192.0.2.1' });
    const there = (protocol: number) => seen([eth0], { routes: [by(eth0, '0.0.0.0/0', '192.0.2.9', { protocol })] });
    expect(words(plan([want], there(118)).steps.get('br') ?? [])).toEqual([
      'route 0.0.0.0/0 via 192.0.2.9 off eth0',
      'route 0.0.0.0/0 via 192.0.2.1 on eth0',
    ]);
    const { steps, warnings } = plan([want], there(3));
    expect(steps.size).toBe(0);
    expect(warnings.get('br')).toEqual([
      'the route 0.0.0.0/0 via 192.0.2.9 through eth0 stands in the way of the one in [bind.br]; give that another metric',
    ]);
  });

  test('what is masqueraded: by interface, of the families that stand in the bindings', () => {
    const mask = (settings: Record<string, unknown>) =>
      binding({ 'when.interface': '*', masquerade: true, ...settings });
    const both = [{ ...mask({ addresses: '10.0.0.1/8' }), name: 'a' }, mask({ addresses: '2001:db8::1/64' })];
    expect([...plan(both, seen([eth0])).masqueraded]).toEqual([['eth0', { binding: 'a', families: ['ipv4', 'ipv6'] }]]);
    expect([...plan([mask({ on: 'br0' })], seen([eth0])).masqueraded]).toEqual([]);
    const odd = plan([mask({})], seen([link('a"*')]));
    expect([...odd.masqueraded, ...(odd.warnings.get('br') ?? [])]).toEqual([
      'a"* cannot be masqueraded: nft takes letters, digits, ".", "_" and "-" in its name',
    ]);
    expect(odd.steps.size).toBe(0);
    expect(plan([{ ...mask({}), masquerade: false }], seen([eth0])).masqueraded.size).toBe(0);
  });

  test('vifs that are bound', () => {
    const aVif = (domid: number, mac: string) => ({
      ifname: `vif${domid}.0`,
      backend: { key: { domid, devid: 0 }, mac, ip: [], script: '/x/vif-bridge', type: 'vif' } as unknown as VifBackend,
    });
    const vifs = [aVif(5, '00:16:3e:00:00:01'), aVif(6, '00:16:3e:00:00:02')];
    const names = (settings: Record<string, unknown>, links = [vif, link('vif6.0')]) =>
      appearances(binding(settings), seen(links), vifs).map(({ ifname }) => ifname);
    expect(names({ 'when.vif.mac': '00:16:3e:*' })).toEqual(['vif5.0', 'vif6.0']);
    expect(names({ 'when.vif.mac': '00:16:3e:*', 'when.vif.domid': 6 })).toEqual(['vif6.0']);
    expect(names({ 'when.vif.script': 'vif-route' })).toEqual([]);
    expect(names({ 'when.vif.mac': '00:16:3e:*' }, [vif])).toEqual(['vif5.0']); // not made yet, or gone
    expect(names({ 'when.interface': 'x' })).toEqual([]);
  });

  test('what is forwarded', () => {
    const families = (settings: Record<string, unknown>) => forwardedFamilies(binding({ on: 'x', ...settings }));
    expect(families({ addresses: '10.0.0.1/8' })).toEqual([]);
    expect(families({ forwarding: true })).toEqual(['ipv4']);
    expect(families({ masquerade: true })).toEqual(['ipv4']);
    expect(families({ forwarding: true, addresses: '2001:db8::1/64' })).toEqual(['ipv6']);
    expect(families({ forwarding: true, addresses: ['2001:db8::1/64', '10.0.0.1/8'] })).toEqual(['ipv6', 'ipv4']);
  });
});

test('a setting of the kernel that cannot be made', async () => {
  await expect(ensureSysctl('net.ipv4.no_such_thing', '1')).rejects.toThrow(
    'net.ipv4.no_such_thing cannot be set to 1 (ENOENT); as root: sysctl -w net.ipv4.no_such_thing=1',
  );
});
