/** Routed vifs and NAT, by packets of guests in namespaces of their own, to each other and to what lies outside. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa, execaSync } from 'execa';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { vethLinks } from '../../src/simulator/links.js';
import { addOutside, Namespace } from '../netns/guests.js';
import { ip, showAddresses, showLink } from '../netns/namespace.js';
import { AgentProcess, eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
const nft = (...args: string[]) => execaSync('nft', args, { reject: false }).stdout;
const sysctl = (name: string, value?: string): string => {
  if (value !== undefined) writeFileSync(`/proc/sys/net/${name}`, value);
  return readFileSync(`/proc/sys/net/${name}`, 'utf8').trim();
};
const MAC = '00:16:3e:00:05:00';

/** All that a routed vif can leave behind. */
const traces = () =>
  [
    ...['-4', '-6'].flatMap((family) => [
      ip(family, 'route', 'show', 'table', 'all', 'proto', '118'),
      ip(family, 'rule', 'show'),
      ip(family, 'neigh', 'show', 'proxy'),
    ]),
    nft('list', 'ruleset'),
  ]
    .join('\n')
    .split('\n')
    .filter((line) => /proto 118|vif\d+\.|guard_|masquerade_/.test(line));

/** Guests by their domain id and device: eth0 of each is the other end of its vif. */
const guests = new Map<string, Namespace>();

async function start(config = '', ...names: string[]): Promise<void> {
  guests.clear();
  for (const name of names) guests.set(name, await Namespace.start());
  const links = vethLinks({ guestEnd: (ifname) => ({ netns: (guests.get(ifname) as Namespace).pid, ifname: 'eth0' }) });
  await world.start({ agent: false, netback: { links } });
  await startAgent(config);
}

async function startAgent(config = ''): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'vifd.toml');
  writeFileSync(file, config);
  await world.startAgent('-c', file);
  return file;
}
const socket = () => world.host.socketOf(NICDOM);
const guest = (name: string) => guests.get(name) as Namespace;

beforeEach(() => {
  nft('flush', 'ruleset');
  sysctl('ipv4/ip_forward', '0'); // takes all interfaces along
  sysctl('ipv6/conf/all/forwarding', '0');
  sysctl('ipv4/ip_forward', '1');
  sysctl('ipv6/conf/all/forwarding', '1');
});

describe('a routed vif', () => {
  const ADDRESSES = ['203.0.113.7', '203.0.113.8', '198.51.100.9', '2001:db8:ff::7', '2001:db8:7::7'];

  async function routed(config = '') {
    const outside = await addOutside(
      'eth0',
      ['203.0.113.1/24', '2001:db8:ff::1/64'],
      ['203.0.113.2/24', '2001:db8:ff::2/64'],
    );
    outside.ip('route', 'add', '198.51.100.0/24', 'via', '203.0.113.1');
    outside.ip('route', 'add', '2001:db8:7::/48', 'via', '2001:db8:ff::1');
    sysctl('ipv6/conf/eth0/proxy_ndp', '1');
    await start(config, 'vif5.0');
    await world.host.createGuest(5, [{ script: 'vif-route', mac: MAC, ip: ADDRESSES.join(' ') }]);
    await world.connected(5);
    return outside;
  }

  function configure(): void {
    for (const address of ADDRESSES)
      guest('vif5.0').ip('addr', 'add', address, 'dev', 'eth0', ...(address.includes(':') ? ['nodad'] : []));
    guest('vif5.0').configure(
      'ip route add default via 203.0.113.1 dev eth0 onlink; ip -6 route add default via fe80::1 dev eth0 onlink',
    );
  }

  test('five addresses of two families, each to and from outside, also those that are in the network of the uplink', async () => {
    const outside = await routed();
    guest('vif5.0').ip('link', 'set', 'eth0', 'addrgenmode', 'none');
    const told = await execa(process.execPath, ['dist/main.js', 'explain', '5/0', '--json', '--xenstore', socket()], {
      reject: false,
    });
    const [, snippet = ''] = /inside a Linux guest: ([^"]*)/.exec(told.stdout) ?? [];
    guest('vif5.0').configure(snippet);
    await eventually(() => !guest('vif5.0').ip('addr', 'show', 'dev', 'eth0').includes('tentative'));
    for (const address of ADDRESSES) {
      const target = address.includes(':') ? '2001:db8:ff::2' : '203.0.113.2';
      await eventually(
        () => guest('vif5.0').reaches(target, '-I', address),
        10_000,
        () => `from ${address}`,
      );
      await eventually(
        () => outside.reaches(address),
        10_000,
        () => `to ${address}`,
      );
    }
    expect(showAddresses('vif5.0').sort()).toEqual(['203.0.113.1/32', 'fe80::1/64']);
    expect(showLink('vif5.0')).toMatchObject({ mtu: 1500, txqlen: 1000 });
    expect(showLink('vif5.0')?.master).toBeUndefined();
    expect(['forwarding', 'proxy_arp', 'rp_filter'].map((name) => sysctl(`ipv4/conf/vif5.0/${name}`))).toEqual([
      '1',
      '1',
      '1',
    ]);
    expect(ip('route', 'show', 'dev', 'vif5.0')).toMatch(/^203\.0\.113\.7 proto 118 scope link src 203\.0\.113\.1 *$/m);
    expect(world.agent.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });

  test('what it sends with the address of another is dropped, by the guard and not only by the missing way back', async () => {
    const outside = await routed();
    configure();
    outside.ip('route', 'add', '192.0.2.0/24', 'via', '203.0.113.1');
    ip('route', 'add', '192.0.2.66', 'dev', 'vif5.0'); // there is a way back, so rp_filter has nothing against it
    guest('vif5.0').ip('addr', 'add', '192.0.2.66/32', 'dev', 'eth0');
    guest('vif5.0').ip('addr', 'add', '2001:db8:7::66/128', 'dev', 'eth0', 'nodad');
    ip('-6', 'route', 'add', '2001:db8:7::66', 'dev', 'vif5.0');
    await eventually(() => guest('vif5.0').reaches('203.0.113.2', '-I', '203.0.113.7'), 10_000);
    expect(await guest('vif5.0').reaches('203.0.113.2', '-I', '192.0.2.66')).toBe(false);
    expect(await guest('vif5.0').reaches('2001:db8:ff::2', '-I', '2001:db8:7::66')).toBe(false);
    nft('delete', 'table', 'inet', 'vifd');
    expect(await guest('vif5.0').reaches('203.0.113.2', '-I', '192.0.2.66')).toBe(true);
    expect(await guest('vif5.0').reaches('2001:db8:ff::2', '-I', '2001:db8:7::66')).toBe(true);
  });

  test('after a kill nothing is changed, what others undo is done again, and with the vif all goes', async () => {
    await routed('[vif]\nsource_table = 100\n');
    await world.until(5, 0, 'state', '4');
    const before = traces();
    expect(before.filter((line) => line.includes('lookup 100'))).toHaveLength(5);
    expect(before.filter((line) => line.includes(' proxy'))).toHaveLength(3);
    await world.agent.kill('SIGKILL');
    await startAgent('[vif]\nsource_table = 100\n');
    const { did } = await world.agent.saw(({ msg }) =>
      msg.includes('is connected to routes for 203.0.113.7, 203.0.113.8,'),
    );
    expect(did).toEqual([]);
    expect(traces()).toEqual(before);
    ip('route', 'del', '203.0.113.7');
    ip('-6', 'route', 'del', '2001:db8:7::7');
    ip('addr', 'del', '203.0.113.1/32', 'dev', 'vif5.0');
    ip('rule', 'del', 'from', '203.0.113.8', 'lookup', '100');
    ip('neigh', 'del', 'proxy', '203.0.113.8', 'dev', 'eth0');
    execaSync('ip', ['link', 'set', 'vif5.0', 'txqueuelen', '7']); // has vifd look; else it does so every 20 s
    await eventually(
      () => traces().sort().join('\n') === [...before].sort().join('\n'),
      5_000,
      () => `${traces().join('\n')}\ninstead of\n${before.join('\n')}`,
    );
    await world.host.detachVif(5, 0);
    await eventually(
      () => traces().length === 0,
      5_000,
      () => traces().join('\n'),
    );
  }, 60_000);

  test('what outlived its vif while no agent ran goes at the start; rules and answers of others stay', async () => {
    await routed('[vif]\nsource_table = 100\n');
    ip('rule', 'add', 'from', '192.0.2.99', 'lookup', '100', 'priority', '50', 'protocol', '118');
    ip('neigh', 'add', 'proxy', '203.0.113.99', 'dev', 'eth0');
    await world.agent.kill('SIGKILL');
    ip('link', 'del', 'vif5.0');
    await world.host.destroyGuest(5).catch(() => undefined);
    expect(traces().length).toBeGreaterThan(5);
    await startAgent();
    await eventually(
      () => traces().length === 1,
      10_000,
      () => traces().join('\n'),
    );
    expect(traces()[0]).toContain('from 192.0.2.99 lookup 100');
    expect(ip('neigh', 'show', 'proxy')).toContain('203.0.113.99');
    ip('rule', 'del', 'priority', '50');
  }, 60_000);

  test("an address that is another interface's is an error that names both, and mended when it is free", async () => {
    await addOutside('eth0', ['203.0.113.1/24'], []);
    ip('route', 'add', '198.51.100.9', 'dev', 'eth0');
    await start('', 'vif5.0');
    await world.host.createGuest(5, [{ script: 'vif-route', mac: MAC, ip: '198.51.100.9' }]);
    await world.until(5, 0, 'hotplug-status', 'error');
    expect(await world.node(5, 0, 'hotplug-error')).toBe(
      '198.51.100.9 cannot be routed to vif5.0: it is routed to eth0 already',
    );
    const advice =
      'an address belongs to one vif; give another in ip=, or remove the route: ip route del 198.51.100.9 dev eth0';
    await world.agent.saw(({ msg }) => msg.includes(advice));
    ip('route', 'del', '198.51.100.9');
    await world.connected(5, 0, 10_000);
  });

  test("a guest that starts anew: its address is the old vif's until that is gone", async () => {
    await start('vif.gateway = "203.0.113.1"', 'vif5.0', 'vif6.0');
    await world.host.createGuest(5, [{ script: 'vif-route', mac: MAC, ip: '203.0.113.7' }]);
    await world.connected(5);
    void world.host.createGuest(6, [{ script: 'vif-route', mac: MAC, ip: '203.0.113.7' }]).catch(() => undefined);
    await world.until(6, 0, 'hotplug-status', 'error');
    expect(await world.node(6, 0, 'hotplug-error')).toBe(
      '203.0.113.7 cannot be routed to vif6.0: it is routed to vif5.0 already',
    );
    ip('link', 'del', 'vif5.0');
    await world.connected(6, 0, 2_000);
    expect(ip('route', 'get', '203.0.113.7')).toContain('dev vif6.0');
  });

  test('two vifs of one guest on one subnet, and guests that reach each other', async () => {
    await start('vif.gateway = "203.0.113.1"', 'vif5.0', 'vif5.1', 'vif6.0');
    await world.host.createGuest(5, [
      { script: 'vif-route', mac: MAC, ip: '203.0.113.7' },
      { script: 'vif-route', mac: '00:16:3e:00:05:01', ip: '203.0.113.8' },
    ]);
    await world.host.createGuest(6, [
      { script: 'vif-route', mac: '00:16:3e:00:06:00', ip: '203.0.113.9 2001:db8::9/128' },
    ]);
    for (const [domid, devid] of [
      [5, 0],
      [5, 1],
      [6, 0],
    ] as const)
      await world.connected(domid, devid);
    const owners = [
      ['vif5.0', '203.0.113.7'],
      ['vif5.1', '203.0.113.8'],
      ['vif6.0', '203.0.113.9'],
    ] as const;
    // On one subnet as the guests see it: they ask for each other by ARP, and vifd's proxy_arp answers.
    for (const [name, address] of owners) guest(name).ip('addr', 'add', `${address}/24`, 'dev', 'eth0');
    for (const [name] of owners)
      for (const [other, address] of owners)
        if (other !== name)
          await eventually(
            () => guest(name).reaches(address),
            10_000,
            () => `${name} to ${address}`,
          );
  }, 60_000);

  test('with a source table another way out for what comes from the guest; other guests stay reachable', async () => {
    await addOutside('eth0', ['203.0.113.1/24'], ['203.0.113.2/24']);
    const second = await addOutside('eth1', ['198.18.0.1/24'], ['198.18.0.2/24', '192.0.2.53/32']);
    second.ip('route', 'add', '203.0.113.0/24', 'via', '198.18.0.1');
    ip('route', 'add', 'default', 'via', '203.0.113.2');
    ip('route', 'add', 'default', 'via', '198.18.0.2', 'table', '100');
    await start('[rule.second]\nmatch.devid = 0\nmatch.domid = 5\nsource_table = 100\n', 'vif5.0', 'vif6.0');
    await world.host.createGuest(5, [{ script: 'vif-route', mac: MAC, ip: '203.0.113.7' }]);
    await world.host.createGuest(6, [{ script: 'vif-route', mac: '00:16:3e:00:06:00', ip: '203.0.113.8' }]);
    for (const [domid, address] of [
      [5, '203.0.113.7'],
      [6, '203.0.113.8'],
    ] as const) {
      await world.connected(domid);
      guest(`vif${domid}.0`).ip('addr', 'add', address, 'dev', 'eth0');
      guest(`vif${domid}.0`).ip('route', 'add', 'default', 'via', '203.0.113.1', 'dev', 'eth0', 'onlink');
    }
    await eventually(() => guest('vif5.0').reaches('192.0.2.53'), 10_000);
    expect(await guest('vif6.0').reaches('192.0.2.53')).toBe(false);
    expect(await guest('vif5.0').reaches('203.0.113.8')).toBe(true);
  }, 60_000);

  test('where IPv6 is off the guest has its IPv4, with a warning', async () => {
    sysctl('ipv6/conf/default/disable_ipv6', '1');
    onTestFinished(() => void sysctl('ipv6/conf/default/disable_ipv6', '0'));
    await start('vif.gateway = "203.0.113.1"', 'vif5.0');
    await world.host.createGuest(5, [{ script: 'vif-route', mac: MAC, ip: '203.0.113.7 2001:db8::7' }]);
    await world.connected(5);
    await world.agent.saw(({ msg }) =>
      msg.startsWith('vif5.0: IPv6 is off here, so 2001:db8::7 cannot be routed to the vif: see'),
    );
    expect(ip('route', 'show', 'dev', 'vif5.0')).toContain('203.0.113.7');
  });

  test('IPv4 forwarding of the uplink alone is enough, and nobody complains', async () => {
    const outside = await addOutside('eth0', ['203.0.113.1/24'], ['203.0.113.2/24']);
    sysctl('ipv4/ip_forward', '0');
    sysctl('ipv4/conf/eth0/forwarding', '1');
    await start('', 'vif5.0');
    await world.host.createGuest(5, [{ script: 'vif-route', mac: MAC, ip: '203.0.113.7' }]);
    await world.connected(5);
    guest('vif5.0').ip('addr', 'add', '203.0.113.7', 'dev', 'eth0');
    guest('vif5.0').ip('route', 'add', 'default', 'via', '203.0.113.1', 'dev', 'eth0', 'onlink');
    await eventually(() => outside.reaches('203.0.113.7'), 10_000);
    expect(world.agent.log.filter(({ level }) => level === 'warn')).toEqual([]);
    const doctor = async () => {
      const argv = ['dist/main.js', 'doctor', '--json', '--xenstore', socket()];
      const { findings } = JSON.parse((await execa(process.execPath, argv, { reject: false })).stdout);
      return findings.find(({ code }: { code: string }) => code === 'forwarding');
    };
    expect(await doctor()).toMatchObject({ severity: 'ok' });
    sysctl('ipv4/ip_forward', '1');
    sysctl('ipv4/conf/eth0/forwarding', '0');
    await eventually(async () => !(await outside.reaches('203.0.113.7')));
    expect(await doctor()).toMatchObject({
      severity: 'error',
      message: 'eth0 passes no IPv4 packets on, so no answers reach vif5.0',
    });
  });

  test('where the domain passes nothing on the log says what to do', async () => {
    sysctl('ipv4/ip_forward', '0');
    sysctl('ipv6/conf/all/forwarding', '0');
    await start('vif.gateway = "203.0.113.1"', 'vif5.0');
    await world.host.createGuest(5, [{ script: 'vif-route', mac: MAC, ip: '203.0.113.7 2001:db8::7' }]);
    await world.agent.saw(({ msg }) =>
      msg.includes('this domain passes no IPv4 packets on: sysctl -w net.ipv4.ip_forward=1'),
    );
    await world.agent.saw(({ msg }) =>
      msg.includes('passes no IPv6 packets on: sysctl -w net.ipv6.conf.all.forwarding=1'),
    );
  });

  test('from a bridge to routes and back by a reload, without a trace', async () => {
    await start('', 'vif5.0');
    await world.agent.kill('SIGTERM');
    const file = await startAgent('');
    await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '203.0.113.7 2001:db8::7' }]);
    await world.connected(5);
    expect(showLink('vif5.0')?.master).toBe('br0');
    writeFileSync(file, '[vif]\nmode = "routed"\ngateway = "203.0.113.1"\nsource_table = 9\n');
    process.kill(world.agent.pid, 'SIGHUP');
    await eventually(() => showLink('vif5.0')?.master === undefined);
    await eventually(() => traces().some((line) => line.includes('2001:db8::7')));
    writeFileSync(file, '');
    process.kill(world.agent.pid, 'SIGHUP');
    await eventually(() => showLink('vif5.0')?.master === 'br0');
    await eventually(() => !traces().some((line) => line.includes('proto 118')), 25_000);
    await eventually(() => !nft('list', 'table', 'inet', 'vifd').includes('vif5.0'));
    expect(showAddresses('vif5.0')).toEqual([]);
  }, 60_000);
});

test('by the script alone, without a daemon: routed, and gone without a trace', async () => {
  await addOutside('eth0', ['203.0.113.1/24'], ['203.0.113.2/24']);
  guests.set('vif5.0', await Namespace.start());
  const links = vethLinks({ guestEnd: () => ({ netns: guest('vif5.0').pid, ifname: 'eth0' }) });
  await world.start({ netback: { links } });
  await world.agent.kill('SIGTERM');
  const dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, 'vifd.toml'), 'vif.source_table = 100');
  void world.host.createGuest(5, [{ script: 'vif-route', mac: MAC, ip: '203.0.113.7' }]).catch(() => undefined);
  await world.until(5, 0, 'state', '2');
  await eventually(() => showLink('vif5.0'));
  const words = ['-c', join(dir, 'vifd.toml'), '--xenstore', world.host.socketOf(NICDOM)];
  const script = (command: string) =>
    execa(process.execPath, ['dist/main.js', 'vif-script', command, 'backend/vif/5/0', ...words], { reject: false });
  expect((await script('online')).stderr).toBe('');
  await world.connected(5);
  expect(traces().some((line) => line.includes('lookup 100'))).toBe(true);
  expect(traces().some((line) => line.includes(' proxy'))).toBe(true);
  expect((await script('offline')).stderr).toBe('');
  expect(traces()).toEqual([]);
}, 60_000);

const notRoot =
  process.getuid?.() === 0 && spawnSync('setpriv', ['--version']).status === 0
    ? undefined
    : 'skipped: needs root and setpriv';
test.skipIf(notRoot !== undefined)(
  notRoot ?? 'as the service runs: an own user with CAP_NET_ADMIN alone and a /proc/sys that is read-only',
  async () => {
    await addOutside('eth0', ['203.0.113.1/24'], ['203.0.113.2/24']);
    guests.set('vif5.0', await Namespace.start());
    const links = vethLinks({ guestEnd: () => ({ netns: guest('vif5.0').pid, ifname: 'eth0' }) });
    await world.start({ agent: false, netback: { links } });
    const socket = world.host.socketOf(NICDOM);
    chmodSync(dirname(socket), 0o755);
    chmodSync(socket, 0o777);
    const caps = ['bounding-set', 'inh-caps', 'ambient-caps'].map((name) => `--${name}=-all,+net_admin`).join(' ');
    const user = `setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs ${caps}`;
    const readOnly = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys';
    AgentProcess.prefix = ['unshare', '--mount', 'sh', '-c', `${readOnly} && exec ${user} "$@"`, 'sh'];
    onTestFinished(() => {
      AgentProcess.prefix = [];
    });
    await world.startAgent();
    await world.host.createGuest(5, [{ script: 'vif-nat', mac: MAC, gatewaydev: 'eth0' }]);
    await world.connected(5);
    guest('vif5.0').configure('ip addr add 10.0.5.1/32 dev eth0; ip route add default via 10.0.5.128 dev eth0 onlink');
    await eventually(() => guest('vif5.0').reaches('203.0.113.2'), 10_000);
    expect(() => writeFileSync(`/proc/${world.agent.pid}/root/proc/sys/net/ipv4/ip_forward`, '1')).toThrow('EROFS');
    expect(world.agent.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  },
);

describe('NAT', () => {
  test('without nft it is not connected, and says so; no packet leaves with the address of the guest', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
    symlinkSync(execaSync('which', ['ip']).stdout, join(dir, 'ip'));
    AgentProcess.prefix = ['env', `PATH=${dir}`];
    onTestFinished(() => {
      AgentProcess.prefix = [];
      rmSync(dir, { recursive: true });
    });
    await start('', 'vif5.0');
    await world.host.createGuest(5, [{ script: 'vif-nat', mac: MAC }]);
    await world.until(5, 0, 'hotplug-status', 'error');
    expect(await world.node(5, 0, 'hotplug-error')).toBe('the vif cannot be masqueraded: nft cannot be run (ENOENT)');
    expect(showLink('vif5.0')?.flags).not.toContain('UP');
    expect(traces()).toEqual([]);
  });

  test("vif-nat's address, out with the domain's own, by IPv4 and IPv6; gone with the vif", async () => {
    const outside = await addOutside(
      'eth0',
      ['203.0.113.1/24', '2001:db8:ff::1/64'],
      ['203.0.113.2/24', '2001:db8:ff::2/64'],
    );
    await start('[vif]\nnat_network = ["10.0.0.0/8", "fd00:5::/64"]', 'vif5.0');
    await world.host.createGuest(5, [{ script: 'vif-nat', mac: MAC }]);
    await world.connected(5);
    expect(showAddresses('vif5.0').sort()).toEqual(['10.0.5.128/32', 'fe80::1/64']);
    guest('vif5.0').configure(
      'ip addr add 10.0.5.1/32 dev eth0; ip addr add fd00:5::5:1/128 dev eth0 nodad; ip route add default via 10.0.5.128 dev eth0 onlink; ip -6 route add default via fe80::1 dev eth0 onlink',
    );
    // Outside there is no route to the guest, so an answer means that the domain's address was seen.
    await eventually(() => guest('vif5.0').reaches('203.0.113.2'), 10_000);
    await eventually(() => guest('vif5.0').reaches('2001:db8:ff::2'), 10_000);
    expect(outside.ip('neigh', 'show', 'dev', 'eth0')).not.toContain('10.0.5.1');
    const before = traces();
    await world.agent.kill('SIGKILL');
    await startAgent('[vif]\nnat_network = ["10.0.0.0/8", "fd00:5::/64"]');
    expect(traces()).toEqual(before);
    nft('delete', 'table', 'inet', 'vifd_nat');
    expect(await guest('vif5.0').reaches('203.0.113.2')).toBe(false);
    execaSync('ip', ['link', 'set', 'vif5.0', 'txqueuelen', '7']);
    await eventually(() => guest('vif5.0').reaches('203.0.113.2'), 30_000);
    await world.host.detachVif(5, 0);
    await eventually(
      () => traces().length === 0,
      5_000,
      () => traces().join('\n'),
    );
  }, 90_000);
});
