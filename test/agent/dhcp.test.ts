/** DHCP on vifs: a real dnsmasq, started by the agent, and real clients in the guests' namespaces. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa, execaSync } from 'execa';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { DhcpServer } from '../../src/dhcp/server.js';
import { NICDOM } from '../../src/simulator/host.js';
import { vethLinks } from '../../src/simulator/links.js';
import { Namespace } from '../netns/guests.js';
import { ip } from '../netns/namespace.js';
import { measured } from '../support/measured.js';
import { AgentProcess, eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
const MAC = '00:16:3e:00:05:00';
const OTHER = '00:16:3e:00:05:01';
const NAT = '[vif]\nmode = "nat"\ndhcp = true\n';

let dir = '';
/** By the interface that is the other end of its eth0. */
const guests = new Map<string, Namespace>();
const guest = (ifname: string) => guests.get(ifname) as Namespace;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-dhcp-'));
  chmodSync(dir, 0o755);
  process.env.VIFD_STATE_DIR = join(dir, 'state');
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
  execaSync('nft', ['flush', 'ruleset'], { reject: false });
});
afterEach(() => {
  delete process.env.VIFD_STATE_DIR;
  for (const pid of running()) process.kill(pid, 'SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

const state = (name: string) => join(dir, 'state', `dnsmasq.${name}`);
const read = (name: string) => (existsSync(state(name)) ? readFileSync(state(name), 'utf8') : '');

/** The dnsmasqs of this test's state directory. */
function running(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
          .split('\0')
          .includes(`--conf-file=${state('conf')}`);
      } catch {
        return false; // it has ended meanwhile
      }
    })
    .map(Number);
}
/** Its pid, when it serves these and the log says so. */
const served = (...ifnames: string[]): Promise<number> =>
  eventually(
    () => {
      const [pid, ...more] = running();
      const said = world.agent.log.map(({ msg }) => msg).findLast((msg) => msg.startsWith('dnsmasq answers DHCP on '));
      return more.length === 0 && said !== undefined && ifnames.every((name) => said.includes(name)) ? pid : undefined;
    },
    5_000,
    () => world.agent.log.map(({ msg }) => msg).join('\n'),
  );

async function start(config: string, ...ifnames: string[]): Promise<void> {
  guests.clear();
  for (const ifname of ifnames) guests.set(ifname, await Namespace.start());
  const links = vethLinks({ guestEnd: (ifname) => ({ netns: guest(ifname).pid, ifname: 'eth0' }) });
  await world.start({ agent: false, netback: { links } });
  await startAgent(config);
}

async function startAgent(config: string): Promise<void> {
  writeFileSync(join(dir, 'vifd.toml'), config);
  await world.startAgent('-c', join(dir, 'vifd.toml'));
}

/** The guest's card has its own address, as netfront's has. */
async function create(
  domid: number,
  ...vifs: { mac: string; ip?: string; vifname?: string; script?: string }[]
): Promise<void> {
  await world.host.createGuest(domid, vifs);
  for (const [devid, { mac }] of vifs.entries()) {
    await world.connected(domid, devid);
    const { pid } = guest(`vif${domid}.${devid}`);
    execaSync('nsenter', [`--net=/proc/${pid}/ns/net`, 'ip', 'link', 'set', 'eth0', 'address', mac, 'up']);
  }
}

type Lease = Readonly<Record<string, string>>;

/** What busybox's client is given; undefined: nothing. */
async function ask(ifname: string, ...more: string[]): Promise<Lease | undefined> {
  const script = join(dir, 'told.sh');
  writeFileSync(script, '#!/bin/sh\n[ "$1" = bound ] && env || true\n');
  chmodSync(script, 0o755);
  const client = ['busybox', 'udhcpc', '-i', 'eth0', '-f', '-q', '-n', '-t', '4', '-T', '1', '-s', script, ...more];
  const { stdout, failed } = await execa('nsenter', [`--net=/proc/${guest(ifname).pid}/ns/net`, ...client], {
    reject: false,
    env: { PATH: process.env.PATH },
    extendEnv: false,
  });
  const told = Object.fromEntries(stdout.split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2)));
  return failed ? undefined : told;
}

/** A renewal, by unicast, as a client that is bound sends it: the answer's message type and address. */
async function renew(ifname: string, mac: string, own: string, server: string): Promise<string> {
  const code = `
import socket, sys, binascii
mac, own, server = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((own, 68)); s.settimeout(3)
ip = socket.inet_aton
m = bytes([1, 1, 6, 0]) + b'abcd' + bytes(4) + ip(own) + bytes(12) + binascii.unhexlify(mac.replace(':', '')) + bytes(202)
s.sendto(m + bytes([99, 130, 83, 99, 53, 1, 3, 255]) + bytes(60), (server, 67))
a = s.recv(2000)
print(a[242], socket.inet_ntoa(a[16:20]))
`;
  const words = [`--net=/proc/${guest(ifname).pid}/ns/net`, 'python3', '-c', code, mac, own, server];
  const { stdout, stderr } = await execa('nsenter', words, { reject: false });
  return stdout || stderr;
}

/** As the guest's own client would set it up. */
function configure(ifname: string, lease: Lease): void {
  guest(ifname).ip('addr', 'add', `${lease.ip}/${lease.mask}`, 'dev', 'eth0');
  guest(ifname).ip('route', 'add', 'default', 'via', lease.router as string);
}

const ACK = '5';

test('two vifs with one MAC address: each gets its own address, and the log warns', async () => {
  await start(NAT, 'vif5.0', 'vif5.1');
  await create(5, { mac: MAC }, { mac: MAC });
  await served('vif5.0', 'vif5.1');
  expect(await ask('vif5.0')).toMatchObject({ ip: '10.0.5.1', router: '10.0.5.128' });
  expect(await ask('vif5.1')).toMatchObject({ ip: '10.0.5.2', router: '10.0.5.129' });
  expect(world.agent.log.filter(({ level }) => level === 'warn').map(({ msg }) => msg)).toEqual([
    `DHCP: vif5.0 and vif5.1 have the same MAC address ${MAC}, so each guest's lease ends the other's: give one another mac=`,
  ]);
});

test('each vif gets its own address with gateway, mask and DNS server, and reaches what is beyond', async () => {
  await start(`${NAT}dns = ["9.9.9.9", "192.0.2.53"]\n`, 'vif5.0', 'vif5.1');
  await create(5, { mac: MAC }, { mac: OTHER });
  await served('vif5.0', 'vif5.1');
  const first = await ask('vif5.0');
  expect(first).toMatchObject({
    ip: '10.0.5.1',
    subnet: '255.255.255.0',
    router: '10.0.5.128',
    dns: '9.9.9.9 192.0.2.53',
    broadcast: '10.0.5.255',
    serverid: '10.0.5.128',
    lease: '86400',
  });
  expect(await ask('vif5.1')).toMatchObject({ ip: '10.0.5.2', router: '10.0.5.129' });
  configure('vif5.0', first as Lease);
  ip('addr', 'add', '198.51.100.1/32', 'dev', 'lo');
  onTestFinished(() => void ip('addr', 'del', '198.51.100.1/32', 'dev', 'lo')); // other files have this namespace after it
  expect(await guest('vif5.0').reaches('198.51.100.1')).toBe(true);
  expect(running()).toHaveLength(1);
});

test('the address in ip= on a routed vif; nothing for another MAC address, or where it is not asked for', async () => {
  const config =
    '[vif]\nmode = "routed"\ngateway = "203.0.113.1"\nguard = "off"\n[rule.a]\nmatch.devid = 0\ndhcp = true\n';
  await start(config, 'vif5.0', 'vif5.1');
  await create(5, { mac: MAC, ip: '203.0.113.7 203.0.113.8' }, { mac: OTHER, ip: '203.0.113.9' });
  await served();
  const lease = await ask('vif5.0');
  expect(lease).toMatchObject({ ip: '203.0.113.7', router: '203.0.113.1', mask: '24' });
  expect(lease?.dns).toBeUndefined();
  expect(await ask('vif5.1', '-t', '2')).toBeUndefined();
  guest('vif5.1').ip('link', 'set', 'eth0', 'address', MAC);
  expect(await ask('vif5.1', '-t', '2')).toBeUndefined();
});

describe('what ends and comes again', () => {
  const bound = async () => {
    await start(NAT, 'vif5.0', 'vif6.0');
    await create(5, { mac: MAC });
    const pid = await served();
    configure('vif5.0', (await ask('vif5.0')) as Lease);
    return pid;
  };

  test('vifd: dnsmasq and its files go with it, the leases stay, and the next one answers a renewal', async () => {
    const pid = await bound();
    const leases = read('leases');
    expect(leases).toContain(` ${MAC} 10.0.5.1 `);
    const begin = performance.now();
    await world.agent.kill('SIGTERM');
    expect(performance.now() - begin).toBeLessThan(500);
    expect(running()).toEqual([]);
    expect(readdirSync(join(dir, 'state'))).toEqual(['dnsmasq.leases']);
    await startAgent(NAT);
    expect(await served()).not.toBe(pid);
    expect(read('leases')).toBe(leases);
    expect(await renew('vif5.0', MAC, '10.0.5.1', '10.0.5.128')).toBe(`${ACK} 10.0.5.1`);
    expect(world.agent.log.find(({ msg }) => msg.includes('connected to routes'))?.did).toEqual([]);
  });

  test('an interface: the socket is not bound to the one that was there at the start', async () => {
    await bound();
    const sockets = execaSync('ss', ['-lnuH', 'sport = :67']).stdout.trim().split('\n');
    expect(sockets).toEqual([expect.stringContaining(' 0.0.0.0:67 ')]);
  });

  test('dnsmasq, when somebody kills it: another answers soon', async () => {
    const pid = await bound();
    process.kill(pid, 'SIGKILL');
    await measured('dnsmasq killed: another answers', 10_000, async () => {
      await eventually(() => running().length === 1 && running()[0] !== pid);
      expect(await ask('vif5.0')).toMatchObject({ ip: '10.0.5.1' });
    });
    expect(world.agent.log.filter(({ level }) => level === 'warn').map(({ msg }) => msg)).toEqual([
      'dnsmasq has ended (SIGKILL); it is started again',
    ]);
  });

  test('vifd, when somebody kills it: one dnsmasq answers, first the old one, then the new', async () => {
    const pid = await bound();
    await world.agent.kill('SIGKILL');
    expect(running()).toEqual([pid]);
    expect(await ask('vif5.0')).toMatchObject({ ip: '10.0.5.1' });
    await startAgent(NAT);
    await eventually(() => running().length === 1 && running()[0] !== pid);
    expect(await renew('vif5.0', MAC, '10.0.5.1', '10.0.5.128')).toBe(`${ACK} 10.0.5.1`);
  });

  test('vifd, when somebody kills it and nobody wants DHCP any more: dnsmasq goes', async () => {
    await bound();
    await world.agent.kill('SIGKILL');
    await startAgent('[vif]\nmode = "nat"\n');
    await eventually(() => running().length === 0);
    await eventually(() => readdirSync(join(dir, 'state')).join() === 'dnsmasq.leases');
  });

  test('what is not dnsmasq is left alone, whatever the pid file says', async () => {
    await bound();
    await world.agent.kill('SIGKILL');
    writeFileSync(state('pid'), `${world.agent.pid}\n`);
    for (const pid of running()) process.kill(pid, 'SIGKILL');
    const sleeper = execa('sleep', ['60'], { reject: false });
    writeFileSync(state('pid'), `${sleeper.pid}\n`);
    await startAgent(NAT);
    await served();
    expect(existsSync(`/proc/${sleeper.pid}/stat`)).toBe(true);
    sleeper.kill();
  });

  test('one that an earlier vifd has left, and that does not end: a vifd that ends meanwhile leaves it to the next', async () => {
    const own = mkdtempSync(join(tmpdir(), 'vifd-dnsmasq-'));
    onTestFinished(() => rmSync(own, { recursive: true }));
    chmodSync(own, 0o755);
    copyFileSync('/bin/bash', join(own, 'dnsmasq'));
    const endless = [
      '-c',
      "trap '' TERM; echo; while :; do read -rt 0.1 <> <(:); done",
      `--conf-file=${own}/dnsmasq.conf`,
    ];
    const stubborn = execa(join(own, 'dnsmasq'), endless, { reject: false });
    await once(stubborn.stdout, 'data');
    writeFileSync(join(own, 'dnsmasq.pid'), `${stubborn.pid}\n`);
    const serve = async (ms: number) => {
      const server = new DhcpServer(own, pino({ enabled: false }));
      server.keep(() => false); // nobody is to be served
      await sleep(ms);
      await server.stop();
    };
    await serve(200);
    expect(existsSync(join(own, 'dnsmasq.pid'))).toBe(true);
    await serve(2_500);
    expect(existsSync(join(own, 'dnsmasq.pid'))).toBe(false);
    expect(await stubborn).toMatchObject({ signal: 'SIGKILL' });
  });

  test('the last vif: dnsmasq goes with it, and comes with the next one', async () => {
    await bound();
    await world.host.destroyGuest(5);
    await eventually(() => running().length === 0, 5_000);
    await create(6, { mac: OTHER });
    await eventually(() => running().length === 1);
    expect(await ask('vif6.0')).toMatchObject({ ip: '10.0.6.1', router: '10.0.6.128' });
  });
});

describe('while dnsmasq runs', () => {
  const FIXED = { mac: MAC, vifname: 'fw-lan', ip: '192.0.2.7' };
  const two = async () => {
    await start(NAT, 'vif5.0', 'vif5.1', 'vif6.0');
    await create(5, FIXED, { mac: OTHER });
    const pid = await served('fw-lan', 'vif5.1');
    expect(await ask('vif5.0')).toMatchObject({ ip: '192.0.2.7' });
    return pid;
  };
  const leave = async () => {
    expect(await world.host.detachVif(5, 0)).toMatchObject({ ok: true });
    await eventually(() => !read('hosts').includes('fw-lan'));
  };

  test('what a guest gets changes without a restart', async () => {
    const pid = await two();
    writeFileSync(join(dir, 'vifd.toml'), `${NAT}dns = "9.9.9.9"\n`);
    process.kill(world.agent.pid, 'SIGHUP');
    await eventually(() => read('options').includes('9.9.9.9'));
    await eventually(async () => (await ask('vif5.1'))?.dns === '9.9.9.9');
    expect(running()).toEqual([pid]);
  });

  test('a vif that comes again under its name, with another interface, is heard without a restart', async () => {
    const pid = await two();
    await leave();
    await create(6, FIXED);
    await eventually(() => read('hosts').includes('fw-lan'));
    expect(await ask('vif6.0')).toMatchObject({ ip: '192.0.2.7', router: '192.0.2.134' });
    expect(running()).toEqual([pid]);
  });

  test('an address whose lease was given to another guest is free for its next owner', async () => {
    await two();
    await leave();
    await create(6, { ...FIXED, mac: '00:16:3e:00:06:00' });
    await eventually(() => read('hosts').includes('fw-lan') && running().length === 1);
    expect(await ask('vif6.0')).toMatchObject({ ip: '192.0.2.7' });
    expect(read('leases')).not.toContain(MAC);
  });

  test('it reads nothing of /etc, and is not root', async () => {
    const pid = await two();
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(1, -1)).toEqual([
      '--keep-in-foreground',
      `--conf-file=${state('conf')}`,
    ]);
    expect(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]).not.toBe('0');
  });
});

describe('what dnsmasq needs', () => {
  const warnings = () => world.agent.log.filter(({ level }) => level === 'warn').map(({ msg }) => msg);
  const withPrefix = (...words: string[]) => {
    AgentProcess.prefix = words;
    onTestFinished(() => {
      AgentProcess.prefix = [];
    });
  };

  test('without it the vif is connected, and the log says what to do; once it is there it serves', async () => {
    const hidden =
      'for file in /usr/sbin/dnsmasq /usr/bin/dnsmasq; do [ ! -e $file ] || mount --bind /dev/null $file; done';
    withPrefix('unshare', '--mount', 'sh', '-c', `${hidden}; exec "$@"`, 'sh');
    await start(NAT, 'vif5.0');
    await create(5, { mac: MAC });
    await world.agent.saw(({ level }) => level === 'warn');
    expect(warnings()).toEqual([
      'DHCP: guests get no address: dnsmasq is not here: install dnsmasq-base (Debian) or dnsmasq',
    ]);
    execaSync('nsenter', [`--mount=/proc/${world.agent.pid}/ns/mnt`, 'umount', '/usr/sbin/dnsmasq']);
    await served();
    expect(await ask('vif5.0')).toMatchObject({ ip: '10.0.5.1' });
    expect(warnings()).toHaveLength(1);
  });

  const notRoot =
    process.getuid?.() === 0 && spawnSync('setpriv', ['--version']).status === 0
      ? undefined
      : 'skipped: needs root and setpriv';
  const asUser = async (...capabilities: string[]) => {
    const user = ['--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs'];
    const all = ['-all', ...capabilities.map((name) => `+${name}`)].join();
    withPrefix('setpriv', ...user, ...['bounding-set', 'inh-caps', 'ambient-caps'].map((name) => `--${name}=${all}`));
    guests.set('vif5.0', await Namespace.start());
    const links = vethLinks({ guestEnd: (ifname) => ({ netns: guest(ifname).pid, ifname: 'eth0' }) });
    await world.start({ agent: false, netback: { links } });
    const socket = world.host.socketOf(NICDOM);
    chmodSync(dirname(socket), 0o755);
    chmodSync(socket, 0o777);
    chownSync(dir, 65534, 65534);
    await startAgent(NAT);
    await create(5, { mac: MAC });
  };

  test.skipIf(notRoot !== undefined)(notRoot ?? 'as the service runs with the drop-in: two capabilities', async () => {
    await asUser('net_admin', 'net_bind_service');
    const pid = await served();
    expect(await ask('vif5.0')).toMatchObject({ ip: '10.0.5.1', router: '10.0.5.128' });
    process.kill(world.agent.pid, 'SIGKILL');
    await world.agent.kill('SIGKILL');
    await startAgent(NAT);
    await eventually(() => running().length === 1 && running()[0] !== pid);
    expect(warnings()).toEqual([]);
  });

  test.skipIf(notRoot !== undefined)(
    notRoot ?? 'as it runs without: the vif is connected, and the log says why not',
    async () => {
      await asUser('net_admin');
      await world.agent.saw(({ level }) => level === 'warn');
      expect(warnings()).toEqual([
        'DHCP: guests get no address: dnsmasq does not start: "dnsmasq: failed to bind DHCP server socket: Permission denied"; ' +
          'it needs CAP_NET_BIND_SERVICE as well, under systemd by the drop-in vifd-dhcp.conf',
      ]);
    },
  );

  test.skipIf(notRoot !== undefined)(notRoot ?? 'a root that may not become another user runs it as root', async () => {
    withPrefix('setpriv', '--bounding-set=-all,+net_admin,+net_raw,+net_bind_service');
    await start(NAT, 'vif5.0');
    await create(5, { mac: MAC });
    await served();
    expect(await ask('vif5.0')).toMatchObject({ ip: '10.0.5.1' });
  });
});
