/** Addresses, routes, rules and proxied neighbours of the real kernel, read back by ip. */
import { readFileSync, writeFileSync } from 'node:fs';
import { execaSync } from 'execa';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Kernel } from '../../src/network/kernel.js';
import { type Family, formatPrefix, type Prefix, parsePrefix } from '../../src/network/prefix.js';
import { isSameRoute, type Route } from '../../src/network/routes.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { addVif, clearLinks, ip, showAddresses } from './namespace.js';

const kernel = new Kernel();
const prefix = (text: string) => parsePrefix(text) as Prefix;
const ipJson = (...args: string[]) => JSON.parse(execaSync('ip', ['-j', ...args]).stdout || '[]');
let link: Link;

beforeEach(async () => {
  clearLinks();
  addVif('vif1.0');
  ip('link', 'set', 'vif1.0', 'up');
  link = (await kernel.getLink('vif1.0')) as Link;
});
afterEach(() => kernel.close());

describe('routes', () => {
  const cases: [text: string, route: Omit<Route, 'ifindex'>, shown: object][] = [
    ['a host', { destination: prefix('192.0.2.7') }, { dst: '192.0.2.7', scope: 'link' }],
    ['bits behind the prefix are cut', { destination: prefix('10.1.2.3/8') }, { dst: '10.0.0.0/8' }],
    ['metric and table', { destination: prefix('192.0.2.8'), metric: 7, table: 1000 }, { metric: 7, table: '1000' }],
    ['IPv6', { destination: prefix('2001:db8::7') }, { dst: '2001:db8::7', metric: 1024 }],
    [
      'IPv6 with a metric',
      { destination: prefix('2001:db8:1::/64'), metric: 5 },
      { dst: '2001:db8:1::/64', metric: 5 },
    ],
  ];
  test.each(cases)('%s: made, seen by ip, read back, removed', async (_, part, shown) => {
    const route = { ...part, ifindex: link.ifindex };
    const family = route.destination.family === 'ipv6' ? '-6' : '-4';
    await kernel.addRoute(link, route);
    const found = () => ipJson(family, 'route', 'show', 'table', 'all', 'proto', '118');
    expect(found()).toEqual([expect.objectContaining({ dev: 'vif1.0', ...shown })]);
    const seen = (await kernel.listRoutes(route.destination.family)).filter((one) => isSameRoute(route, one));
    expect(seen).toEqual([expect.objectContaining({ protocol: 118 })]);
    await expect(kernel.addRoute(link, route)).rejects.toMatchObject({ code: 'EEXIST' });
    await kernel.deleteRoute(link, route);
    expect(found()).toEqual([]);
    await kernel.deleteRoute(link, route);
  });

  test('by a gateway, as default, from an address', async () => {
    await kernel.addAddress(link, prefix('10.0.0.1/24'));
    const route = { destination: prefix('0.0.0.0/0'), gateway: '10.0.0.9', source: '10.0.0.1', ifindex: link.ifindex };
    await kernel.addRoute(link, route);
    expect(ipJson('-4', 'route', 'show', 'default')).toEqual([
      expect.objectContaining({ gateway: '10.0.0.9', prefsrc: '10.0.0.1', dev: 'vif1.0' }),
    ]);
    expect((await kernel.listRoutes('ipv4')).some((seen) => isSameRoute(route, seen))).toBe(true);
    expect((await kernel.listRoutes('ipv4')).some((seen) => isSameRoute({ ...route, gateway: '10.0.0.8' }, seen))).toBe(
      false,
    );
  });

  test('to an interface that is down: the kernel says no', async () => {
    ip('link', 'set', 'vif1.0', 'down');
    const route = { destination: prefix('192.0.2.7'), ifindex: link.ifindex };
    await expect(kernel.addRoute(link, route)).rejects.toMatchObject({ code: 'ENETDOWN' });
  });
});

describe('of many, only those that are asked for', () => {
  const own = [prefix('192.0.2.7'), prefix('2001:db8::7'), prefix('2001:db8:7::/64')];
  const others = Array.from({ length: 20 }, (_, i) => [prefix(`198.51.100.${i}`), prefix(`2001:db8:8::${i}`)]).flat();
  const texts = (prefixes: readonly Prefix[]) => prefixes.map(formatPrefix).sort();
  const both = async <T>(list: (family: Family) => Promise<T[]>) => [...(await list('ipv4')), ...(await list('ipv6'))];
  let other: Link;
  beforeEach(async () => {
    addVif('vif2.0');
    ip('link', 'set', 'vif2.0', 'up');
    other = (await kernel.getLink('vif2.0')) as Link;
  });

  test('routes that lead to an interface, whoever made them, and default routes; or those of a maker', async () => {
    const routeAll = async ({ ifindex, ifname }: Link, prefixes: readonly Prefix[]) => {
      for (const destination of prefixes) await kernel.addRoute({ ifindex, ifname }, { destination, ifindex });
    };
    await routeAll(link, own);
    await routeAll(other, others);
    ip('route', 'add', '203.0.113.0/24', 'dev', 'vif1.0', 'proto', 'static');
    ip('route', 'add', 'default', 'dev', 'vif2.0', 'metric', '7');
    const found = await both((family) => kernel.listRoutes(family, link));
    const away = found.filter(({ ifindex }) => ifindex !== link.ifindex);
    expect(away).toEqual([expect.objectContaining({ metric: 7, destination: prefix('0.0.0.0/0') })]);
    const here = found.filter(({ ifindex, protocol }) => ifindex === link.ifindex && protocol !== 2); // not fe80::/64
    expect(texts(here.map(({ destination }) => destination))).toEqual(texts([...own, prefix('203.0.113.0/24')]));
    const made = await both((family) => kernel.listRoutes(family, { protocol: 118 }));
    expect(texts(made.map(({ destination }) => destination))).toEqual(texts([...own, ...others]));
  });

  test('rules and answers for an address', async () => {
    for (const from of [...own, ...others]) await kernel.addRule({ from, table: 1007, priority: 1000 });
    for (const { address } of [...own, ...others]) await kernel.addProxy(other, address);
    const rules = await both((family) => kernel.listRules(family, own));
    expect(texts(rules.map(({ from }) => from))).toEqual(texts(own));
    const proxies = await both((family) => kernel.listProxies(family, own));
    expect(proxies.map(({ address }) => address).sort()).toEqual(own.map(({ address }) => address).sort());
    for (const rule of await both((family) => kernel.listRules(family))) await kernel.deleteRule(rule);
    expect(await both((family) => kernel.listRules(family))).toEqual([]);
  });

  test('a rule for all addresses', async () => {
    const rule = { from: prefix('0.0.0.0/0'), table: 1007, priority: 1000 };
    await kernel.addRule(rule);
    expect(await kernel.listRules('ipv4', [rule.from])).toEqual([rule]);
    await kernel.deleteRule(rule);
  });
});

test('addresses: added, can be used at once, and once more is no error', async () => {
  for (const one of ['192.0.2.1/24', '2001:db8::1/64', '192.0.2.1/24']) await kernel.addAddress(link, prefix(one));
  const shown = showAddresses('vif1.0').map(String);
  expect(shown.join()).toContain('192.0.2.1');
  expect(execaSync('ip', ['-6', 'addr', 'show', 'dev', 'vif1.0']).stdout).toMatch(/2001:db8::1\/64 scope global nodad/);
});

test.each(['192.0.2.0/24', '2001:db8:7::/64'])('the rule from %s', async (from) => {
  const rule = { from: prefix(from), table: 1007, priority: 1000 };
  const flag = from.includes(':') ? '-6' : '-4';
  await kernel.addRule(rule);
  await kernel.addRule(rule);
  expect(execaSync('ip', [flag, 'rule']).stdout).toContain(`1000:\tfrom ${from} lookup 1007 proto 118`);
  expect(await kernel.listRules(rule.from.family)).toEqual([rule]);
  await kernel.deleteRule(rule);
  await kernel.deleteRule(rule);
  expect(await kernel.listRules(rule.from.family)).toEqual([]);
});

test.each(['192.0.2.9', '2001:db8::9'])('a proxied neighbour: %s', async (address) => {
  const family = address.includes(':') ? 'ipv6' : 'ipv4';
  await kernel.addProxy(link, address);
  expect(execaSync('ip', ['neigh', 'show', 'proxy']).stdout).toMatch(`${address} dev vif1.0`);
  expect(await kernel.listProxies(family)).toEqual([{ address, ifindex: link.ifindex, protocol: 118 }]);
  await kernel.deleteProxy(link, address);
  await kernel.deleteProxy(link, address);
  expect(await kernel.listProxies(family)).toEqual([]);
});

test('a rule that looks no default route up', async () => {
  const rule = { from: prefix('192.0.2.7'), table: 254, priority: 1000, skipDefault: true };
  await kernel.addRule(rule);
  expect(execaSync('ip', ['rule']).stdout).toContain('from 192.0.2.7 lookup main suppress_prefixlength 0 proto 118');
  expect(await kernel.listRules('ipv4')).toEqual([rule]);
  await kernel.deleteRule(rule);
  expect(await kernel.listRules('ipv4')).toEqual([]);
});

test('what an interface does with IP is set without /proc, and read with the link', async () => {
  const conf = (path: string) => readFileSync(`/proc/sys/net/${path}`, 'utf8').trim();
  expect(link.ipv4).toEqual({
    forwarding: false,
    proxyArp: false,
    rpFilter: Number(conf('ipv4/conf/vif1.0/rp_filter')),
  });
  await kernel.setLink(link, { forwarding: true, proxyArp: true, rpFilter: 2 });
  const names = ['forwarding', 'proxy_arp', 'rp_filter'];
  expect(names.map((name) => conf(`ipv4/conf/vif1.0/${name}`))).toEqual(['1', '1', '2']);
  expect((await kernel.getLink('vif1.0'))?.ipv4).toEqual({ forwarding: true, proxyArp: true, rpFilter: 2 });
  expect(link.ipv6).toEqual({ forwarding: false, proxyNdp: false, disabled: false });
  writeFileSync('/proc/sys/net/ipv6/conf/vif1.0/proxy_ndp', '1');
  writeFileSync('/proc/sys/net/ipv6/conf/vif1.0/forwarding', '1');
  expect((await kernel.getLink('vif1.0'))?.ipv6).toEqual({ forwarding: true, proxyNdp: true, disabled: false });
  writeFileSync('/proc/sys/net/ipv6/conf/vif1.0/disable_ipv6', '1');
  expect((await kernel.getLink('vif1.0'))?.ipv6?.disabled).toBe(true);
});
