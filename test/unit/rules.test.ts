import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Config, Rule } from '../../src/config/schema.js';
import { parseBackend } from '../../src/vif/backend.js';
import { parseAddressPattern, parsePattern } from '../../src/vif/pattern.js';
import { resolvePolicy } from '../../src/vif/rules.js';

const nodes = {
  frontend: '/local/domain/5/device/vif/1',
  'frontend-id': '5',
  script: '/etc/xen/scripts/vif-bridge',
  bridge: 'br_dmz',
  handle: '1',
  type: 'vif',
  mac: '00:16:3E:aa:00:01',
  vifname: 'fw-wan',
  ip: '192.0.2.7 2001:db8::/64',
};
const resolve = (config: Partial<Config>, more: Record<string, string> = {}) =>
  resolvePolicy(parseBackend({ domid: 5, devid: 1 }, new Map(Object.entries({ ...nodes, ...more }))), {
    vif: {},
    rules: [],
    ...config,
  });

describe('which vif a rule is for', () => {
  test.each<[boolean, Partial<Rule>]>([
    [true, {}],
    [true, { matchBridge: 'br_dmz' }],
    [true, { matchBridge: ['x', 'br_*'] }],
    [false, { matchBridge: 'br_' }],
    [true, { matchMac: '00:16:3e:AA:*' }],
    [false, { matchMac: '*:02' }],
    [true, { matchVifname: '*wan' }],
    [true, { matchScript: 'vif-bridge' }],
    [false, { matchScript: '/etc/xen/scripts/vif-bridge' }],
    [true, { matchIp: '192.0.2.0/24' }],
    [true, { matchIp: ['10.0.0.0/8', '2001:db8::/32'] }],
    [false, { matchIp: '192.0.2.8' }],
    [false, { matchIp: '2001:db8::/65' }],
    [true, { matchDomid: 5, matchDevid: [0, 1], matchType: 'vif' }],
    [false, { matchDomid: 5, matchDevid: 0 }],
    [false, { matchType: 'vif_ioemu' }],
  ])('%s: %j', (matches, rule) => {
    const { settings } = resolve({ rules: [{ name: 'a', ...rule, qlen: 7 }] });
    expect(settings.qlen).toBe(matches ? 7 : 1000);
  });

  test('what dom0 did not write matches no pattern', () => {
    for (const name of ['matchBridge', 'matchMac', 'matchVifname'] as const) {
      const { settings } = resolve(
        { rules: [{ name: 'a', [name]: '*', qlen: 7 }] },
        { bridge: '', mac: '', vifname: '' },
      );
      expect([name, settings.qlen]).toEqual([name, 1000]);
    }
  });
});

describe('whose word counts', () => {
  test('defaults, then [vif], then dom0, then the rules in their order', () => {
    const { settings, origins } = resolve(
      {
        vif: { bridge: 'br0', qlen: 2, isolated: true, mtu: 1400 },
        rules: [
          { name: 'a', qlen: 3, mtu: 1300 },
          { name: 'no', matchDevid: 9, qlen: 4 },
          { name: 'b', mtu: 1200 },
        ],
      },
      { mtu: '9000' },
    );
    expect(settings).toMatchObject({ bridge: 'br_dmz', qlen: 3, isolated: true, mtu: 1200, txChecksum: 'off' });
    expect([...origins]).toEqual([
      ['bridge', 'dom0'],
      ['qlen', '[rule.a]'],
      ['isolated', '[vif]'],
      ['mtu', '[rule.b]'],
      ['ip', 'dom0'],
    ]);
  });

  test('a rule may send a vif to another bridge', () =>
    expect(resolve({ rules: [{ name: 'a', bridge: 'br9' }] }).settings.bridge).toBe('br9'));

  test('the settings beside a profile refine it; a later profile refines them', () => {
    const words = (...rules: Rule[]) => resolve({ rules }).settings.txChecksum;
    expect(words({ name: 'a', profile: 'speed' })).toBe('on');
    expect(words({ name: 'a', txChecksum: 'off', profile: 'speed' })).toBe('off');
    expect(words({ name: 'a', txChecksum: 'keep' }, { name: 'b', profile: 'pf' })).toBe('off');
  });

  test('a script that says what it wants speaks for dom0', () => {
    const script = '/etc/xen/scripts/vif-bridge_TxOff';
    const vif = { txChecksum: 'keep' } as const;
    expect(resolve({ vif }, { script }).settings.txChecksum).toBe('off');
    expect(resolve({ rules: [{ name: 'a', ...vif }] }, { script }).settings.txChecksum).toBe('keep');
  });
});

describe('patterns', () => {
  test('without a star only the text itself, in any case', () =>
    fc.assert(
      fc.property(fc.stringMatching(/^[!-)+-~]{1,20}$/), fc.string(), (text, other) => {
        expect(parsePattern(text)?.(text.toUpperCase())).toBe(true);
        expect(parsePattern(text)?.(other)).toBe(other.toLowerCase() === text.toLowerCase());
      }),
    ));

  test('a star is any text, even none', () =>
    fc.assert(
      fc.property(
        fc.stringMatching(/^[!-)+-~]{1,9}$/),
        fc.stringMatching(/^[!-)+-~]{1,9}$/),
        fc.string(),
        (a, b, c) => {
          expect(parsePattern(`${a}*${b}`)?.(a + c + b)).toBe(true);
          expect(parsePattern(`${a}*${b}`)?.(`${a}${b}\n.`)).toBe(b === '.' || `${a}${b}\n.`.endsWith(b));
        },
      ),
    ));

  test.each(['', 'a b', '\n', 'é', 'a'.repeat(257)])('%j is none', (text) =>
    expect(parsePattern(text)).toBeUndefined(),
  );

  test.each(['', '1.2.3', '1.2.3.4/33', '::/129', '::1%eth0', '1.2.3.4/', '1.2.3.4/8/8', '/8', 'x'])(
    '%j is no address',
    (text) => expect(parseAddressPattern(text)).toBeUndefined(),
  );
});
