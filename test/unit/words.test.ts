/** The sentences that people read. */
import { describe, expect, test } from 'vitest';
import { AttachError, NetlinkError, NodeError, XenstoreError } from '../../src/errors.js';
import { formatEvent, formatJson } from '../../src/monitor/format.js';
import { parseMonitorLine } from '../../src/network/link-monitor.js';
import { explainFailure } from '../../src/vif/failure.js';
import { errorText } from '../../src/vif/hotplug-status.js';
import { meaningOf } from '../../src/vif/meaning.js';

describe('hotplug-error', () => {
  test('is one printable ASCII line', () =>
    expect(errorText('bad\nname "brücke"\x1b[31m')).toBe('bad name "br cke" [31m'));
  test('is clipped', () => expect(errorText('x'.repeat(5000))).toHaveLength(240));
});

describe('failures', () => {
  test.each<[unknown, string, string, RegExp]>([
    [
      new AttachError('ENOBRIDGE', 'bridge "x" does not exist', 'bridges here: y'),
      'ENOBRIDGE',
      'bridge "x" does not exist',
      /^bridges here: y$/,
    ],
    [new NodeError('mtu', '5', 'more'), 'EBADNODE', 'node "mtu" is "5"; expected more', /vif line in dom0/],
    [
      new NetlinkError('EPERM', 'set up of', 'vif5.0', 1),
      'EPERM',
      'the kernel refused to set up of vif5.0: EPERM (vifd needs CAP_NET_ADMIN)',
      /tries again/,
    ],
    [
      new XenstoreError('ENOSPC', 'WRITE', 'a'),
      'EQUOTA',
      'xenstore has no room for this vif (quota)',
      /quota-maxentity/,
    ],
    [new XenstoreError('EIO', 'READ', 'a/b'), 'EIO', 'xenstore refused a request', /xenstore READ "a\/b": EIO/],
    [new TypeError('bug'), 'EUNEXPECTED', 'unexpected error in vifd', /TypeError: bug/],
  ])('%o', (error, code, message, hint) => {
    const failure = explainFailure(error);
    expect([failure.code, failure.message]).toEqual([code, message]);
    expect(failure.hint).toMatch(hint);
  });

  test('the guest is not told what else there is in the driver domain', () => {
    expect(
      explainFailure(new AttachError('ENOBRIDGE', 'bridge "x" does not exist', 'bridges here: secret')).message,
    ).not.toContain('secret');
  });
});

describe('meanings', () => {
  test.each([
    [
      'backend',
      'state',
      '2',
      'InitWait: the kernel has taken the vif; it waits for the interface to be attached (hotplug-status) and for the guest',
    ],
    ['backend', 'state', '', '"" is no XenbusState'],
    ['frontend', 'state', '0x2', '"0x2" is no XenbusState'],
    ['frontend', 'state', undefined, 'gone: the guest has ended, or dom0 has removed the vif'],
    ['backend', 'hotplug-status', undefined, 'removed: the kernel has let go of the interface'],
    ['backend', 'hotplug-error', undefined, 'removed: what was wrong is no more'],
    ['backend', 'bridge', undefined, 'removed'],
    ['frontend', 'state', '4', "Connected: the guest's driver is working"],
    ['backend', 'state', '99', '"99" is no XenbusState'],
    ['backend', 'hotplug-status', '', 'the interface is not attached yet; the guest has no network until then'],
    ['backend', 'hotplug-status', 'connected\n', '"connected\\n" means nothing to the kernel'],
    ['backend', 'feature-sg', '1', 'offered by the kernel to the guest'],
    ['backend', '', undefined, 'the directory is gone: the vif has left'],
    ['backend', 'constructor', 'x', ''],
  ] as const)('%s %s = %j', (side, node, value, expected) => expect(meaningOf(side, node, value)).toBe(expected));

  test.each(['backend', 'frontend'] as const)('every state of the %s is explained', (side) => {
    for (let state = 0; state <= 8; state++) expect(meaningOf(side, 'state', String(state))).toMatch(/^[A-Z]\w+: \w+/);
  });

  const event = {
    version: 1,
    time: '2026-01-02T03:04:05.678Z',
    source: 'store',
    domid: 5,
    devid: 0,
    side: 'backend',
    path: 'p',
    node: 'state',
    value: '2',
    meaning: 'InitWait',
  } as const;

  test('a line of monitor', () =>
    expect(formatEvent({ ...event, sincePreviousMs: 12 })).toBe(
      '03:04:05.678  store   vif5.0  backend   state = "2"  InitWait  (+12 ms)',
    ));

  test('a hostile value stays on its line, for people and for programs', () => {
    const hostile = { ...event, node: 'ip', value: 'a\n\x1b[2J\x9b\u202e', meaning: '' };
    expect(formatEvent(hostile)).toMatch(/^[ -~]+$/);
    expect(formatJson(hostile)).toMatch(/^[ -~]+$/);
    expect(JSON.parse(formatJson(hostile))).toEqual(hostile);
  });
});

test.each([
  ['7: vif5.0@if6: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN', ['vif5.0', 'vif5.0@if6']],
  ['Deleted 7: br_lan: <BROADCAST> mtu 1500', ['br_lan']],
  ['3: wan: <BROADCAST>', ['wan']],
  ['7: web@home@if6: <BROADCAST>', ['web', 'web@home', 'web@home@if6']],
  ['7: web@home: <BROADCAST>', ['web', 'web@home']],
  ['7: @: <BROADCAST>', ['@']],
  ['    link/ether fe:ff:ff:ff:ff:ff', []],
  ['', []],
])('ip monitor: %j', (line, expected) => expect(parseMonitorLine(line)).toEqual(expected));
