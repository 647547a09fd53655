import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NodeError } from '../../src/errors.js';
import { parseBackend, parseIfname, parseLive } from '../../src/vif/backend.js';
import { parseBackendPath, parseDevid, parseDomid } from '../../src/xenstore/paths.js';

const key = { domid: 5, devid: 0 };
/** What libxl writes for `vif=['mac=00:16:3E:01:02:03,bridge=br_lan,backend=nicdom']`. */
const libxl = {
  frontend: '/local/domain/5/device/vif/0',
  'frontend-id': '5',
  script: '/etc/xen/scripts/vif-bridge',
  mac: '00:16:3e:01:02:03',
  bridge: 'br_lan',
  handle: '0',
  type: 'vif',
};
const parse = (changes: Record<string, string | undefined>) =>
  parseBackend(
    key,
    new Map(
      Object.entries({ ...libxl, ...changes }).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    ),
  );

test('what libxl writes becomes one typed value', () => {
  expect(
    parse({
      ip: '192.0.2.7 2001:db8::7/64',
      mtu: '9000',
      vifname: 'wan',
      rate: '125000,50000',
      vlan: '10p/20/30-40',
      gatewaydev: 'eth0',
    }),
  ).toEqual({
    key,
    type: 'vif',
    script: '/etc/xen/scripts/vif-bridge',
    handle: 0,
    mac: '00:16:3e:01:02:03',
    bridge: 'br_lan',
    vifname: 'wan',
    gatewaydev: 'eth0',
    mtu: 9000,
    ip: ['192.0.2.7', '2001:db8::7/64'],
    vlan: '10p/20/30-40',
    rate: { bytes: 125000, usec: 50000 },
    complaints: [],
  });
});

test('optional nodes may be missing or empty', () => {
  const expected = {
    mac: undefined,
    bridge: undefined,
    vifname: undefined,
    mtu: undefined,
    ip: [],
    vlan: undefined,
    rate: undefined,
  };
  expect(parse({ mac: undefined, bridge: undefined })).toMatchObject(expected);
  expect(parse({ mac: '', bridge: '', vifname: '', mtu: '', ip: '', vlan: '', rate: '' })).toMatchObject(expected);
});

describe('a value that cannot be accepted is an error that names node, value and expectation', () => {
  const long = 'x'.repeat(300);
  const table: [string, string | undefined][] = [
    ['frontend', '/local/domain/6/device/vif/0'],
    ['frontend', '/local/domain/5/device/vif/0/../../../../../0'],
    ['frontend', undefined],
    ['frontend-id', '6'],
    ['frontend-id', '05'],
    ['script', undefined],
    ['script', ''],
    ['script', 'vif-bridge'],
    ['script', '/etc/xen/scripts/\nrm'],
    ['script', `/${'x'.repeat(2000)}`],
    ['handle', undefined],
    ['handle', '00'],
    ['handle', '+0'],
    ['handle', '-1'],
    ['handle', '0x1'],
    ['handle', '99999999999'],
    ['type', undefined],
    ['type', 'tap'],
    ['mac', '00:16:3e:01:02'],
    ['mac', '00:16:3e:01:02:0g'],
    ['mac', '00:16:3e:01:02:03:04'],
    ['mac', '00:16:3e:01:02:03\n'],
    ['bridge', long],
    ['bridge', 'sixteen-letters.'],
    ['bridge', 'a b'],
    ['bridge', 'a/b'],
    ['bridge', '..'],
    ['bridge', 'br\0'],
    ['bridge', 'br\n'],
    ['bridge', '$(reboot)'.padEnd(20, 'x')],
    ['vifname', 'wan%d'],
    ['vifname', '.'],
    ['vifname', 'wän'],
    ['mtu', '67'],
    ['vlan', '10;20'],
    ['vlan', '10p/20p'],
    ['mtu', '65518'],
    ['mtu', '1500.0'],
    ['mtu', '01500'],
    ['mtu', '1e3'],
  ];
  test.each(table)('%s = %j', (node, value) => {
    const attempt = () => parse({ [node]: value });
    expect(attempt).toThrow(NodeError);
    expect(attempt).toThrow(expect.objectContaining({ code: 'EBADNODE', node, value }));
    expect(attempt).toThrow(/^node "[\w-]+" is (missing|"[ -~]*"(\.\.\.)?); expected .+/);
  });

  test('whatever the values are, nothing but NodeError comes out', () => {
    const node = fc.constantFrom(...Object.keys(libxl), 'vifname', 'mtu', 'ip', 'vlan', 'rate', 'gatewaydev');
    fc.assert(
      fc.property(fc.dictionary(node, fc.oneof(fc.string({ unit: 'binary' }), fc.string())), (values) => {
        try {
          parse(values);
        } catch (error) {
          expect(error).toBeInstanceOf(NodeError);
          expect((error as Error).message).toMatch(/^[ -~]*$/);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a value that bridge mode does not use is a complaint, not an error', () => {
  test.each([
    ['gatewaydev', 'eth0/../x'],
    ['ip', '192.0.2.300'],
    ['ip', '-A INPUT'],
    ['ip', '192.0.2.1/33'],
    ['ip', '2001:db8::/129'],
    ['ip', 'fe80::1%eth0'],
    ['ip', '192.0.2.1;reboot'],
    ['ip', '192.0.2.1/24/24'],
    ['rate', '125000'],
    ['rate', '1,2,3'],
    ['rate', '-1,5'],
  ] as const)('%s = %j', (node, value) => {
    const backend = parse({ [node]: value });
    expect(backend[node]).toEqual(node === 'ip' ? [] : undefined);
    expect(backend.complaints).toEqual([expect.stringMatching(`^node "${node}" is "[ -~]*"; expected .+`)]);
  });
});

describe('the live nodes', () => {
  test('an empty hotplug-status is not a missing one', () => {
    expect(parseLive(new Map([['hotplug-status', '']])).hotplugStatus).toBe('');
    expect(parseLive(new Map()).hotplugStatus).toBeUndefined();
  });
  test.each([
    ['state', '9'],
    ['state', '02'],
    ['state', '2\0'],
    ['state', 'x'],
    ['online', '2'],
    ['online', 'true'],
    ['online', 'constructor'],
  ])('%s = %j is refused', (node, value) =>
    expect(() =>
      parseLive(
        new Map([
          ['state', '4'],
          ['online', '1'],
          [node, value],
        ]),
      ),
    ).toThrow(NodeError),
  );
  test('without "online" nobody knows whether the vif may stay: refused', () =>
    expect(() => parseLive(new Map([['state', '6']]))).toThrow('node "online" is missing'));
  test('a directory that is gone has no state', () => expect(parseLive(new Map()).state).toBeUndefined());
});

describe('names and paths', () => {
  test.each(['br0', 'br_lan', 'vif5.0', 'x'.repeat(15), '-x', '[lan]'])('%s is an interface name', (name) =>
    expect(parseIfname(name)).toBe(name),
  );

  test.each([
    ['backend/vif/5/0', 5, 0, ''],
    ['backend/vif/5/0/state', 5, 0, 'state'],
    ['/local/domain/3/backend/vif/12/1/hotplug-status', 12, 1, 'hotplug-status'],
    ['backend/vif/5/0/sub/state', 5, 0, 'sub/state'],
  ])('%s', (path, domid, devid, node) => expect(parseBackendPath(path)).toEqual({ key: { domid, devid }, node }));

  test.each([
    'backend',
    'backend/vif',
    'backend/vif/5',
    'backend/vbd/5/0',
    'backend/vif/05/0',
    'backend/vif/5/x',
    'backend/vif/99999/0',
    'xbackend/vif/5/0',
    '',
  ])('%j is no vif', (path) => expect(parseBackendPath(path)).toBeUndefined());

  test.each(['', '00', '01', '+1', '-1', ' 1', '1 ', '1.0', '0x1', '32752', '4294967296'])('%j is no domid', (text) =>
    expect(parseDomid(text)).toBeUndefined(),
  );
  test('ids', () =>
    expect([parseDomid('0'), parseDomid('32751'), parseDevid('0'), parseDevid('999999')]).toEqual([
      0, 32751, 0, 999999,
    ]));
});

test('a script is an absolute path in printable characters', () => {
  const parse = (script: string) =>
    parseBackend({ domid: 5, devid: 0 }, new Map(Object.entries({ ...libxl, script }))).script;
  expect(parse('/etc/xen/scripts/vif-mine')).toBe('/etc/xen/scripts/vif-mine');
  for (const script of ['/etc/xen/scripts/\n', 'vif-bridge'])
    expect(() => parse(script)).toThrow('expected the absolute path of a script, at most 1024 printable characters');
});
