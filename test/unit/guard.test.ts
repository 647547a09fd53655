import { execFileSync, spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Config, settingAt } from '../../src/config/schema.js';
import { headOf, linesFor, TABLES } from '../../src/network/guard-table.js';
import { addressBits } from '../../src/network/prefix.js';
import { parseBackend } from '../../src/vif/backend.js';
import { type GuardPolicy, guardOf } from '../../src/vif/guard.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { NODES } from './vif-seen.js';

const policy = (more: Partial<GuardPolicy> = {}): GuardPolicy => ({
  macs: ['00:16:3e:01:02:03' as GuardPolicy['macs'][number]],
  ip: undefined,
  allowDhcp: false,
  allowRouter: false,
  allowTags: false,
  ...more,
});

describe('when a vif is guarded', () => {
  const resolve = (nodes: Record<string, string>, vif: Config['vif'] = {}) =>
    resolveAttachment(parseBackend({ domid: 5, devid: 0 }, new Map(Object.entries({ ...NODES, ...nodes }))), {
      vif,
      rules: [],
    });
  const rules = (...args: Parameters<typeof resolve>) => resolve(...args).guard?.rules.join('\n') ?? '';

  test('as vifd.toml(5) says of an address with the length of its network, on a bridge and routed', () => {
    const about = settingAt({ table: 'vif', name: undefined, setting: 'ip' })?.about ?? '';
    const [, host = '', network = ''] =
      /(\S+) is that one host, and (\S+) the network, in every mode/.exec(about) ?? [];
    expect([host, network]).toEqual([expect.stringMatching(/\/24$/), expect.stringMatching(/\/24$/)]);
    for (const mode of ['bridge', 'routed'] as const) {
      expect(rules({ ip: host }, { mode })).toContain(`ip saddr != ${host.split('/')[0]}/32 drop`);
      expect(rules({ ip: network }, { mode })).toContain(`ip saddr != ${network} drop`);
    }
  });

  test('with ip= by its addresses, without it not at all', () => {
    expect(rules({})).toBe('');
    expect(rules({ ip: '192.0.2.7' })).toContain('ip saddr != 192.0.2.7/32 drop');
    expect(rules({ ip: '192.0.2.7/24 2001:db8::7/64' })).toMatch(
      /ip saddr != 192.0.2.7\/32 drop[\s\S]*2001:db8:0:0:0:0:0:7\/128/,
    );
    expect(rules({ ip: '192.0.2.0/24' })).toContain('ip saddr != 192.0.2.0/24 drop');
    expect(rules({ ip: '192.0.2.7' }, { guard: 'off' })).toBe('');
    expect(rules({ ip: '192.0.2.7' }, { guard: 'mac' })).not.toContain('192.0.2.7');
    expect(rules({}, { guard: 'mac' })).toContain('ether saddr != 00:16:3e:01:02:03 drop');
    expect(rules({ ip: '192.0.2.7' }, { guardIp: ['2001:db8::1'] })).not.toContain('192.0.2.7');
  });

  test('only then it is required', () => {
    expect(resolve({ ip: '192.0.2.7' }).guardRequired).toBe(false);
    expect(resolve({ ip: '192.0.2.7' }, { guard: 'ip' }).guardRequired).toBe(true);
  });

  test.each<[Record<string, string>, Config['vif'], RegExp]>([
    [{}, { guard: 'ip' }, /node "ip" is missing; expected the addresses to which guard = "ip" holds/],
    [{ mac: '' }, { guard: 'mac' }, /node "mac" is missing; expected a MAC address, since the vif is guarded/],
    [{ vifname: 'a*', ip: '192.0.2.7' }, {}, /node "vifname" is "a\*"; expected letters, digits/],
    [{ vifname: 'a"b' }, { guard: 'mac' }, /node "vifname" is "a.*"; expected letters, digits/],
  ])('%j with %j cannot be', (nodes, vif, message) => expect(() => resolve(nodes, vif)).toThrow(message));
});

describe('the rules', () => {
  test('of a family whose addresses are not named there are none', () => {
    expect(guardOf(policy({ ip: ['192.0.2.7'] })).rules.join('\n')).not.toMatch(/ip6 saddr|nd-neighbor/);
    expect(guardOf(policy({ ip: ['2001:db8::7'] })).rules.join('\n')).not.toMatch(/ip saddr|arp saddr ip/);
  });

  test('an address within a prefix that is there as well is left out: nftables refuses it', () => {
    const rules = guardOf(
      policy({ ip: ['10.0.0.7', '10.0.0.0/8', '10.0.0.0/8', '2001:db8::/32', '2001:db8:1::/48'] }),
    ).rules;
    expect(rules).toContain('ip saddr != 10.0.0.0/8 drop');
    expect(rules).toContain(
      'ip6 saddr != 2001:db8:0:0:0:0:0:0/32 ip6 saddr != fe80:0:0:0:0:0:0:0/10 ip6 saddr != 0:0:0:0:0:0:0:0/128 drop',
    );
  });

  test('a few addresses need no set, which nft would read before each change of the table; many have one', () => {
    const own = (count: number) => Array.from({ length: count }, (_, i) => [`10.0.0.${i}`, `2001:db8::${i}`]).flat();
    for (const routed of [false, true]) {
      expect(guardOf(policy({ ip: own(5), routed })).rules.join('\n')).not.toContain('{');
      expect(guardOf(policy({ ip: own(60), routed })).rules.join('\n')).toMatch(/ip saddr != { 10\.0\.0\.0\/32, /);
    }
  });

  test('other rules, another name; the same rules, the same name', () => {
    expect(guardOf(policy()).chain).toBe(guardOf(policy()).chain);
    expect(guardOf(policy({ allowDhcp: true })).chain).not.toBe(guardOf(policy()).chain);
    expect(guardOf(policy()).chain).toMatch(/^guard_[0-9a-f]{16}$/);
  });
});

test('an IPv6 address as a number, in all its spellings', () => {
  expect(addressBits('::')).toBe(0n);
  expect(addressBits('::1')).toBe(1n);
  expect(addressBits('2001:db8::')).toBe(0x20010db8n << 96n);
  expect(addressBits('1:2:3:4:5:6:7:8')).toBe(0x00010002000300040005000600070008n);
  expect(addressBits('::ffff:192.0.2.7')).toBe(0xffffc0000207n);
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      const bits = addressBits(address);
      expect(bits >= 0n && bits < 1n << 128n).toBe(true);
      const plain = bits.toString(16).padStart(32, '0').match(/.{4}/g)?.join(':') ?? '';
      expect(new URL(`http://[${plain}]`).hostname).toBe(new URL(`http://[${address}]`).hostname);
    }),
  );
});

test('two addresses with the prefix of one network are two hosts', () => {
  const rules = guardOf(
    policy({ ip: ['192.0.2.7/24', '192.0.2.8/24', '2001:db8::1/64', '2001:db8::2/64'] }),
  ).rules.join('\n');
  expect(rules).toContain('ip saddr != 192.0.2.7/32 ip saddr != 192.0.2.8/32 drop');
  expect(rules).toContain(
    'ip6 saddr != 2001:db8:0:0:0:0:0:1/128 ip6 saddr != 2001:db8:0:0:0:0:0:2/128 ip6 saddr != fe80',
  );
});

test('addresses that cannot be read: a guard that is asked for says so', () => {
  const nodes = { ...NODES, ip: '192.0.2.7,192.0.2.8' };
  const described = parseBackend({ domid: 5, devid: 0 }, new Map(Object.entries(nodes)));
  const resolve = (guard: 'ip' | 'auto') => resolveAttachment(described, { vif: { guard }, rules: [] });
  expect(() => resolve('ip')).toThrow(/node "ip" is "192\.0\.2\.7,192\.0\.2\.8"; expected IPv4 or IPv6/);
  expect(resolve('auto').guard).toBeUndefined();
  expect(described.complaints.join()).toMatch(/left out, so the guest is not held to it$/);
});

describe('changes of the table', () => {
  const guard = { chain: 'guard_1', rules: ['drop'] };

  test('a guard is made whole before the name leads to it; the old one goes in the same run', () => {
    const chains = new Map([['vif5.0', 'guard_0']]);
    expect(linesFor(TABLES.bridge, { ifname: 'vif5.0', guard }, chains, new Set())).toEqual([
      `add chain bridge vifd guard_1`,
      `flush chain bridge vifd guard_1`,
      `add rule bridge vifd guard_1 drop`,
      `delete element bridge vifd guards { "vif5.0" : jump guard_0 }`,
      `add element bridge vifd guards { "vif5.0" : jump guard_1 }`,
    ]);
    expect([...chains]).toEqual([['vif5.0', 'guard_1']]);
    expect(linesFor(TABLES.bridge, { ifname: 'vif6.0', guard: undefined }, chains, new Set())).toEqual([]);
  });

  test('a chain that another has already is not written again', () =>
    expect(linesFor(TABLES.bridge, { ifname: 'vif6.0', guard }, new Map(), new Set(['guard_1']))).toEqual([
      'add element bridge vifd guards { "vif6.0" : jump guard_1 }',
    ]));
});

const nft = spawnSync('nft', ['--version']).status === 0 ? undefined : 'skipped: nft is not installed';
test.skipIf(nft !== undefined)(nft ?? 'nft takes every guard that can be made', () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6());
  const prefix = fc.tuple(address, fc.nat(128)).map(([ip, n]) => `${ip}/${ip.includes(':') ? n : n % 33}`);
  const someIp = fc.option(fc.array(fc.oneof(address, prefix), { maxLength: 12 }), { nil: undefined });
  const any = fc.record({ ip: someIp, allowDhcp: fc.boolean(), allowRouter: fc.boolean(), allowTags: fc.boolean() });
  fc.assert(
    fc.property(fc.array(any, { minLength: 1, maxLength: 20 }), (policies) => {
      const chains = new Map<string, string>();
      const lines = policies.flatMap((more, i) =>
        linesFor(TABLES.bridge, { ifname: `vif${i}.0`, guard: guardOf(policy(more)) }, chains, new Set()),
      );
      const input = [...headOf(TABLES.bridge), ...lines].join('\n');
      execFileSync('unshare', ['--net', 'nft', '-f', '-'], { input, stdio: ['pipe', 'ignore', 'pipe'] });
    }),
    { numRuns: 25 },
  );
});
