/** Declared bridges on the real kernel, read back by ip; the gateway is another namespace behind the card. */
import { execaSync } from 'execa';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { configOf, type DeclaredBridge } from '../../src/config/schema.js';
import { DeclaredBridges } from '../../src/declared/bridges.js';
import { NetlinkError } from '../../src/errors.js';
import { HostKernel } from '../../src/network/host-kernel.js';
import type { LinkName } from '../../src/network/kernel.js';
import type { LinkChange } from '../../src/network/rtnetlink.js';
import { addVif, clearLinks, ip, showAddresses, showLink } from './namespace.js';
import { addPeer, removePeers } from './peer.js';

/** To it, gateways are silent on one interface, or ports stay for ever. */
class DeafKernel extends HostKernel {
  deafOn: string | undefined;
  keepsPorts = false;
  override async setLink(link: LinkName, change: LinkChange) {
    if (this.keepsPorts && change.master === 0) throw new NetlinkError('EBUSY', 'set master=0 of', link.ifname, 16);
    return super.setLink(link, change);
  }
  override getNeighbour(link: LinkName, address: string) {
    return link.ifname === this.deafOn ? Promise.resolve('silent' as const) : super.getNeighbour(link, address);
  }
}

const kernel = new DeafKernel();
let log: { level: string; msg: string }[];
let bridges: DeclaredBridges;
const logger = () =>
  pino(
    { base: null, formatters: { level: (level) => ({ level }) } },
    { write: (line: string) => void log.push(JSON.parse(line)) },
  );

beforeEach(() => {
  clearLinks();
  kernel.deafOn = undefined;
  log = [];
  bridges = new DeclaredBridges(kernel, logger());
});
afterEach(async () => {
  await bridges.stop();
  removePeers();
  kernel.close();
});

/** As the files would give it. */
function declared(name: string, settings: Record<string, unknown>): DeclaredBridge[] {
  const values = Object.entries(settings).map(([setting, value]) => ({ table: 'bridge', name, setting, value }));
  return [...configOf(values).bridges];
}
const said = (level: string) => log.filter((line) => line.level === level).map(({ msg }) => msg);
const routes = (family = '-4') =>
  (JSON.parse(ip('-j', family, 'route', 'show')) as { dst: string; gateway?: string; dev: string }[])
    .filter(({ gateway }) => gateway !== undefined)
    .map(({ dst, gateway, dev }) => `${dst} via ${gateway} dev ${dev}`);
const global = (ifname: string) => showAddresses(ifname).filter((address) => !address.startsWith('fe80'));
const ping = (address: string) => execaSync('ping', ['-c1', '-W2', address], { reject: false }).exitCode;

/** What ip monitor sees meanwhile. */
async function changesDuring(work: () => Promise<unknown>): Promise<string> {
  const monitor = (await import('execa')).execa('ip', ['monitor', 'link', 'address', 'route'], { reject: false });
  await new Promise((resolve) => setTimeout(resolve, 300));
  await work();
  await new Promise((resolve) => setTimeout(resolve, 200));
  monitor.kill();
  return (await monitor).stdout;
}

test('a bridge is made with all that is declared, and a second look changes nothing', async () => {
  addPeer('eth7');
  addPeer('eth8');
  const want = declared('br_lan', {
    ports: ['eth7', 'eth8'],
    addresses: ['192.0.2.4/24', '2001:db8::4/64'],
    gateway: ['192.0.2.1', '2001:db8::1'],
    metric: 50,
    mtu: 1400,
    stp: true,
    forward_delay: 2,
    multicast_snooping: false,
  });
  await bridges.look(want);
  expect(said('warn')).toEqual([]);
  expect(showLink('br_lan')).toMatchObject({
    mtu: 1400,
    address: showLink('eth7')?.address,
    flags: expect.arrayContaining(['UP']),
    linkinfo: { info_data: { stp_state: 1, forward_delay: 200, mcast_snooping: 0 } },
  });
  for (const card of ['eth7', 'eth8']) expect(showLink(card)).toMatchObject({ master: 'br_lan', mtu: 1400 });
  expect(global('br_lan')).toEqual(['192.0.2.4/24', '2001:db8::4/64']);
  expect([...routes(), ...routes('-6')]).toEqual([
    'default via 192.0.2.1 dev br_lan',
    'default via 2001:db8::1 dev br_lan',
  ]);
  const again = new DeclaredBridges(kernel, logger());
  log = [];
  // What is under way by itself would come in the middle of it otherwise: link-local addresses, and STP.
  const underWay = () =>
    ip('-6', 'address', 'show', 'tentative') + ip('-d', 'link').match(/state (listening|learning)/g);
  await expect.poll(underWay, { timeout: 10_000 }).toBe('null');
  expect(await changesDuring(() => again.look(want))).toBe('');
  expect(log).toEqual([]);
});

test('what drifted is put right, what is not declared stays', async () => {
  addPeer('eth7');
  const want = declared('br_lan', { ports: 'eth7', addresses: '192.0.2.4/24', gateway: '192.0.2.1' });
  await bridges.look(want);
  ip('addr', 'add', '198.51.100.1/24', 'dev', 'br_lan');
  ip('addr', 'del', '192.0.2.4/24', 'dev', 'br_lan'); // the route goes with it
  ip('link', 'set', 'eth7', 'nomaster');
  ip('link', 'set', 'br_lan', 'down');
  await bridges.look(want);
  expect(global('br_lan').sort()).toEqual(['192.0.2.4/24', '198.51.100.1/24']);
  expect(showLink('eth7')?.master).toBe('br_lan');
  expect(routes()).toEqual(['default via 192.0.2.1 dev br_lan']);
});

test('another gateway after a reload takes the place of the one before', async () => {
  addPeer('eth7');
  await bridges.look(declared('br_lan', { ports: 'eth7', addresses: '192.0.2.4/24', gateway: '192.0.2.1' }));
  await bridges.look(declared('br_lan', { ports: 'eth7', addresses: '192.0.2.4/24', gateway: '192.0.2.2' }));
  expect(routes()).toEqual(['default via 192.0.2.2 dev br_lan']);
});

test('a gateway that is nowhere near: the rest is done, and the sentence says what is wrong, once', async () => {
  addPeer('eth7');
  const want = declared('br_lan', { ports: 'eth7', addresses: '192.0.2.4/24', gateway: '198.51.100.1' });
  await bridges.look(want);
  await bridges.look(want);
  expect(global('br_lan')).toEqual(['192.0.2.4/24']);
  expect(said('info')).toEqual([
    '[bridge.br_lan]: bridge br_lan made, br_lan up, eth7 joined br_lan, 192.0.2.4/24 on br_lan',
  ]);
  expect(said('warn')).toEqual([
    '[bridge.br_lan]: the kernel refused to add the route 0.0.0.0/0 via 198.51.100.1 to br_lan: ENETUNREACH (the gateway is in no network that the interface has an address of; correct the gateway, or the length in addresses)',
  ]);
});

test("another's default route stays, and is named", async () => {
  addPeer('eth6');
  addPeer('eth7');
  ip('addr', 'add', '198.51.100.4/24', 'dev', 'eth6');
  ip('route', 'add', 'default', 'via', '198.51.100.1');
  await bridges.look(declared('br_lan', { ports: 'eth7', addresses: '192.0.2.4/24', gateway: '192.0.2.1' }));
  expect(routes()).toEqual(['default via 198.51.100.1 dev eth6']);
  expect(said('warn')).toEqual([
    '[bridge.br_lan]: the route 0.0.0.0/0 via 198.51.100.1 through eth6 stands in the way of the one in [bridge.br_lan]; give that another metric',
  ]);
});

describe('a card', () => {
  test('that is not there is named once and joins when it appears', async () => {
    const want = declared('br_lan', { ports: 'eth7', addresses: '192.0.2.4/24' });
    await bridges.look(want);
    await bridges.look(want);
    expect(said('warn')).toEqual(['[bridge.br_lan]: eth7 is not there; it joins br_lan when it appears']);
    expect(global('br_lan')).toEqual(['192.0.2.4/24']);
    addPeer('eth7');
    await bridges.look(want);
    expect(showLink('eth7')?.master).toBe('br_lan');
  });

  test('that is a port elsewhere is left there', async () => {
    addPeer('eth7');
    ip('link', 'add', 'br1', 'type', 'bridge');
    ip('link', 'set', 'eth7', 'master', 'br1');
    await bridges.look(declared('br_lan', { ports: 'eth7' }));
    expect(showLink('eth7')?.master).toBe('br1');
    expect(said('warn')).toEqual([
      '[bridge.br_lan]: eth7 is a port of br1; it can join br_lan after: ip link set eth7 nomaster',
    ]);
  });

  test('moves with its addresses and routes, and the gateway answers there', async () => {
    const peer = addPeer('eth7', '192.0.2.1/24', '2001:db8::1/64', '10.9.9.9/32');
    for (const address of ['192.0.2.4/24', '192.0.2.5/24', '198.51.100.4/32'])
      ip('addr', 'add', address, 'dev', 'eth7');
    ip('addr', 'add', '2001:db8::4/64', 'dev', 'eth7', 'nodad');
    ip('route', 'add', '203.0.113.1', 'dev', 'eth7', 'proto', 'static');
    ip('route', 'add', 'default', 'via', '203.0.113.1', 'metric', '9', 'dev', 'eth7', 'proto', 'dhcp');
    ip('route', 'add', 'default', 'via', '192.0.2.1', 'src', '192.0.2.5');
    ip('route', 'add', '10.9.9.9', 'via', '192.0.2.1', 'table', '77');
    ip('-6', 'route', 'add', 'default', 'via', '2001:db8::1');
    const before = JSON.parse(ip('-j', 'route', 'show', 'table', 'all')) as { dev: string; protocol: string }[];
    const mac = showLink('eth7')?.address;
    await bridges.look(declared('br_lan', { ports: 'eth7', rollback: 5 }));
    expect(global('eth7')).toEqual([]);
    expect(global('br_lan').sort()).toEqual(['192.0.2.4/24', '192.0.2.5/24', '198.51.100.4/32', '2001:db8::4/64']);
    const after = JSON.parse(ip('-j', 'route', 'show', 'table', 'all')) as { dev: string; protocol: string }[];
    const kept = (all: typeof before, dev: string) =>
      all.filter((one) => one.dev === dev && one.protocol !== 'kernel').map((one) => ({ ...one, dev: '', flags: 0 }));
    expect(kept(before, 'eth7')).toHaveLength(5);
    expect(kept(after, 'br_lan')).toEqual(kept(before, 'eth7'));
    expect(kept(after, 'eth7')).toEqual([]);
    expect(routes('-6')).toEqual(['default via 2001:db8::1 dev br_lan']);
    expect(showLink('br_lan')?.address).toBe(mac);
    expect([ping('192.0.2.1'), ping('2001:db8::1'), ping('10.9.9.9')]).toEqual([0, 0, 0]);
    await expect
      .poll(() => said('info').at(-1), { timeout: 5_000 })
      .toBe('[bridge.br_lan]: 192.0.2.1, 2001:db8::1 answers there, too');
    expect(peer.ip('neigh')).toContain(mac);
  });

  test('and all is put back when the gateway is silent there, and tried again after a reload', async () => {
    addPeer('eth7', '192.0.2.1/24');
    ip('addr', 'add', '192.0.2.4/24', 'dev', 'eth7');
    ip('route', 'add', 'default', 'via', '192.0.2.1', 'proto', 'static');
    const before = ip('route');
    const want = declared('br_lan', { ports: 'eth7', addresses: '192.0.2.9/24', rollback: 1 });
    kernel.deafOn = 'br_lan';
    await bridges.look(want);
    expect(showLink('eth7')?.master).toBe('br_lan');
    expect(global('br_lan').sort()).toEqual(['192.0.2.4/24', '192.0.2.9/24']);
    await expect.poll(() => said('error'), { timeout: 5_000 }).toHaveLength(1);
    expect(said('error')[0]).toBe(
      '[bridge.br_lan]: 192.0.2.1 answered before and has been silent for 1 s; all is put back until the next start or reload. To have it nevertheless: rollback = 0',
    );
    const isPutBack = () => {
      expect(global('eth7')).toEqual(['192.0.2.4/24']);
      expect(global('br_lan')).toEqual([]);
      expect(showLink('eth7')?.master).toBeUndefined();
      expect(ip('route')).toBe(before);
      expect(ping('192.0.2.1')).toBe(0);
    };
    isPutBack();
    await bridges.look(want);
    isPutBack();
    kernel.deafOn = undefined;
    bridges.retry();
    await bridges.look(want);
    expect(showLink('eth7')?.master).toBe('br_lan');
    await expect.poll(() => said('info').at(-1)).toBe('[bridge.br_lan]: 192.0.2.1 answers there, too');
  });

  test('without a limit it stays moved, whoever is silent', async () => {
    addPeer('eth7', '192.0.2.1/24');
    ip('addr', 'add', '192.0.2.4/24', 'dev', 'eth7');
    ip('route', 'add', 'default', 'via', '192.0.2.1');
    kernel.deafOn = 'br_lan';
    await bridges.look(declared('br_lan', { ports: 'eth7', rollback: 0 }));
    await bridges.stop();
    expect(said('error')).toEqual([]);
    expect(routes()).toEqual(['default via 192.0.2.1 dev br_lan']);
  });

  test('that moves while vifd is told to end, before the gateway has answered: all is put back', async () => {
    addPeer('eth7', '192.0.2.1/24');
    ip('addr', 'add', '192.0.2.4/24', 'dev', 'eth7');
    ip('route', 'add', 'default', 'via', '192.0.2.1');
    kernel.deafOn = 'br_lan';
    await bridges.look(declared('br_lan', { ports: 'eth7', rollback: 60 }));
    expect(routes()).toEqual(['default via 192.0.2.1 dev br_lan']);
    await bridges.stop();
    expect(said('error')).toEqual([
      '[bridge.br_lan]: vifd ends before 192.0.2.1 has answered; all is put back until the next start or reload. To have it nevertheless: rollback = 0',
    ]);
    expect(routes()).toEqual(['default via 192.0.2.1 dev eth7']);
  });

  test('and cannot be put back: both reasons are said', async () => {
    addPeer('eth7', '192.0.2.1/24');
    ip('addr', 'add', '192.0.2.4/24', 'dev', 'eth7');
    ip('route', 'add', 'default', 'via', '192.0.2.1');
    kernel.deafOn = 'br_lan';
    kernel.keepsPorts = true;
    onTestFinished(() => {
      kernel.keepsPorts = false;
    });
    await bridges.look(declared('br_lan', { ports: 'eth7', rollback: 60 }));
    await bridges.stop();
    expect(said('error')).toEqual([
      '[bridge.br_lan]: vifd ends before 192.0.2.1 has answered; and it cannot be put back: the kernel refused to set master=0 of eth7: EBUSY (busy). Look at it with: ip addr; ip route',
    ]);
  });

  test('a step that the kernel refuses midway: all is put back', async () => {
    addPeer('eth7', '192.0.2.1/24');
    ip('link', 'add', 'br_lan', 'type', 'bridge');
    ip('link', 'add', 'mv0', 'link', 'br_lan', 'type', 'macvlan');
    ip('addr', 'add', '192.0.2.4/24', 'dev', 'mv0');
    ip('link', 'set', 'mv0', 'up');
    ip('route', 'add', 'default', 'via', '192.0.2.1', 'dev', 'mv0', 'onlink');
    await bridges.look(declared('br_lan', { ports: 'mv0' }));
    expect(said('error')).toEqual([
      expect.stringMatching(
        /^\[bridge.br_lan\]: the kernel refused to set master=\d+ of mv0: (EBUSY|ELOOP) .*; all is put back until the next start or reload/,
      ),
    ]);
    expect(global('mv0')).toEqual(['192.0.2.4/24']);
    expect(global('br_lan')).toEqual([]);
  });
});

test('an interface of that name that is no bridge', async () => {
  addVif('br_lan', 'g1');
  await bridges.look(declared('br_lan', { stp: false }));
  expect(said('warn')).toEqual(['[bridge.br_lan]: br_lan is there and is no bridge; name [bridge.br_lan] otherwise']);
});

test('what this kernel does not do is said', async () => {
  const canFilter = execaSync('ip', ['link', 'add', 'brx', 'type', 'bridge', 'vlan_filtering', '1'], { reject: false });
  await bridges.look(declared('br_lan', { vlan_filtering: true }));
  const sentence =
    /the kernel refused to make the bridge br_lan: E\w*NOTSUP\w* .*|this kernel did not keep to it: vlanFiltering=true/;
  expect(said('warn')).toEqual(canFilter.failed ? [expect.stringMatching(sentence)] : []);
});
