/** What `vifd status` and `vifd explain` print. */
import { describe, expect, test } from 'vitest';
import { recognise } from '../../src/doctor/command-line.js';
import { parseIpLinks } from '../../src/network/ip-link.js';
import { alignColumns, asciiJson, wrap } from '../../src/text.js';
import { explain } from '../../src/vif/explanation.js';
import { formatAccounts, formatStatus, parseVifName, reportStatus, reportVif } from '../../src/vif/report.js';
import { backend, live, seen } from './vif-seen.js';

const placeFault = { code: 'ENOBRIDGE', message: 'bridge "x" does not exist', hint: 'bridges here: br0' };
const MISSING = { placeFault, place: undefined, bridge: undefined };

describe('status', () => {
  const agents = seen().around.programs;

  test('a vif in order, as data', () => {
    expect(reportStatus(agents, [seen()])).toEqual({
      version: 1,
      agents: [{ pid: 77, command: 'vifd run' }],
      healthy: true,
      vifs: [
        {
          domid: 5,
          devid: 0,
          ifname: 'vif5.0',
          mode: 'bridge',
          bridge: 'br0',
          addresses: [],
          heldTo: null,
          mac: '00:16:3e:01:02:03',
          mtu: 1500,
          backendState: 'Connected',
          frontendState: 'Connected',
          hotplugStatus: 'connected',
          health: 'connected',
          problem: null,
          remedy: null,
          hotplugError: null,
          sent: { packets: 12, dropped: 0 },
          received: { packets: 34, dropped: 5 },
        },
      ],
    });
  });

  test.each([
    ['connected', {}, true],
    ['waiting', { frontend: { state: '1', mtu: undefined }, live: live({ state: '2' }) }, true],
    ['leaving', { live: live({ online: '0', state: '5' }) }, true],
    ['failed', MISSING, false],
    ['failed', { nodeFault: 'node', backend: undefined, want: undefined }, false],
  ])('health %s', (health, spoilt, healthy) => {
    expect(reportStatus([], [seen(), seen(spoilt)])).toMatchObject({ healthy, vifs: [{}, { health }] });
  });

  test('fits 80 columns, and says who counts', () => {
    const lines = formatStatus(reportStatus(agents, [seen(), seen(MISSING)]), 80);
    expect(lines).toEqual([
      'an agent seems to run: vifd run (pid 77)',
      'VIF  INTERFACE  MODE    BRIDGE  BACKEND    GUEST      HOTPLUG    HEALTH',
      '5/0  vif5.0     bridge  br0     Connected  Connected  connected  connected',
      '  00:16:3e:01:02:03 mtu 1500  guest sent 12 (0 dropped), got 34 (5 dropped)',
      '5/0  vif5.0     bridge  br0     Connected  Connected  connected  failed',
      '  00:16:3e:01:02:03 mtu 1500  guest sent 12 (0 dropped), got 34 (5 dropped)',
      '  problem: bridge "x" does not exist',
      '  remedy:  bridges here: br0',
    ]);
  });

  test('nobody and nothing', () => {
    expect(formatStatus(reportStatus([], []), 80)).toEqual([
      'no agent seems to run here: new vifs will not be attached',
      'no vifs',
    ]);
  });

  test('what a guest or dom0 wrote does not reach the terminal as it is', () => {
    const hostile = seen({
      frontend: { state: '\x1b[2J', mtu: '\x07' },
      live: live({ state: '2', 'hotplug-status': '\x1b]0;x', 'hotplug-error': 'a\nb\x1b' }),
      backend: backend({ bridge: 'br"0`' }),
      ...MISSING,
    });
    const text = [...formatStatus(reportStatus([], [hostile]), 80), ...formatAccounts(explain(hostile), 80)].join('\n');
    expect(text).not.toMatch(/[^\x20-\x7e\n]/);
    expect(text).toContain('"\\u001b]0;x"');
  });

  test('an error of the agent is told beside the cause', () => {
    const vif = seen({
      ...MISSING,
      live: live({ state: '2', 'hotplug-status': 'error', 'hotplug-error': 'old' }),
    });
    expect(reportVif(vif)).toMatchObject({ problem: placeFault.message, hotplugError: 'old' });
    expect(formatStatus(reportStatus([], [vif]), 80)).toContain('  told:    hotplug-error is "old"');
  });
});

describe('explain', () => {
  test('ends with the first obstacle and its remedy', () => {
    expect(formatAccounts(explain(seen(MISSING)), 80).slice(-3)).toEqual([
      'wrong  bridge      bridge "x" does not exist',
      '                   -> bridges here: br0',
      'result: it fails at "bridge"; what comes behind it was not looked at',
    ]);
  });
  test('says that all is well', () => expect(formatAccounts(explain(seen()), 80).at(-1)).toBe('result: it works'));

  test.each([
    ['vif5.0', { domid: 5, devid: 0 }],
    ['5/0', { domid: 5, devid: 0 }],
    ['5.12', { domid: 5, devid: 12 }],
    ['backend/vif/5/1', { domid: 5, devid: 1 }],
    ['/local/domain/1/backend/vif/5/1/state', { domid: 5, devid: 1 }],
    ['/local/domain/5/device/vif/2', { domid: 5, devid: 2 }],
    ['/local/domain/5/device/vif/2/state', { domid: 5, devid: 2 }],
    ['lan0', undefined],
    ['05/0', undefined],
    ['5/0/1', undefined],
    ['', undefined],
  ])('%s', (text, key) => expect(parseVifName(text)).toEqual(key));
});

describe('which process attaches vifs', () => {
  test.each([
    [['node', '/usr/bin/vifd', 'run'], 'vifd run'],
    [['/usr/bin/node', '--max-old-space-size=64', '/opt/vifd/dist/main.js', 'run', '--pidfile', 'x'], 'vifd run'],
    [['/usr/lib/vifd/vifd', 'run'], 'vifd run'],
    [['/usr/sbin/xl', 'devd', '-F'], 'xl devd'],
    [['/usr/lib/xen-4.17/bin/xl', '-vvv', 'devd'], 'xl devd'],
    [['node', '/usr/bin/vifd', 'status'], undefined],
    [['vim', 'vifd', 'run'], undefined],
    [['sh', '-c', 'vifd run'], undefined],
    [['node', '/srv/other/dist/main.js', 'run'], undefined],
    [['xl', 'create', 'devd'], undefined],
    [['node'], undefined],
    [[], undefined],
  ])('%j', (argv, command) => {
    expect(recognise({ pid: 1, argv, isSelf: false })?.command).toBe(command);
  });
  test.each([
    [['-c', 'a.toml'], 'a.toml'],
    [['-ca.toml'], 'a.toml'],
    [['--config', 'a.toml'], 'a.toml'],
    [['--log-level', 'info', '--config=a.toml'], 'a.toml'],
    [['--config'], undefined],
    [[], undefined],
  ])('its configuration: %j', (args, config) => {
    const argv = ['node', '/usr/bin/vifd', 'run', ...args];
    expect(recognise({ pid: 1, argv, isSelf: false })).toEqual({
      pid: 1,
      command: 'vifd run',
      ...(config && { config }),
    });
  });
  test('this very installation counts, whatever its name', () =>
    expect(recognise({ pid: 1, argv: ['node', 'main.js', 'run'], isSelf: true })?.command).toBe('vifd run'));
});

describe('ip -j -s -d link show', () => {
  test('carrier, port state and counters', () => {
    const rx = { bytes: 1, packets: 2, errors: 0, dropped: 3 };
    const json = JSON.stringify([
      {
        ifname: 'vif5.0',
        flags: ['UP', 'LOWER_UP'],
        linkinfo: { info_slave_data: { state: 'learning' } },
        stats64: { rx, tx: rx },
      },
      { ifname: 'down', flags: ['NO-CARRIER'], stats64: { rx, tx: rx } },
      { ifname: 'old', flags: [] },
    ]);
    const counters = { packets: 2, dropped: 3 };
    expect([...parseIpLinks(json)]).toEqual([
      ['vif5.0', { carrier: true, bridgePortState: 'learning', rx: counters, tx: counters }],
      ['down', { carrier: false, bridgePortState: undefined, rx: counters, tx: counters }],
    ]);
  });
  test('anything else is nothing', () => expect(parseIpLinks('1: lo: <UP>').size).toBe(0));
});

describe('text', () => {
  test('JSON is ASCII, and the same value', () => {
    const value = { a: 'br\u009bx\u{1f600}\x7f\n' };
    expect(asciiJson(value)).toMatch(/^[\x20-\x7e]*$/);
    expect(JSON.parse(asciiJson(value))).toEqual(value);
  });
  test('columns', () =>
    expect(
      alignColumns([
        ['a', 'b'],
        ['ccc', ''],
      ]),
    ).toEqual(['a    b', 'ccc']));
  test('wraps at 80, and never loses a word', () => {
    const lines = wrap('label: ', `${'word '.repeat(40)}${'x'.repeat(100)} end`, 80);
    expect(lines.join(' ').replace(/ +/g, ' ')).toBe(`label: ${'word '.repeat(40)}${'x'.repeat(100)} end`);
    expect(lines.filter((line) => line.length > 80 && !line.includes('xxx'))).toEqual([]);
  });
});
