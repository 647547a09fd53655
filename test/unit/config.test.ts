import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { editDistance } from '../../src/config/check.js';
import { LiveConfig } from '../../src/config/live.js';
import { loadConfig, parseConfig } from '../../src/config/load.js';
import { configOf, DEFAULTS, type Setting, TABLES, type Table, VIF_DEFAULTS } from '../../src/config/schema.js';
import { effectiveText, sampleText } from '../../src/config/text.js';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vifd-config-'));
});
beforeEach(async () => {
  await rm(dir, { recursive: true });
  await mkdir(join(dir, 'vifd.d'), { recursive: true });
});
afterAll(() => rm(dir, { recursive: true }));

async function write(name: string, text: string): Promise<string> {
  await writeFile(join(dir, name), text);
  return join(dir, name);
}

test('the defaults: qlen 1000 and tx off', () => {
  expect(VIF_DEFAULTS).toMatchObject({ qlen: 1000, txChecksum: 'off' });
});

const SETTINGS = Object.entries<Table>(TABLES).flatMap(([table, { settings }]) =>
  Object.entries<Setting>(settings).map(([name, one]) => ({ key: `${table}.${name}`, ...one })),
);

describe('every setting', () => {
  test.each(SETTINGS)('$key: the type accepts the default or the example, and only its own kind', (one) => {
    const { type, default: value = one.example, about } = one;
    expect(type.accepts(value)).toBe(true);
    expect(about).toMatch(/\.$/);
    for (const other of [undefined, null, {}, [], [[value]], Number.NaN, '', new Date()])
      expect(type.accepts(other)).toBe(false);
  });
});

describe('what a file gives', () => {
  const parse = async (text: string) => {
    const { given, faults } = await parseConfig('f', text);
    expect(faults).toEqual([]);
    return [...given].map(([key, { value, line }]) => [key, value, line()]);
  };
  test.each<[string, unknown[]]>([
    ['', []],
    ['[vif]', []],
    ['[vif]\nqlen = 500', [['vif.qlen', 500, 2]]],
    ['\ufeff[vif]\r\n\r\n# qlen = 1\r\nqlen = 500\r\n', [['vif.qlen', 500, 4]]],
    ['vif.tx_checksum = "keep"', [['vif.tx_checksum', 'keep', 1]]],
    ['\n vif . "qlen" = 7', [['vif.qlen', 7, 2]]],
    ['["vif"]\n\'qlen\' = 7', [['vif.qlen', 7, 2]]],
    [
      '# both\n\nvif = { qlen = 7, tx_checksum = "off" } # here',
      [
        ['vif.qlen', 7, 3],
        ['vif.tx_checksum', 'off', 3],
      ],
    ],
  ])('%j', async (text, expected) => expect(await parse(text)).toEqual(expected));
});

describe('a fault names file, line, key, value and what was expected', () => {
  const known = (what: string, nearest: string) =>
    `a ${what} that vifd knows; the nearest is ${nearest}, and 'vifd config show --defaults' has all`;
  const oneMac = 'a MAC address, in which * stands for anything';
  const mac = `${oneMac}, or an array of such`;
  const command = 'a command, an array of words that begins with an absolute path: ["/bin/echo", "here"]';
  test.each<[string, ...string[]]>([
    ['[vif]\nqlen = "many"', 'f:2: vif.qlen is "many"; expected a whole number of packets from 1 to 1000000'],
    ['[vif]\n\nqlen = 0', 'f:3: vif.qlen is 0; expected a whole number of packets from 1 to 1000000'],
    ['[vif]\nqlen = 1000001', 'f:2: vif.qlen is 1000001; expected a whole number of packets from 1 to 1000000'],
    ['[vif]\nqlen = 1.5', 'f:2: vif.qlen is 1.5; expected a whole number of packets from 1 to 1000000'],
    ['[vif]\nqlen = inf', 'f:2: vif.qlen is Infinity; expected a whole number of packets from 1 to 1000000'],
    ['[vif]\n[vif.qlen]', 'f:2: vif.qlen is a table; expected a whole number of packets from 1 to 1000000'],
    ['[vif]\ntx_checksum = true', 'f:2: vif.tx_checksum is true; expected "off", "on" or "keep"'],
    ['vif.tx_checksum = 1979-05-27', 'f:1: vif.tx_checksum is 1979-05-27; expected "off", "on" or "keep"'],
    ['vif = 3', 'f:1: vif is 3; expected a table, [vif]'],
    ['\n[[vif]]', 'f:2: vif is an array; expected a table, [vif]'],
    ['[vif]\nqleen = 5', `f:2: vif.qleen is 5; expected ${known('key', 'vif.qlen')}`],
    ['[vif]\ntxchecksum = ""', `f:2: vif.txchecksum is ""; expected ${known('key', 'vif.tx_checksum')}`],
    ['tx_checksums = 5', `f:1: tx_checksums is 5; expected ${known('key', 'vif.tx_checksum')}`],
    ['tx_chk = 5', `f:1: tx_chk is 5; expected ${known('key', 'vif.tx_checksum')}`],
    ['[vifs]\nqlen = 5', `f:1: vifs is a table; expected ${known('table', '[vif]')}`],
    ['[vif]\n"\\u001b[2J" = 1', `f:2: vif."\\u001b[2J" is 1; expected ${known('key', 'vif.mode')}`],
    ['[vif]\nconstructor = 1', `f:2: vif.constructor is 1; expected ${known('key', 'vif.mcast_router')}`],
    ['[__proto__]\nqlen = 1', `f:1: __proto__ is a table; expected ${known('table', '[hooks]')}`],
    ['[rule]\nqlen = 5', 'f:2: rule.qlen is 5; expected a table, [rule.qlen]'],
    ['[[rule]]\nqlen = 5', 'f:1: rule is an array; expected a table, [rule]'],
    [
      '[rule.10]\nqlen = 5',
      'f:1: rule.10 is a table; expected a name of letters, digits, "_" and "-" that begins with a letter',
    ],
    ['[rule.a]\n\n[rule.a.match]\nmac = []', `f:4: rule.a.match.mac is []; expected ${mac}`],
    [
      '[rule.a]\nmatch.mac = ["x", "00:*", 5]',
      `f:2: rule.a.match.mac[0] is "x"; expected ${oneMac}`,
      `f:2: rule.a.match.mac[2] is 5; expected ${oneMac}`,
    ],
    [
      '[vif]\n\nip = [\n"203.0.113.7",\n"203.0.113.999",\n]',
      'f:3: vif.ip[1] is "203.0.113.999"; expected an IPv4 or IPv6 address or prefix',
    ],
    [
      '[vif]\ngateway = ["10.0.0.1", ["fe80::1"]]',
      'f:2: vif.gateway[1] is ["fe80::1"]; expected an IPv4 or IPv6 address',
    ],
    ['[bind.a]\ngateway = ["10.0.0.1", "x"]', 'f:2: bind.a.gateway[1] is "x"; expected an IPv4 or IPv6 address'],
    [
      `[bind.a]\nunits = [${'"long.mount", '.repeat(9)}5]\nprobe = ["${'x'.repeat(90)}"]`,
      'f:2: bind.a.units[9] is 5; expected the name of a systemd unit with its kind, such as "nfs.mount"',
      'f:3: bind.a.probe is an array; expected an address to ping, "arp ADDRESS", or "tcp ADDRESS:PORT" with an IPv6 address in brackets',
    ],
    [
      '[bind.a]\nrun = "/bin/true"',
      'f:2: bind.a.run is "/bin/true"; expected commands, each an array of words that begins with an absolute path: [["/bin/echo", "here"]]',
    ],
    ['[bind.a]\nrun = ["/bin/true"]', `f:2: bind.a.run[0] is "/bin/true"; expected ${command}`],
    [
      '[bind.a]\nrun = [["/bin/a", 5], [], ["/bin/b"]]',
      `f:2: bind.a.run[0] is an array; expected ${command}`,
      `f:2: bind.a.run[1] is []; expected ${command}`,
    ],
    ['[rule.a]\nmatch.mac = "00:16:3e:aa:00"', `f:2: rule.a.match.mac is "00:16:3e:aa:00"; expected ${mac}`],
    ['[rule.a]\nmatch.mac = "zz*"', `f:2: rule.a.match.mac is "zz*"; expected ${mac}`],
    [
      '[rule.a]\nmatch.script = "/etc/xen/scripts/vif-bridge"',
      'f:2: rule.a.match.script is "/etc/xen/scripts/vif-bridge"; expected a script\'s name without its directory, in which * stands for anything, or an array of such',
    ],
    ['[rule.a]\nmatch = 5', 'f:2: rule.a.match is 5; expected a table, [rule.a.match]'],
    ['[rule.a]\nmatch.macs = "x"', `f:2: rule.a.match.macs is "x"; expected ${known('key', 'rule.a.match.mac')}`],
    [
      '[rule.a]\nmatch.ip = "10.0.0.0/33"',
      'f:2: rule.a.match.ip is "10.0.0.0/33"; expected an address or prefix, or an array of such',
    ],
    ['[rule.a]\nqlens = 1', `f:2: rule.a.qlens is 1; expected ${known('key', 'rule.a.qlen')}`],
    ['[bridge.br0]', 'f:1: bridge.br0 is a table; expected a table with a setting in it, such as stp = false'],
    [
      '[bridge.abcdefghijklmnop]\nstp = true',
      'f:1: bridge.abcdefghijklmnop is a table; expected a name for a bridge: at most 15 letters, digits, "_" and "-", the first a letter',
    ],
    [
      '[bind.a]\nroutes = "10.0.0.0/8 over 10.0.0.1"',
      'f:2: bind.a.routes is "10.0.0.0/8 over 10.0.0.1"; expected a route, as "10.0.0.0/8 via 192.168.1.1 metric 5" or "default via fe80::1", or an array of such',
    ],
    [
      '[bind.a]\ngateway = ["10.0.0.1", "10.0.0.2"]',
      'f:2: bind.a.gateway is ["10.0.0.1", "10.0.0.2"]; expected an IPv4 or IPv6 address, or an array with one of each',
    ],
    ['[bind.a]\nrun = [["rm", "-rf"]]', `f:2: bind.a.run[0] is ["rm", "-rf"]; expected ${command}`],
    [
      '[bind.a]\nprobe = "nas"',
      'f:2: bind.a.probe is "nas"; expected an address to ping, "arp ADDRESS", or "tcp ADDRESS:PORT" with an IPv6 address in brackets',
    ],
    ['[vif]\nbridge = "a/b"', 'f:2: vif.bridge is "a/b"; expected an interface name of at most 15 characters'],
    ['[vif]\nqlen = \n', 'f:2: not TOML (invalid value); expected valid TOML, with text in quotes'],
    [
      '[vif]\nqlen = 1\nqlen = 2',
      'f:3: not TOML (trying to redefine an already defined table or value); expected valid TOML, with text in quotes',
    ],
    // The line is that of this key: not of the same words in a string, in a comment or in another table.
    [
      '[vif]\nqlen = 0 # vif.tx_checksum\n[other]\nqlen = """\n[vif]\ntx_checksum = 1\n"""\n#tx_checksum\n[vif.more]',
      'f:2: vif.qlen is 0; expected a whole number of packets from 1 to 1000000',
      `f:9: vif.more is a table; expected ${known('key', 'vif.mode')}`,
      `f:3: other is a table; expected ${known('table', '[rule.NAME]')}`,
    ],
    [
      '[other]\nqlen = 1\n\nx = [\n  1, # qlen\n\n]\n[vif]\nqlen = [ # 5\n  5,\n]',
      `f:1: other is a table; expected ${known('table', '[rule.NAME]')}`,
      'f:9: vif.qlen is an array; expected a whole number of packets from 1 to 1000000',
    ],
  ])('%j', async (text, ...messages) => {
    const { given, faults } = await parseConfig('f', text);
    expect(faults.map(({ message }) => message)).toEqual(messages);
    expect(given.size).toBe(0);
  });
});

test.each(['bridge', 'bind', 'script'])('what a [%s.foo] left empty could have is a setting of it', async (table) => {
  const { faults } = await parseConfig('f', `[${table}.foo]`);
  const [, example = ''] = /a table with a setting in it, such as (.+)$/.exec(faults[0]?.expected ?? '') ?? [];
  const { given, faults: more } = await parseConfig('f', `[${table}.foo]\n${example}`);
  expect([given.size, more]).toEqual([1, []]);
});

test('of a script it is the file that it would be', async () => {
  const { faults } = await parseConfig('f', '[script.foo]');
  expect(faults[0]?.message).toMatch(/^f:1: script\.foo is a table; .*, such as file = "\/etc\/xen\/scripts\/foo"$/);
});

test('the edit distance is a distance, and counts edits', () => {
  expect([editDistance('qlen', 'qleen'), editDistance('', 'abc'), editDistance('kitten', 'sitting')]).toEqual([
    1, 3, 3,
  ]);
  const word = fc.string({ maxLength: 12 });
  fc.assert(
    fc.property(word, word, word, (a, b, c) => {
      expect(editDistance(a, b) === 0).toBe(a === b);
      expect(editDistance(a, b)).toBe(editDistance(b, a));
      expect(editDistance(a, c)).toBeLessThanOrEqual(editDistance(a, b) + editDistance(b, c));
    }),
  );
});

const NO_TSO = 'is "on"; expected tx_checksum = "on" beside it: the kernel turns TSO off where checksums are off';

describe('files', () => {
  const load = async () => {
    const { config, files, given } = await loadConfig(undefined, dir);
    return { config, files, text: effectiveText(given) };
  };

  test('no file, and not even a directory: the defaults', async () => {
    expect(await load()).toMatchObject({ config: DEFAULTS, files: [] });
    expect(await loadConfig(undefined, join(dir, 'nowhere'))).toMatchObject({ config: DEFAULTS, files: [] });
  });

  test('drop-ins refine the main file in order of their names, key by key', async () => {
    const main = await write('vifd.toml', '[vif]\nqlen = 1\ntx_checksum = "keep"');
    const late = await write('vifd.d/20-b.toml', '# mine\nvif.qlen = 3');
    const early = await write('vifd.d/10-a.toml', '[vif]\nqlen = 2');
    await write('vifd.d/.30-hidden.toml', 'qlen');
    await write('vifd.d/30-c.toml.bak', 'qlen');
    const { config, files, text } = await load();
    expect(config).toMatchObject({ vif: { qlen: 3, txChecksum: 'keep' }, rules: [] });
    expect(files).toEqual([main, early, late]);
    expect(text).toContain(`qlen = 3  # packets; ${late}:2\n`);
    expect(text).toContain(`tx_checksum = "keep"  # ${main}:3\n`);
  });

  test('rules in the order of their first mention, refined by later files, and shown so', async () => {
    const main = await write('vifd.toml', '[rule.b]\nmatch.mac = "00:*"\nqlen = 1\n[rule.a]\nmatch.devid = [1, 2]\n');
    const late = await write('vifd.d/a.toml', '[rule.c]\nqlen = 9\n[rule.b]\nqlen = 2');
    const { config, text } = await load();
    expect(config.rules).toEqual([
      { name: 'b', matchMac: '00:*', qlen: 2 },
      { name: 'a', matchDevid: [1, 2] },
      { name: 'c', qlen: 9 },
    ]);
    expect(text).toContain(
      `[rule.b]\nmatch.mac = "00:*"  # ${main}:2\nqlen = 2  # packets; ${late}:4\n\n[rule.a]\nmatch.devid = [1,2]  # ${main}:5\n`,
    );
  });

  test('bridges and bindings, with the defaults of what no file gives', async () => {
    await write('vifd.toml', '[bridge.br_lan]\nports = "eth0"\n[bind.a]\nwhen.bridge = "br_lan"\nunits = "x.mount"\n');
    await write('vifd.d/a.toml', 'agent.mode = "observe"\n[bridge.br_lan]\nrollback = 0\n');
    const { config } = await load();
    expect(config.agent).toEqual({ mode: 'observe' });
    expect(config.bridges).toEqual([expect.objectContaining({ name: 'br_lan', ports: 'eth0', rollback: 0 })]);
    expect(config.bindings).toEqual([
      expect.objectContaining({ name: 'a', whenBridge: 'br_lan', probeEvery: 5, probeTries: 30, keep: false }),
    ]);
  });

  test.each([
    [
      'addresses = "10.0.0.1/8"',
      'bind.a is a table with none of them; expected when.interface, when.bridge or when.vif',
    ],
    [
      'when.interface = "*"\nwhen.bridge = "b"',
      'bind.a is a table with several of them; expected when.interface, when.bridge or when.vif',
    ],
    [
      'units = "x.mount"\nwhen.vif = {}',
      'bind.a is a table with none of them; expected when.interface, when.bridge or when.vif',
    ],
    [
      'when.vif.mac = "00:*"\nwhen.bridge = "b"',
      'bind.a is a table with several of them; expected when.interface, when.bridge or when.vif',
    ],
    [
      'when.vif.mac = "00:1g"',
      'bind.a.when.vif.mac is "00:1g"; expected a MAC address, in which * stands for anything',
    ],
  ])('a binding to nothing, or to two things: %j', async (text, fault) => {
    const main = await write('vifd.toml', `\n[bind.a]\n${text}\n`);
    await expect(load()).rejects.toThrow(`${main}:3: ${fault}`);
  });

  test.each([
    [
      'bind.a',
      'when.interface = "eth9"',
      'is a table that gives nothing; expected addresses, routes, gateway, forwarding, masquerade, probe, run, units or gone.run in it',
    ],
    [
      'bind.a',
      'when.bridge = "xen*"\nunits = "x.mount"',
      '.when.bridge is "xen*"; expected the name of one interface, of at most 15 characters, without *',
    ],
    ['bind.a', 'when.bridge = "b"\naddresses = "10.0.0.1/8"\nmetric = 5', '.metric is 5; expected a gateway beside it'],
    ['bridge.b', 'stp = true\nforward_delay = 1', '.forward_delay is 1; expected 2 or more with stp = true'],
    ['bridge.b', 'vlan_filtering = false\nvlan = "5"', '.vlan is "5"; expected vlan_filtering = true beside it'],
    ['bridge.b', 'addresses = "10.0.0.1/8"\nmetric = 5', '.metric is 5; expected a gateway beside it'],
    [
      'bridge.b',
      'ports = ["eth0", "eth1"]\n[bridge.a]\nports = "eth2"\n[bridge.c]\nports = "eth1"',
      'bridge.c.ports is "eth1"; expected cards of which none is a port of [bridge.b] as well',
    ],
    [
      'rule.r',
      'mode = "openvswitch"\nguard = "ip"',
      '.guard is "ip"; expected none or "off" where mode is "openvswitch": its frames pass nftables by, flows of Open vSwitch could do it',
    ],
    ['vif', 'mode = "bridge"\ndhcp = true', '.dhcp is true; expected mode = "routed" or "nat" beside it'],
    ['vif', 'tx_checksum = "off"\ntso = "on"', `.tso ${NO_TSO}`],
    ['vif', 'profile = "speed"\ntx_checksum = "off"\ntso = "on"', `.tso ${NO_TSO}`],
    ['vif', 'tso = "on"', `.tso ${NO_TSO}`],
    ['vif', 'tso = "on"\n[rule.a]\nprofile = "pf"\n[rule.b]\ntx_checksum = "off"', `.tso ${NO_TSO}`],
    ['rule.r', 'tso = "on"\nmode = "bridge"', `.tso ${NO_TSO}`],
    ['rule.r', 'tso = "on"\nprofile = "pf"\n[vif]\ntx_checksum = "on"', `.tso ${NO_TSO}`],
  ])('what cannot all be meant: [%s] %j', async (table, text, fault) => {
    await write('vifd.toml', `[${table}]\n${text}\n`);
    await expect(load()).rejects.toThrow(
      fault.startsWith('b') ? fault : `${table}${fault.startsWith('.') ? '' : ' '}${fault}`,
    );
  });

  test.each([
    'vif.tso = "on"\nvif.tx_checksum = "on"',
    'vif.tso = "on"\nvif.tx_checksum = "keep"',
    'vif.tso = "on"\nvif.profile = "speed"',
    'vif.tso = "on"\nvif.profile = "pf"\nvif.tx_checksum = "on"',
    'vif.tso = "on"\nrule.a.profile = "speed"',
    'vif.tx_checksum = "on"\nrule.a.tso = "on"',
    'rule.a.tx_checksum = "keep"\nrule.b.tso = "on"',
    'vif.tso = "off"\nrule.a.tso = "keep"',
  ])('tso where something may leave it the checksums: %j', async (text) => {
    await write('vifd.toml', text);
    expect((await load()).files).toHaveLength(1);
  });

  test.each([
    ['[bind.x]\nwhen.interface = "a"\nprobe = "tcp 10.0.0.5"', 'bind.x.probe'],
    ['[bind.x]\nwhen.interface = "a"\nunits = ["x.mount", 5]', 'bind.x.units[1]'],
    ['[bind.x]\nwhen.bridge = "a*"\nunits = "x.mount"', 'bind.x.when.bridge'],
    ['[bind.x]\nwhen.bridge = "a"\naddress = "10.0.0.1/8"', 'bind.x.address'],
    ['[bridge.b]\ngateway = "a"\nmetric = 5', 'bridge.b.gateway'],
    ['[vif]\ntx_checksum = "yes"\ntso = "on"', 'vif.tx_checksum'],
  ])('a table with a fault in it is not said to lack what is at fault: %j', async (text, key) => {
    await write('vifd.toml', text);
    await expect(load()).rejects.toMatchObject({ name: 'ConfigError', key }); // of several there would be a VifdError
  });

  test('nor is one of which a part may stand in a file that cannot be read; all others are judged', async () => {
    const good = await write('vifd.toml', '[bind.x]\nwhen.bridge = "a"\n[bind.xy]\nqlen = 1');
    await expect(load()).rejects.toMatchObject({
      message: expect.stringMatching(
        new RegExp(`^${good}:4: bind.xy.qlen .*\n${good}:2: bind.x is a table that gives`),
      ),
    });
    const bad = await write('vifd.d/a.toml', '[bind.x]\nunits = ');
    await write('vifd.toml', '[bind.x]\nwhen.bridge = "a"');
    await expect(load()).rejects.toMatchObject({ name: 'ConfigError', file: bad, key: '' });
  });

  test('what one table says and another refines is no contradiction', async () => {
    await write(
      'vifd.toml',
      'vif.guard = "ip"\nvif.dhcp = true\n[rule.a]\nmode = "openvswitch"\nguard = "off"\ndhcp = false\n',
    );
    expect(await load()).toMatchObject({ config: { vif: { guard: 'ip' } } });
  });

  test('drop-ins alone', async () => {
    await write('vifd.d/a.toml', 'vif.qlen = 3');
    expect(await load()).toMatchObject({ config: { vif: { qlen: 3 } } });
  });

  test('a named file stands for itself', async () => {
    await write('vifd.toml', 'vif.qlen = 1');
    await write('vifd.d/a.toml', 'vif.tx_checksum = "keep"');
    const named = await write('other.conf', 'vif.qlen = 9');
    expect(await loadConfig(named, dir)).toMatchObject({
      config: { vif: { qlen: 9 } },
      files: [named],
    });
  });

  test('a fault in a drop-in counts even if a later file mends it; all faults of all files are told', async () => {
    await write('vifd.toml', 'vif.qlen = 1');
    const a = await write('vifd.d/a.toml', 'vif.qlen = 0');
    await expect(load()).rejects.toMatchObject({ code: 'ECONFIG', file: a, line: 1, key: 'vif.qlen', value: '0' });
    const b = await write('vifd.d/b.toml', 'vif = {\nqlen = 1');
    await write('vifd.d/c.toml', 'vif.qlen = 1');
    await expect(load()).rejects.toMatchObject({
      code: 'ECONFIG',
      message: expect.stringMatching(new RegExp(`^${a}:1: vif.qlen is 0.*\n${b}:\\d: not TOML`)),
    });
  });

  test.each<[string, string, () => Promise<unknown>]>([
    ['a named file that is not there', 'nowhere.toml: does not exist', () => loadConfig(`${dir}/nowhere.toml`)],
    ['a directory for a file', 'vifd.d: is a directory', () => loadConfig(`${dir}/vifd.d`)],
    [
      'a drop-in that leads nowhere',
      'x.toml: does not exist',
      async () => {
        await symlink('/nonexistent/vifd', `${dir}/vifd.d/x.toml`);
        await load();
      },
    ],
    [
      'a file for the directory of drop-ins',
      'vifd.d: cannot be read (ENOTDIR)',
      async () => {
        await rm(`${dir}/vifd.d`, { recursive: true });
        await write('vifd.d', '');
        await load();
      },
    ],
  ])('%s', async (_, message, attempt) => {
    await expect(attempt()).rejects.toMatchObject({ code: 'ECONFIG', message: expect.stringContaining(message) });
  });
});

describe('the sample file', () => {
  const given = async (text: string) => {
    const { given: values, faults } = await parseConfig('sample', text);
    expect(faults).toEqual([]);
    return [...values.values()];
  };

  test('gives every setting, and each its default', async () => {
    const values = await given(sampleText());
    expect(configOf(values)).toEqual({
      vif: {
        qlen: 1000,
        txChecksum: 'off',
        natNetwork: '10.0.0.0/8',
        rxChecksum: 'keep',
        tso: 'keep',
        gso: 'keep',
        sg: 'keep',
        gro: 'keep',
        dhcp: false,
        guard: 'auto',
        allowDhcp: false,
        allowRouter: false,
      },
      rules: [],
      agent: { mode: 'attach' },
      bridges: [],
      bindings: [],
      hooks: { directory: '/etc/xen/vifd.hooks.d' },
    });
  });

  test('says meaning, type, unit and default of each, in lines of at most 120 columns', () => {
    expect(sampleText()).toContain(
      '# Transmit queue length of the host end of the vif.\n# A whole number of packets from 1 to 1000000; default 1000.\nqlen = 1000\n',
    );
    expect(
      sampleText()
        .split('\n')
        .filter((line) => line.length > 120),
    ).toEqual([]);
  });

  test('what is shown as effective is a file, too', async () => {
    expect(configOf(await given(effectiveText(new Map())))).toEqual(configOf(await given(sampleText())));
  });
});

test('every configuration in the README is a good one', async () => {
  const blocks = [...(await readFile('README.md', 'utf8')).matchAll(/^```toml\n([^`]*)```/gm)];
  expect(blocks.length).toBeGreaterThan(1);
  for (const [, text = ''] of blocks) expect((await parseConfig('README', text)).faults).toEqual([]);
});

describe('reading again', () => {
  const start = async (text: string) => {
    const lines: { level: number; msg: string }[] = [];
    const log = pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    const file = await write('live.toml', text);
    const live = await LiveConfig.load(file, log);
    return { live, lines, file };
  };

  test('good files come into force, and the log says what has changed', async () => {
    const { live, lines } = await start('vif.qlen = 1');
    const seen: unknown[] = [];
    live.onReload = () => seen.push(live.current.vif.qlen);
    await write('live.toml', 'vif.qlen = 2');
    await live.reload();
    await live.reload();
    expect(seen).toEqual([2, 2]);
    expect(lines.map(({ msg }) => msg)).toEqual([
      'configuration read again: vif.qlen 1 -> 2; every vif is brought to it',
      'configuration read again: nothing has changed',
    ]);
  });

  test('a bad file leaves what was in force, since then', async () => {
    const before = Date.now();
    const { live, lines, file } = await start('vif.qlen = 1');
    const after = Date.now();
    live.onReload = () => expect.unreachable();
    await sleep(5);
    await write('live.toml', 'vif.qlen = 0');
    await live.reload();
    await rm(file);
    await live.reload();
    expect(live.current.vif.qlen).toBe(1);
    const [first = '', second = ''] = lines.map(({ msg }) => msg);
    expect(first).toMatch(/live\.toml:1: vif\.qlen is 0; expected .*; keeping the configuration of /);
    expect(second).toMatch(/does not exist.*; keeping the configuration of /);
    const kept = Date.parse(second.slice(second.lastIndexOf(' ') + 1));
    expect([kept >= before, kept <= after]).toEqual([true, true]);
  });

  test('a parser that is gone, as when vifd was installed anew, leaves it too, and the log says what to do', async () => {
    const { live, lines } = await start('vif.qlen = 1');
    vi.doMock('smol-toml', () => {
      throw new Error('gone');
    });
    await live.reload();
    vi.doUnmock('smol-toml');
    expect(lines[0]?.msg).toMatch(/parser cannot be loaded; .* restart it; keeping the configuration of /);
    expect(live.current.vif.qlen).toBe(1);
  });

  test('the last request has the last word, even if an earlier one is slow', async () => {
    const { live, file } = await start('vif.qlen = 1');
    await rm(file);
    execFileSync('mkfifo', [file]);
    const first = live.reload();
    await sleep(50); // it waits for somebody to write
    await rename(file, `${file}.slow`);
    await write('live.toml', 'vif.qlen = 3');
    const second = live.reload();
    await sleep(50);
    await writeFile(`${file}.slow`, 'vif.qlen = 2');
    await Promise.all([first, second]);
    expect(live.current.vif.qlen).toBe(3);
  });
});
