/** What stands in [bridge] and [bind] as words: routes and what is asked before a binding acts. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseTarget } from '../../src/binding/target.js';
import { defaultRoute, parseRouteText } from '../../src/network/route-text.js';

const net = (address: string, length: number) => ({
  family: address.includes(':') ? 'ipv6' : 'ipv4',
  address,
  length,
});

describe('routes', () => {
  test.each([
    ['10.0.0.0/8', { destination: net('10.0.0.0', 8) }],
    ['192.0.2.7', { destination: net('192.0.2.7', 32) }],
    ['10.0.0.0/8 via 192.168.1.1 metric 5', { destination: net('10.0.0.0', 8), gateway: '192.168.1.1', metric: 5 }],
    [' default  via fe80::1 ', { destination: net('::', 0), gateway: 'fe80::1' }],
    ['default via 192.0.2.1', { destination: net('0.0.0.0', 0), gateway: '192.0.2.1' }],
    ['2001:db8::/32 metric 4294967295', { destination: net('2001:db8::', 32), metric: 4294967295 }],
  ])('%j', (text, route) => expect(parseRouteText(text)).toEqual(route));
  test.each([
    '',
    'default',
    '10.0.0.0/33',
    '10.0.0.0/8 via fe80::1',
    '10.0.0.0/8 via 10.0.0.1/24',
    '10.0.0.0/8 metric 4294967296',
    '10.0.0.0/8 metric -1',
    '10.0.0.0/8 via',
    '10.0.0.0/8 dev eth0',
    '10.0.0.0/8 metric 5 via 10.0.0.1',
  ])('none: %j', (text) => expect(parseRouteText(text)).toBeUndefined());
  test('the default route by a gateway', () => {
    expect(defaultRoute('192.0.2.1', undefined)).toEqual({ destination: net('0.0.0.0', 0), gateway: '192.0.2.1' });
    expect(defaultRoute('fe80::1', 7)).toEqual({ destination: net('::', 0), gateway: 'fe80::1', metric: 7 });
  });
});

describe('what is asked', () => {
  test.each([
    ['192.0.2.1', { by: 'ping', address: '192.0.2.1' }],
    ['2001:db8::1', { by: 'ping', address: '2001:db8::1' }],
    ['arp 192.0.2.1', { by: 'arp', address: '192.0.2.1' }],
    ['tcp 10.0.0.5:2049', { by: 'tcp', address: '10.0.0.5', port: 2049 }],
    ['tcp [2001:db8::5]:1', { by: 'tcp', address: '2001:db8::5', port: 1 }],
  ])('%j', (text, target) => expect(parseTarget(text)).toEqual(target));
  test.each([
    '',
    'nas',
    'tcp nas:1',
    'tcp 10.0.0.5',
    'tcp 10.0.0.5:0',
    'tcp 10.0.0.5:65536',
    'tcp [10.0.0.5]:1',
    '-c1',
  ])('none: %j', (text) => expect(parseTarget(text)).toBeUndefined());
});

test('whatever stands there: none, or what says the same again', () => {
  const word = fc.constantFrom(
    'default',
    'via',
    'metric',
    '10.0.0.1',
    '10.0.0.0/8',
    'fe80::1',
    '::/0',
    '5',
    'tcp',
    '/',
    ':',
    '',
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(fc.oneof(word, fc.string({ maxLength: 4 }))).map((words) => words.join(' ')),
  );
  fc.assert(
    fc.property(text, (one) => {
      const route = parseRouteText(one);
      if (route !== undefined) {
        const { destination, gateway, metric } = route;
        const again = `${destination.address}/${destination.length}${gateway ? ` via ${gateway}` : ''}${metric === undefined ? '' : ` metric ${metric}`}`;
        expect(parseRouteText(again)).toEqual(route);
      }
      const target = parseTarget(one);
      if (target !== undefined) expect(target.address).toMatch(/^[0-9a-fA-F.:%a-z]+$/);
    }),
    { numRuns: 2_000 },
  );
});
