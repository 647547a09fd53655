/** The files in udev/: that they say to others what the doctor looks for, and that the rules are rules. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { matchesVif, sectionsOf, valuesOf } from '../../src/doctor/unit-file.js';

const read = (name: string) => readFileSync(`udev/${name}`, 'utf8');
const entries = (name: string, section: string) =>
  sectionsOf(read(name)).find((one) => one.name === section)?.entries ?? [];
const lines = (name: string) =>
  read(name)
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));

test('networkd leaves vifs alone, and those with a name of their own', () => {
  expect(matchesVif(read('05-vifd.network'))).toBe(true);
  expect(valuesOf(entries('05-vifd.network', 'Link'), 'Unmanaged')).toEqual(['yes']);
  const [property = ''] = valuesOf(entries('05-vifd-named.network', 'Match'), 'Property');
  expect(valuesOf(entries('05-vifd-named.network', 'Link'), 'Unmanaged')).toEqual(['yes']);
  const [name, value] = property.split('=');
  expect(read('70-vifd-hands-off.rules')).toContain(`ENV{${name}}="${value}"`);
});

test('NetworkManager does, by a section that replaces no list of another file', () => {
  expect(entries('90-vifd-networkmanager.conf', 'device-vifd')).toEqual([
    ['match-device', 'interface-name:vif*'],
    ['managed', '0'],
  ]);
});

test('nothing gives vifs another name or address', () => {
  expect(entries('05-vifd.link', 'Match')).toEqual([['OriginalName', 'vif*']]);
  expect(entries('05-vifd.link', 'Link')).toEqual([
    ['NamePolicy', ''],
    ['MACAddressPolicy', 'none'],
  ]);
});

describe.each(['70-vifd-hands-off.rules', 'opt-in/80-vifd-hotplug.rules'])('%s', (name) => {
  test.each(lines(name))('%s', (line) => {
    for (const word of line.split(', ')) expect(word).toMatch(/^[A-Z]+(\{\w+\})?(==|\+=|=)"[^"]+"$/);
  });
});

test('the opt-in rules run the script with the command of the event, as a call of udev', () => {
  const rules = lines('opt-in/80-vifd-hotplug.rules');
  expect(rules).toHaveLength(2);
  for (const rule of rules) {
    const [, action] = /ACTION=="(\w+)"/.exec(rule) ?? [];
    expect(['online', 'offline']).toContain(action);
    expect(rule).toContain(`RUN+="/etc/xen/scripts/vif-vifd ${action} type_if=vif"`);
    expect(rule).toContain('ENV{UDEV_CALL}="1"');
  }
});
