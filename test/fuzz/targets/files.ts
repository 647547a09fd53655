/** Files: vifd's configuration and records, those of other programs that the doctor reads, and those that vifd keeps itself. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { parseVifLines } from '../../../src/commands/kept-demo.js';
import { checkFile } from '../../../src/config/check.js';
import { parseConfig } from '../../../src/config/load.js';
import { configOf, TABLES } from '../../../src/config/schema.js';
import { effectiveText } from '../../../src/config/text.js';
import { endLeftBehind } from '../../../src/dhcp/dnsmasq.js';
import { configText, filesIn, hostsText, keptLeases, optionsText } from '../../../src/dhcp/dnsmasq-text.js';
import { type Check, examine } from '../../../src/doctor/finding.js';
import type { Machine } from '../../../src/doctor/machine.js';
import { NETWORK_CHECKS } from '../../../src/doctor/network-checks.js';
import { matchesVif, sectionsOf } from '../../../src/doctor/unit-file.js';
import { XEN_CHECKS } from '../../../src/doctor/xen-checks.js';
import { VifdError } from '../../../src/errors.js';
import { Pidfile } from '../../../src/service/pidfile.js';
import { promise, same, sentence, type Target, textOf, typed, typedLater } from '../target.js';

const dir = mkdtempSync(join(tmpdir(), 'vifd-fuzz-'));
/** For what reads by a path only. */
export const fileOf = (name: string, content: string | Uint8Array): string => {
  writeFileSync(join(dir, name), content);
  return join(dir, name);
};
export const directory = dir;

const settings = Object.entries(TABLES).flatMap(([table, { settings: all }]) =>
  Object.keys(all).map((name) => `${table}${['vif', 'agent', 'hooks'].includes(table) ? '' : '.x'}.${name}`),
);
const tomlValue = fc.oneof(
  fc.constantFrom(
    'true',
    '0',
    '1500',
    '"off"',
    '"br0"',
    '["eth0"]',
    '[["/bin/echo", "x"]]',
    '1979-05-27',
    'nan',
    '{}',
    '"10.0.0.1/24"',
    '"10p/20"',
  ),
  fc.string().map((text) => JSON.stringify(text)),
);

const CONFIG: Target = {
  name: 'config',
  share: 0.02,
  reads: {
    'config/load.ts': ['parseConfig', 'lineOf'],
    'config/check.ts': ['checkFile'],
    'config/schema.ts': ['configOf'],
  },
  promises: 'a configuration whose own text gives it again, or faults that are sentences with a line',
  kind: 'text',
  seeds: fc
    .array(fc.tuple(fc.constantFrom(...settings), tomlValue), { maxLength: 8 })
    .map((all) => all.map(([key, value]) => `${key} = ${value}`).join('\n')),
  words: [
    ...settings.map((name) => `\n${name} = `),
    '[rule.x]\n',
    '[bridge.br0]\n',
    '[[rule]]',
    '"""',
    "'''",
    '1979-05-27T07:32:00Z',
    'inf',
    '\\u0000',
    '"a.b"',
  ],
  run: async (input) => {
    const text = textOf(input);
    const read = await typedLater(() => parseConfig('f.toml', text));
    if (read instanceof VifdError) return;
    for (const { message } of read.faults) sentence(message);
    if (read.faults.length > 0) return;
    const config = configOf([...read.given.values()]);
    for (const { line } of [...read.given.values()].slice(0, 3))
      promise(line() >= 1 && line() <= text.split('\n').length, 'each value has its line', line());
    if (text.length > 2000) return;
    const again = await parseConfig('again.toml', effectiveText(read.given));
    same(
      again.faults.map(({ message }) => message),
      [],
      'its own text is good',
    );
    same(configOf([...again.given.values()]).rules, config.rules, 'and gives the same rules');
  },
};

const VALUES: Target = {
  name: 'config-values',
  share: 0.05,
  reads: { 'config/check.ts': ['checkFile', 'nearest', 'formatValue'] },
  promises: 'whatever values stand under whatever names, they are checked ones or faults',
  kind: 'json',
  seeds: fc
    .dictionary(
      fc.oneof(fc.constantFrom(...Object.keys(TABLES)), fc.string()),
      fc.dictionary(fc.constantFrom(...settings.map((name) => name.split('.').slice(-1)[0] ?? '')), fc.jsonValue()),
    )
    .map((all) => JSON.stringify(all)),
  words: Object.keys(TABLES).map((name) => `"${name}":{`),
  run: (input) => {
    const root = typed(() => parsed(textOf(input)));
    if (typeof root !== 'object' || root === null) return;
    const { values, faults } = checkFile(root);
    configOf(values);
    for (const { expected } of faults) sentence(expected);
  },
};

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const NOTHING: Machine = {
  hypervisor: 'xen',
  xenstore: { peer: '/dev/xen/xenbus', domid: '1', nodes: 40 },
  links: [],
  netlinkFault: undefined,
  ethtoolFault: undefined,
  configFault: undefined,
  vifs: [],
  hasIp: true,
  hasDnsmasq: true,
  running: new Set(['NetworkManager', 'systemd-network']),
  files: { udevRules: [], interfaces: [], networkManager: [], networkd: [] },
  bridgeFilter: { iptables: true, ip6tables: true, dropping: [] },
  forwards: { ipv4: true, ipv6: true },
  programs: [],
  netback: 'loaded',
  observes: false,
  asksForVifs: false,
  own: [],
};
const CHECKS: readonly Check[] = [...XEN_CHECKS, ...NETWORK_CHECKS];

const UNITS: Target = {
  name: 'unit-files',
  share: 0.1,
  reads: {
    'doctor/unit-file.ts': ['sectionsOf', 'matchesVif', 'partsOf'],
    'doctor/xen-checks.ts': ['judgeUdevRules', 'judgeInterfaces'],
    'doctor/network-checks.ts': ['judgeNetworkManager', 'judgeNetworkd'],
  },
  promises:
    'files of udev, ifupdown, systemd and NetworkManager are judged in findings of one line, in no more time than they are long',
  kind: 'text',
  seeds: fc
    .array(
      fc
        .tuple(
          fc.constantFrom('[Match]', '[Link]', '[keyfile]', '[device-x]', 'auto vif5.0', 'iface vif*'),
          fc.string(),
          fc.string(),
        )
        .map(([a, b, c]) => `${a}\n${b}=${c}`),
      { maxLength: 4 },
    )
    .map((all) => all.join('\n')),
  words: [
    '[Match]\nName=',
    '*',
    '?',
    '[',
    '!',
    'vif*',
    '\\\n',
    'RUN+=',
    'xen-backend',
    'unmanaged-devices=',
    'interface-name:',
    'allow-hotplug /vif',
    ' ',
    '\t',
  ],
  run: (input) => {
    const text = textOf(input);
    sectionsOf(text);
    matchesVif(text);
    const file = [{ path: '/etc/file', text }];
    const files = { udevRules: file, interfaces: file, networkManager: file, networkd: file };
    const { findings } = examine({ ...NOTHING, files, configFault: text, hypervisor: text }, CHECKS);
    for (const { message, remedy } of findings) {
      sentence(message);
      sentence(remedy);
    }
  },
};

const LEASES: Target = {
  name: 'dnsmasq',
  reads: { 'dhcp/dnsmasq-text.ts': ['keptLeases', 'hostsText', 'optionsText', 'configText'] },
  promises: 'of the leases only whole lines that were there are kept; the texts have a line for each thing',
  kind: 'text',
  seeds: fc
    .array(
      fc
        .tuple(fc.nat(), fc.constantFrom('00:16:3e:01:02:03', '00:16:3e:01:02:04', '*'), fc.ipV4(), fc.string())
        .map((all) => all.join(' ')),
      { maxLength: 5 },
    )
    .map((all) => `${all.join('\n')}\n`),
  words: ['00:16:3e:01:02:03', '10.0.0.5', ' ', '\n', 'duid '],
  run: (input) => {
    const text = textOf(input);
    const offer = {
      ifname: 'vif5.0',
      mac: '00:16:3e:01:02:03',
      address: '10.0.0.5',
      length: (input[0] ?? 0) % 33,
      gateway: '10.0.0.1',
      dns: ['9.9.9.9'],
    };
    const lines = new Set(text.split('\n'));
    const kept = keptLeases(text, [offer]);
    for (const line of kept.split('\n').slice(0, -1)) promise(lines.has(line), 'a line that was there', line);
    same(keptLeases(kept, [offer]), kept, 'what is kept is kept');
    promise(optionsText([offer]).split('\n').length === 5 && hostsText([offer]).split('\n').length === 2, 'lines');
    configText(filesIn('/x'), ['vif5.0'], true);
  },
};

const VIF_LINES: Target = {
  name: 'demo-vif-lines',
  reads: { 'commands/kept-demo.ts': ['parseVifLines'] },
  promises: 'what the demo is told of a vif, or one sentence about it',
  kind: 'text',
  seeds: fc
    .array(
      fc.tuple(fc.constantFrom('mac', 'bridge', 'ip', 'mtu', 'x'), fc.string()).map((pair) => pair.join('=')),
      { maxLength: 5 },
    )
    .map((all) => all.join(',')),
  words: ['mac=', 'bridge=', ',', '=', 'mtu='],
  run: (input) => {
    typed(() => parseVifLines(textOf(input).split('\n')));
  },
};

const PID: Target = {
  name: 'pid-files',
  reads: { 'service/pidfile.ts': ['take', 'readPid'], 'dhcp/dnsmasq.ts': ['endLeftBehind', 'isDnsmasq'] },
  promises: 'what is no pid file is left as it is, with a sentence; no process is ended but our dnsmasq',
  kind: 'text',
  share: 0.0002,
  seeds: fc.oneof(
    fc.nat(99999).map((pid) => `${pid}\n`),
    fc.string(),
  ),
  words: ['1\n', '4711', ' '],
  run: async (input) => {
    const path = fileOf('pid', input);
    const files = filesIn(dir);
    writeFileSync(files.pid, input);
    await endLeftBehind(files, AbortSignal.timeout(1000));
    const file = await typedLater(() => Pidfile.take(path));
    if (file instanceof VifdError) promise(readFileSync(path).equals(input), 'it is left as it is');
    else await file.release();
  },
};

export const FILE_TARGETS = [CONFIG, VALUES, UNITS, LEASES, VIF_LINES, PID];
