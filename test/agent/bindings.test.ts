/** `vifd run` with declared bridges and bindings: real interfaces, peers in namespaces of their own, commands that are run. */

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa, execaSync } from 'execa';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import { vethLinks } from '../../src/simulator/links.js';
import { addVif, clearLinks, ip, showAddresses, showLink } from '../netns/namespace.js';
import { addPeer, removePeers } from '../netns/peer.js';
import { AgentProcess, eventually } from './agent-process.js';

let dir: string;
let agent: AgentProcess | undefined;

beforeEach(() => {
  clearLinks();
  dir = mkdtempSync(join(tmpdir(), 'vifd-bind-'));
});
afterEach(async () => {
  const ended = await agent?.kill('SIGTERM');
  if (agent !== undefined && !agent.killed) expect(ended).toEqual({ code: 0, signal: null });
  expect(agent?.stderr ?? '').toBe('');
  agent = undefined;
  removePeers();
  rmSync(dir, { recursive: true });
});

const config = () => join(dir, 'vifd.toml');

/** Without xenstore: there is none at that path. */
async function observe(text: string): Promise<AgentProcess> {
  writeFileSync(config(), `[agent]\nmode = "observe"\n${text}`);
  agent = await AgentProcess.ready(join(dir, 'no-xenstore'), '--config', config());
  return agent;
}

/** A program that writes down how it was called. */
function program(name: string, text = ''): string {
  const file = join(dir, name);
  writeFileSync(file, `#!/bin/sh\necho "${name} $* $VIFD_BIND $VIFD_EVENT $VIFD_INTERFACE" >>${dir}/called\n${text}\n`);
  chmodSync(file, 0o755);
  return file;
}
const called = () =>
  existsSync(join(dir, 'called')) ? readFileSync(join(dir, 'called'), 'utf8').trim().split('\n') : [];
const routes = () =>
  (JSON.parse(ip('-j', 'route', 'show')) as { dst: string; gateway?: string; dev: string; metric?: number }[])
    .filter(({ gateway }) => gateway !== undefined)
    .map(({ dst, gateway, dev, metric }) => `${dst} via ${gateway} dev ${dev} metric ${metric ?? 0}`);
const global = (ifname: string) => showAddresses(ifname).filter((address) => !address.startsWith('fe80'));
const said = (level: string) => agent?.log.filter((line) => line.level === level).map(({ msg }) => msg) ?? [];

/** The firewall's vif in dom0, with the firewall behind it. */
function startFirewall(ifname = 'vif7.0') {
  const peer = addPeer(ifname, '192.0.2.1/24');
  ip('link', 'set', ifname, 'master', 'xenbr0');
  return peer;
}

describe('the dom0 service of seed 000', () => {
  const stanza = (plug: string, unplug: string) => `
[bind.storage]
when.bridge = "xenbr0"
addresses = ["192.0.2.10/24", "2001:db8::10/64"]
gateway = "192.0.2.1"
metric = 10
routes = "10.0.0.0/8 via 192.0.2.1"
probe = "192.0.2.1"
probe_every = 1
run = [["${plug}", "nfs", "a b"]]
units = "srv-nfs.mount"
gone.run = [["${unplug}"]]
`;

  test('address, route, storage when the firewall answers, again for its next start, nothing without it', async () => {
    ip('link', 'add', 'xenbr0', 'type', 'bridge');
    program('systemctl');
    const path = process.env.PATH;
    process.env.PATH = `${dir}:${path}`;
    await observe(stanza(program('plug', 'echo plugged; echo to stderr >&2'), program('unplug')));
    process.env.PATH = path;
    expect(global('xenbr0')).toEqual([]);
    startFirewall();
    await eventually(() => called().length === 2);
    expect(called()).toEqual([
      'plug nfs a b storage appeared xenbr0',
      'systemctl start -- srv-nfs.mount storage appeared xenbr0',
    ]);
    expect(global('xenbr0')).toEqual(['192.0.2.10/24', '2001:db8::10/64']);
    expect(routes()).toEqual([
      'default via 192.0.2.1 dev xenbr0 metric 10',
      '10.0.0.0/8 via 192.0.2.1 dev xenbr0 metric 0',
    ]);
    expect(said('info')).toContain('[bind.storage]: plug: plugged');
    expect(said('info')).toContain('[bind.storage]: plug: to stderr');
    // A port more is no new appearance.
    addVif('vif8.0', 'g8');
    ip('link', 'set', 'vif8.0', 'master', 'xenbr0');
    // Nor is what another program does: it is put right.
    ip('addr', 'flush', 'dev', 'xenbr0', 'scope', 'global');
    ip('link', 'set', 'xenbr0', 'down');
    await eventually(() => global('xenbr0').length === 2 && routes().length === 2);
    expect(called()).toHaveLength(2);
    ip('link', 'del', 'vif8.0');
    ip('link', 'del', 'vif7.0');
    await eventually(() => called().length === 3);
    expect(called()[2]).toBe('unplug  storage gone xenbr0');
    await eventually(() => global('xenbr0').length === 0 && routes().length === 0);
    startFirewall('vif9.0');
    await eventually(() => called().length === 5);
    expect(called()[3]).toBe('plug nfs a b storage appeared xenbr0');
  });

  test('a second vifd changes nothing but starts the commands again; what it finds left behind it removes', async () => {
    ip('link', 'add', 'xenbr0', 'type', 'bridge');
    ip('link', 'add', 'mgmt0', 'type', 'bridge');
    startFirewall();
    const text = `[bind.a]\nwhen.bridge = "xenbr0"\non = "mgmt0"\naddresses = "192.0.2.10/24"\nroutes = "10.0.0.0/8 via 192.0.2.1"\nrun = [["${program('plug')}"]]\n`;
    await observe(text);
    ip('addr', 'add', '192.0.2.77/24', 'dev', 'mgmt0');
    await eventually(() => called().length === 1);
    await agent?.kill('SIGKILL');
    expect(global('mgmt0')).toEqual(['192.0.2.10/24', '192.0.2.77/24']);
    await observe(text);
    await eventually(() => called().length === 2);
    expect(said('info').filter((msg) => msg.includes('on mgmt0'))).toEqual([]);
    await agent?.kill('SIGKILL');
    ip('link', 'del', 'vif7.0');
    await observe(text);
    expect(routes()).toEqual([]);
    expect(global('mgmt0')).toEqual(['192.0.2.77/24']);
  });
});

describe('an interface', () => {
  test('that appears: what is on another one comes and goes with it, or stays', async () => {
    for (const name of ['br1', 'br2']) ip('link', 'add', name, 'type', 'bridge');
    await observe(
      ['1', '2']
        .map(
          (n) =>
            `[bind.b${n}]\nwhen.interface = "vif0.*"\non = "br${n}"\naddresses = "10.0.${n}.1/24"\nkeep = ${n === '2'}\n`,
        )
        .join(''),
    );
    addVif('vif0.0');
    await eventually(() => global('br1').length === 1 && global('br2').length === 1);
    addVif('vif0.1');
    ip('link', 'del', 'vif0.0');
    await agent?.saw(({ msg }) => msg.includes('10.0.1.1/24 on br1'));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect([global('br1'), global('br2')]).toEqual([['10.0.1.1/24'], ['10.0.2.1/24']]);
    ip('link', 'del', 'vif0.1');
    await eventually(() => global('br1').length === 0);
    expect(global('br2')).toEqual(['10.0.2.1/24']);
  });

  test('gets its addresses itself and is taken up: the link to Domain-N as dom0 sees it', async () => {
    await observe(
      '[bind.uplink]\nwhen.interface = "eth0"\naddresses = "192.0.2.4/24"\ngateway = "192.0.2.1"\nprobe = "192.0.2.1"\n',
    );
    addPeer('eth0', '192.0.2.1/24');
    ip('link', 'set', 'eth0', 'down');
    await agent?.saw(({ msg }) => msg.startsWith('[bind.uplink]: 192.0.2.1 answers'), 15_000);
    await eventually(() => showLink('eth0')?.flags.includes('UP') && routes().length === 1);
    expect(routes()).toEqual(['default via 192.0.2.1 dev eth0 metric 0']);
    await agent?.saw(({ msg }) => msg.includes('eth0 up'));
  });

  test('that is a port of a bridge gets none', async () => {
    ip('link', 'add', 'br1', 'type', 'bridge');
    addVif('vif5.0');
    ip('link', 'set', 'vif5.0', 'master', 'br1');
    await observe('[bind.a]\nwhen.interface = "vif5.0"\naddresses = "192.0.2.4/24"\n');
    expect(said('warn')).toEqual(['[bind.a]: vif5.0 is a port of br1, where addresses have no effect; set on = "br1"']);
    expect(global('vif5.0')).toEqual([]);
  });

  test('whose IPv6 route another one overrules by its metric: the log says so, until that is gone', async () => {
    for (const name of ['br1', 'other']) {
      ip('link', 'add', name, 'type', 'bridge');
      ip('link', 'set', name, 'up');
    }
    const theirs = ['2001:db8:9::/64', 'dev', 'other', 'metric', '100'];
    ip('-6', 'route', 'add', ...theirs);
    ip('-6', 'route', 'add', '2001:db8:8::/64', 'dev', 'other', 'metric', '100');
    await observe(
      '[bind.a]\nwhen.interface = "br1"\naddresses = "2001:db8:1::1/64"\nroutes = ["2001:db8:9::/64", "2001:db8:1::/64", "2001:db8:8::/64 metric 200"]\n',
    );
    expect(said('warn')).toEqual([
      '[bind.a]: the route 2001:db8:9:0:0:0:0:0/64 metric 100 through other stands in the way of the one in [bind.a], which has 1024; give that a lower metric',
    ]);
    const way = () => ip('-6', 'route', 'get', '2001:db8:9::7');
    expect(way()).toContain('dev other');
    ip('-6', 'route', 'del', ...theirs);
    expect(way()).toContain('dev br1');
    ip('link', 'set', 'br1', 'txqueuelen', '77'); // has it look
    await eventually(() => showLink('br1')?.txqlen === 77);
    await new Promise((resolve) => setTimeout(resolve, 500));
    ip('-6', 'route', 'add', ...theirs);
    ip('link', 'set', 'br1', 'txqueuelen', '78');
    await eventually(() => said('warn').length === 2); // it had forgotten the first
  });

  test('waits for the one that gets the addresses', async () => {
    addVif('vif5.0');
    const run = `run = [["${program('go')}"]]`;
    await observe(`[bind.a]\nwhen.interface = "vif5.0"\non = "br1"\naddresses = "192.0.2.4/24"\n${run}\n`);
    expect(said('warn')).toEqual(['[bind.a]: br1 is not there; all of it waits until it appears']);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(called()).toEqual([]);
    ip('link', 'add', 'br1', 'type', 'bridge');
    await eventually(() => global('br1').length === 1 && called().length === 1);
  });
});

describe('the probe', () => {
  test('by TCP, until it answers', async () => {
    const server = createServer();
    ip('link', 'add', 'br1', 'type', 'bridge');
    await observe(
      `[bind.a]\nwhen.interface = "br1"\naddresses = "192.0.2.4/24"\nprobe = "tcp 192.0.2.4:2049"\nprobe_every = 1\nrun = [["${program('go')}"]]\n`,
    );
    await agent?.saw(({ msg }) => msg === '[bind.a]: waiting for tcp 192.0.2.4:2049 (TCP: ECONNREFUSED)');
    server.listen(2049, '192.0.2.4');
    onTestFinished(() => void server.close());
    await agent?.saw(({ msg }) => /^\[bind\.a\]: tcp 192\.0\.2\.4:2049 answers after [2-9] tries$/.test(msg));
    await eventually(() => called().length === 1);
  });

  test('without an answer nothing is started, and the log says why', async () => {
    ip('link', 'add', 'br1', 'type', 'bridge');
    const file = program('go');
    await observe(
      `[bind.a]\nwhen.interface = "br1"\naddresses = "192.0.2.4/24"\nprobe = "192.0.2.9"\nprobe_every = 1\nprobe_tries = 2\nrun = [["${file}"]]\n`,
    );
    const { msg } = (await agent?.saw(({ level }) => level === 'warn', 12_000)) ?? { msg: '' };
    expect(msg).toBe(
      '[bind.a]: 192.0.2.9 has not answered 2 times, every 1 s (no answer to ping); nothing is started until br1 appears anew or vifd is restarted',
    );
    expect(called()).toEqual([]);
  });

  test.each(['192.0.2.', '2001:db8::'])('by ARP and ND: %s', async (net) => {
    const length = net.includes(':') ? 64 : 24;
    const peer = addPeer('eth0');
    await observe(
      `[bind.a]\nwhen.interface = "eth0"\naddresses = "${net}4/${length}"\nprobe = "arp ${net}1"\nprobe_every = 1\n`,
    );
    await agent?.saw(({ msg }) => msg.endsWith('(no answer to ARP or ND)'), 10_000);
    peer.ip('addr', 'add', `${net}1/${length}`, 'dev', 'up0', ...(length === 64 ? ['nodad'] : []));
    await agent?.saw(({ msg }) => / answers after \d+ tries$/.test(msg), 10_000);
  });

  test('without ping', async () => {
    ip('link', 'add', 'br1', 'type', 'bridge');
    const path = process.env.PATH;
    for (const name of ['ip', 'sh']) execaSync('ln', ['-s', execaSync('which', [name]).stdout, join(dir, name)]);
    process.env.PATH = dir;
    await observe('[bind.a]\nwhen.interface = "br1"\nprobe = "192.0.2.9"\n');
    process.env.PATH = path;
    await agent?.saw(
      ({ msg }) =>
        msg ===
        '[bind.a]: waiting for 192.0.2.9 (ping is not there; install iputils-ping, or have probe = "tcp ADDRESS:PORT")',
    );
  });
});

describe('commands', () => {
  test('that fail, that are not there, that take too long with all they have started; the next is run even so', async () => {
    ip('link', 'add', 'br1', 'type', 'bridge');
    const bad = program('bad', 'exit 3');
    const slow = program('slow', `sleep 1234 & echo $! >${dir}/child; trap "" TERM; sleep 1235; sleep 1236`);
    const last = program('last');
    await observe(
      `[bind.a]\nwhen.interface = "br1"\ntime_limit = 1\nrun = [["${bad}"], ["/no/such", "x"], ["${slow}"], ["${last}"]]\n`,
    );
    await eventually(() => called().length === 3, 10_000);
    expect(said('error')).toEqual([
      `[bind.a]: ${bad} failed (exit code 3)`,
      '[bind.a]: /no/such x cannot be run (ENOENT)',
      `[bind.a]: ${slow} did not end within 1 s and was ended`,
    ]);
    const child = readFileSync(join(dir, 'child'), 'utf8').trim();
    await eventually(() => !existsSync(`/proc/${child}`));
  });

  test('are ended with vifd, which does not wait for them', async () => {
    ip('link', 'add', 'br1', 'type', 'bridge');
    await observe(
      `[bind.a]\nwhen.interface = "br1"\nrun = [["${program('slow', `echo $$ >${dir}/child; exec sleep 1237`)}"]]\n`,
    );
    await eventually(() => existsSync(join(dir, 'child')));
    const startedAt = performance.now();
    await agent?.kill('SIGTERM');
    expect(performance.now() - startedAt).toBeLessThan(2_500);
    expect(said('warn')).toEqual([`[bind.a]: ${join(dir, 'slow')} was ended, since it is not wanted any more`]);
    expect(existsSync(`/proc/${readFileSync(join(dir, 'child'), 'utf8').trim()}`)).toBe(false);
  });
});

test('a reload: what is asked for no more goes, what is new comes, and no command is run again', async () => {
  ip('link', 'add', 'br1', 'type', 'bridge');
  const text = (address: string) =>
    `[bind.a]\nwhen.interface = "br1"\naddresses = "${address}"\nrun = [["${program('go')}"]]\n`;
  await observe(text('192.0.2.4/24'));
  ip('addr', 'add', '198.51.100.1/24', 'dev', 'br1');
  await eventually(() => called().length === 1);
  writeFileSync(config(), text('192.0.2.5/24'));
  process.kill(agent?.pid ?? 0, 'SIGHUP');
  await eventually(() => global('br1').includes('192.0.2.5/24'));
  expect(global('br1').sort()).toEqual(['192.0.2.5/24', '198.51.100.1/24']);
  expect(called()).toHaveLength(1);
  await agent?.saw(
    ({ msg }) => msg === 'agent.mode = "attach" counts from the next start of vifd; until then it is "observe"',
  );
});

test.each(['observe', 'attach'])(
  'SIGTERM during the first look, mode %s: vifd ends at once, and nothing is moved',
  async (mode) => {
    addPeer('eth7');
    ip('addr', 'add', '192.0.2.4/24', 'dev', 'eth7');
    ip('route', 'add', 'default', 'via', '192.0.2.1'); // nobody is there, so it is asked for 3.2 s
    const host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) } });
    onTestFinished(() => host.close());
    writeFileSync(
      config(),
      `[agent]\nmode = "${mode}"\n[bridge.br_lan]\nports = "eth7"\naddresses = "192.0.2.4/24"\ngateway = "192.0.2.1"\n`,
    );
    agent = new AgentProcess(host.socketOf(NICDOM), '--config', config());
    await eventually(() => ip('neigh', 'show', 'dev', 'eth7').includes('192.0.2.1'));
    const startedAt = performance.now();
    expect(await agent.kill('SIGTERM')).toEqual({ code: 0, signal: null });
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    expect(showLink('eth7')?.master).toBeUndefined();
  },
);

test('systemd hears READY when the addresses are there, and that vifs are not the matter', async () => {
  const before = { ...process.env };
  writeFileSync(join(dir, 'systemd-notify'), `#!/bin/sh\necho "$*" >>${dir}/called\n`, { mode: 0o755 });
  Object.assign(process.env, { PATH: `${dir}:${before.PATH}`, NOTIFY_SOCKET: 'unused', WATCHDOG_USEC: '900000' });
  onTestFinished(() => {
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC']) delete process.env[name];
    process.env.PATH = before.PATH;
  });
  ip('link', 'add', 'br1', 'type', 'bridge');
  await observe('[bind.a]\nwhen.interface = "br1"\naddresses = "192.0.2.4/24"\nprobe = "192.0.2.9"\n');
  expect(global('br1')).toEqual(['192.0.2.4/24']);
  await eventually(() => called()[0] === 'READY=1 STATUS=observing; vifs are attached by others');
  await eventually(() => called().includes('WATCHDOG=1'));
  await agent?.kill('SIGTERM');
  expect(called()).toContain('STOPPING=1');
});

test('declared bridges are there when it is ready, and a card that appears joins', async () => {
  await observe('[bridge.br_lan]\nports = "eth7"\naddresses = "192.0.2.4/24"\n');
  expect(global('br_lan')).toEqual(['192.0.2.4/24']);
  addPeer('eth7');
  await eventually(() => showLink('eth7')?.master === 'br_lan');
  await agent?.saw(({ msg }) => msg.includes('eth7 joined br_lan'));
  const { length } = said('info');
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(said('info')).toHaveLength(length);
  expect(said('info').find((msg) => msg.startsWith('ready'))).toBe(
    'ready, observing: 1 declared bridges, 0 bindings; vifs are attached by others',
  );
});

/** Domain-N's side of seed 002: dom0's vif is a port of a bridge of its own, packets are forwarded to the card's network. */
describe('the link to dom0 of seed 002', () => {
  const CONFIG = `
[bridge.br_lan]
ports = "eth7"
addresses = "192.0.2.4/24"
gateway = "192.0.2.1"

[bridge.br_dom0]
stp = false

[bind.dom0]
when.interface = "vif0.0"
on = "br_dom0"
addresses = "10.0.0.1/24"
forwarding = true
`;
  test('dom0 reaches the router, through Domain-N', async () => {
    const router = addPeer('eth7', '192.0.2.1/24');
    router.ip('route', 'add', '10.0.0.0/24', 'via', '192.0.2.4');
    execaSync('sysctl', ['-w', 'net.ipv4.ip_forward=0']);
    await observe(CONFIG);
    const dom0 = addPeer('vif0.0', '10.0.0.2/24');
    dom0.ip('route', 'add', 'default', 'via', '10.0.0.1');
    ip('link', 'set', 'vif0.0', 'master', 'br_dom0'); // what vifd does where it attaches
    await eventually(() => global('br_dom0').length === 1);
    await agent?.saw(({ msg }) => msg === '[bind.dom0]: net.ipv4.ip_forward = 1');
    await eventually(() => dom0.ping('192.0.2.1'), 10_000);
  });

  test('masqueraded: the router needs no route back; others flush it; it ends with the link, and outlives vifd', async () => {
    const nft = (...args: string[]) => execaSync('nft', args, { reject: false }).stdout;
    onTestFinished(() => void nft('flush', 'ruleset'));
    const table = () => nft('list', 'table', 'inet', 'vifd_bind');
    addPeer('eth7', '192.0.2.1/24');
    const text = CONFIG.replace('forwarding = true', 'masquerade = true');
    await observe(text);
    const dom0 = addPeer('vif0.0', '10.0.0.2/24');
    dom0.ip('route', 'add', 'default', 'via', '10.0.0.1');
    ip('link', 'set', 'vif0.0', 'master', 'br_dom0');
    await agent?.saw(({ msg }) => msg === '[bind.dom0]: what comes in by br_dom0 is masqueraded');
    await eventually(() => dom0.ping('192.0.2.1'), 10_000);
    expect(table()).toMatch(/meta nfproto ipv4 oifname != "br_dom0" masquerade/);
    nft('flush', 'ruleset');
    expect(dom0.ping('192.0.2.1')).toBe(false);
    await eventually(() => dom0.ping('192.0.2.1'), 25_000);
    await agent?.kill('SIGTERM');
    await observe(text);
    expect(dom0.ping('192.0.2.1')).toBe(true);
    expect(said('info').filter((msg) => msg.includes('masqueraded'))).toEqual([]);
    await agent?.kill('SIGTERM');
    ip('link', 'del', 'vif0.0');
    await observe(text);
    expect(table()).not.toContain('bound_');
    expect(said('info')).toContain('[bind]: what comes in by br_dom0 is masqueraded no more');
  });

  test('masqueraded without nft: the log says why, and the rest is done', async () => {
    const path = process.env.PATH;
    for (const name of ['ip', 'sh']) execaSync('ln', ['-s', execaSync('which', [name]).stdout, join(dir, name)]);
    process.env.PATH = dir;
    addVif('vif5.0');
    await observe('[bind.a]\nwhen.interface = "vif5.0"\naddresses = "10.0.0.1/24"\nmasquerade = true\n');
    process.env.PATH = path;
    expect(said('warn')).toEqual([
      '[bind.a]: what comes in by vif5.0 is not masqueraded: nft cannot be run (ENOENT); install nftables',
    ]);
    expect(global('vif5.0')).toEqual(['10.0.0.1/24']);
  });

  test('masqueraded on a routed vif: the agent takes it for no leftover', async () => {
    const nft = (...args: string[]) => execaSync('nft', args, { reject: false }).stdout;
    onTestFinished(() => void nft('flush', 'ruleset'));
    const host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) } });
    onTestFinished(() => host.close());
    await host.createGuest(5, [{ script: 'vif-route', ip: '203.0.113.7' }]);
    writeFileSync(
      config(),
      '[vif]\nguard = "off"\ngateway = "203.0.113.1"\n[bind.a]\nwhen.interface = "vif5.0"\nmasquerade = true\n',
    );
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    await eventually(async () => (await host.backendNode(5, 0, 'hotplug-status')) === 'connected');
    await host.createGuest(6, [{ script: 'vif-route', ip: '203.0.113.8' }]);
    await host.destroyGuest(6); // has the agent look for leftovers
    await eventually(() => showLink('vif6.0') === undefined);
    expect(nft('list', 'table', 'inet', 'vifd_bind')).toContain('"vif5.0" : jump bound_');
    expect(said('info').filter((msg) => msg.includes('masqueraded'))).toHaveLength(1);
    await host.destroyGuest(5);
    await eventually(() => !nft('list', 'table', 'inet', 'vifd_bind').includes('vif5.0'));
  });

  test('with vifd attaching: the bridges are there before the vifs, and a link that vifd makes is bound', async () => {
    addPeer('eth7');
    const host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) } });
    onTestFinished(() => host.close());
    await host.createGuest(5, [{ bridge: 'br_dom0' }]);
    writeFileSync(config(), CONFIG.replace('vif0.0', 'vif5.0'));
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    await eventually(async () => (await host.backendNode(5, 0, 'hotplug-status')) === 'connected');
    expect(said('error')).toEqual([]);
    expect(showLink('vif5.0')?.master).toBe('br_dom0');
    await eventually(() => global('br_dom0').length === 1);
    await agent.kill('SIGTERM');
    expect([global('br_dom0'), global('br_lan')]).toEqual([['10.0.0.1/24'], ['192.0.2.4/24']]);
    expect(showLink('eth7')?.master).toBe('br_lan');
  });
});

describe('vifd status and vifd doctor where vifd only observes', () => {
  const vifd = (command: string, xenstore: string, ...more: string[]) =>
    execaSync(process.execPath, ['dist/main.js', command, '--xenstore', xenstore, ...more], { reject: false });
  const STANZAS = `
[bridge.br_lan]
ports = "eth7"

[bind.a]
when.bridge = "br1"
addresses = "192.0.2.4/24"

[bind.b]
when.vif.mac = "00:16:3e:00:00:01"
on = "br1"
addresses = "198.51.100.4/24"
`;

  test('without xenstore: what is bound, what waits, what lacks', async () => {
    addPeer('eth7');
    ip('link', 'add', 'br1', 'type', 'bridge');
    addVif('vif5.0');
    ip('link', 'set', 'vif5.0', 'master', 'br1');
    await observe(STANZAS);
    const store = join(dir, 'no-xenstore');
    const status = vifd('status', store);
    expect(status.stdout.split('\n')).toEqual([
      `vifd run (pid ${agent?.pid}) runs here and only observes (agent.mode = "observe"): vifs are attached by others`,
      'no vifs',
      '[bridge.br_lan]  in force on br_lan',
      '[bind.a]  in force on br1',
      '[bind.b]  waiting (for a vif as when.vif has it)',
    ]);
    expect(status.exitCode).toBe(0);
    const codes = JSON.parse(vifd('doctor', store, '--json').stdout).findings.filter(
      ({ severity }: { severity: string }) => severity !== 'ok',
    );
    expect(codes.map(({ code }: { code: string }) => code)).not.toContain('agent');
    expect(codes.map(({ code }: { code: string }) => code)).not.toContain('netback');
    await agent?.kill('SIGTERM');
    ip('link', 'set', 'eth7', 'nomaster');
    const lacking = vifd('status', store, '--json', '-c', config());
    const { own, mode, healthy } = JSON.parse(lacking.stdout);
    expect([lacking.exitCode, healthy]).toEqual([1, false]);
    expect([mode, own[0]]).toEqual([
      'observe',
      {
        table: '[bridge.br_lan]',
        state: 'incomplete',
        interfaces: ['br_lan'],
        lacks: ['not so yet: eth7 joined br_lan'],
      },
    ]);
  });

  test('vifs of others are judged by what others say of them', async () => {
    const host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) } });
    onTestFinished(() => host.close());
    ip('link', 'add', 'br1', 'type', 'bridge');
    addPeer('eth7');
    writeFileSync(config(), `[agent]\nmode = "observe"\n${STANZAS}`);
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    const created = host.createGuest(5, [{ mac: '00:16:3e:00:00:01', bridge: 'no_such' }]);
    await eventually(() => showLink('vif5.0') !== undefined);
    const status = () =>
      execa(process.execPath, ['dist/main.js', 'status', '--xenstore', host.socketOf(NICDOM)], { reject: false });
    await eventually(async () => /^5\/0 {2}vif5\.0 .* waiting$/m.test((await status()).stdout), 10_000);
    await host.dom0.write(`/local/domain/${NICDOM}/backend/vif/5/0/hotplug-status`, 'connected');
    await created;
    await eventually(async () => /^5\/0 {2}vif5\.0 .* connected {2}connected$/m.test((await status()).stdout), 10_000);
    expect((await status()).stdout).toContain('[bind.b]  in force on br1');
    expect((await status()).exitCode).toBe(0);
  });
});

test('another program that undoes all: repairs come later and later, and the log says so once', async () => {
  addPeer('eth7');
  await observe('[bridge.br_lan]\nports = "eth7"\n');
  const took: number[] = [];
  for (let i = 0; i < 7; i++) {
    ip('link', 'set', 'eth7', 'nomaster');
    const startedAt = performance.now();
    await eventually(() => showLink('eth7')?.master === 'br_lan', 10_000);
    took.push(performance.now() - startedAt);
  }
  expect(took[6]).toBeGreaterThan(1_000);
  expect(said('warn')).toEqual([
    '[bridge] and [bind]: another program keeps changing what they ask for, so repairs come ever later; "ip monitor" shows what, have it leave these interfaces alone',
  ]);
});

describe('a vif that is bound by what dom0 wrote of it', () => {
  const MACS = ['00:16:3e:00:00:01', '00:16:3e:00:00:02'];
  const stanza = (on = '') =>
    `[bind.lan]\nwhen.vif = { mac = "${MACS[1]}", script = "vif-*" }\n${on}addresses = "10.9.0.1/24"\nrun = [["${program('plug')}"]]\ngone.run = [["${program('unplug')}"]]\n`;
  async function startHost(): Promise<SimulatedHost> {
    const host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) } });
    onTestFinished(() => host.close());
    return host;
  }

  test('attached by vifd: on the interface of its name, when it is connected, once, until it leaves', async () => {
    const host = await startHost();
    writeFileSync(config(), `[vif]\nguard = "off"\ngateway = "203.0.113.1"\n${stanza()}`);
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    const vif = (i: number) => ({ mac: MACS[i] as string, script: 'vif-route', ip: `203.0.113.${7 + i}` });
    await host.createGuest(5, [vif(0), { ...vif(1), vifname: 'fw-lan' }]);
    await eventually(() => called().length === 1);
    expect(called()).toEqual(['plug  lan appeared fw-lan']);
    expect(global('fw-lan').sort()).toEqual(['10.9.0.1/24', '203.0.113.1/32']);
    expect(global('vif5.0')).toEqual(['203.0.113.1/32']);
    host.store.disconnect(NICDOM);
    await agent.saw(({ msg }) => /^ready/.test(msg) && agent?.log.filter((one) => /^ready/.test(one.msg)).length === 2);
    await host.destroyGuest(5);
    await eventually(() => called().length === 2);
    expect(called()[1]).toBe('unplug  lan gone fw-lan');
  });

  test('attached by others, where mode is "observe"; xenstore that comes late, and goes', async () => {
    ip('link', 'add', 'xenbr0', 'type', 'bridge');
    const text = stanza('on = "xenbr0"\n');
    await observe(text);
    await agent?.saw(({ level, msg }) => level === 'warn' && /^\[bind\] with when\.vif: .*no-xenstore/.test(msg));
    await agent?.kill('SIGTERM');
    const host = await startHost();
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    const created = host.createGuest(5, [{ mac: MACS[1] as string, bridge: 'xenbr0' }]);
    await eventually(() => showLink('vif5.0') !== undefined);
    ip('link', 'set', 'vif5.0', 'master', 'xenbr0');
    expect(called()).toEqual([]);
    await host.dom0.write(`/local/domain/${NICDOM}/backend/vif/5/0/hotplug-status`, 'connected');
    await created;
    await eventually(() => called().length === 1);
    expect(called()).toEqual(['plug  lan appeared vif5.0']);
    expect(global('xenbr0')).toEqual(['10.9.0.1/24']);
    await host.store.unlisten(NICDOM);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(called()).toHaveLength(1);
    ip('link', 'del', 'vif5.0');
    await eventually(() => called().length === 2);
    expect(called()[1]).toBe('unplug  lan gone vif5.0');
    await eventually(() => global('xenbr0').length === 0);
  });
});

describe('after a restart of vifd', () => {
  const MAC = '00:16:3e:00:00:01';
  const STANZA = `[bind.lan]\nwhen.vif = { mac = "${MAC}" }\non = "br_lan"\naddresses = "10.9.0.1/24"\nmasquerade = true\n`;
  const chains = () => execaSync('nft', ['list', 'table', 'inet', 'vifd_bind'], { reject: false }).stdout;
  const takenAway = () => said('info').filter((msg) => / off br_lan|masqueraded no more/.test(msg));

  /** vif5.0, connected and bound, while a vifd with this mode was running. */
  async function bound(text: string): Promise<SimulatedHost> {
    onTestFinished(() => void execaSync('nft', ['flush', 'ruleset']));
    for (const name of ['br_lan', 'xenbr0']) ip('link', 'add', name, 'type', 'bridge');
    const host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) } });
    onTestFinished(() => host.close());
    writeFileSync(config(), text);
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    const created = host.createGuest(5, [{ mac: MAC, bridge: 'xenbr0' }]);
    await eventually(() => showLink('vif5.0') !== undefined);
    if (text.includes('observe'))
      await host.dom0.write(`/local/domain/${NICDOM}/backend/vif/5/0/hotplug-status`, 'connected');
    await created;
    await eventually(() => global('br_lan').length === 1 && chains().includes('br_lan'));
    await agent.kill('SIGTERM');
    return host;
  }

  test('what is bound to a vif stays as it is; when that left meanwhile it goes', async () => {
    const host = await bound(STANZA);
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(said('info').filter((msg) => msg.startsWith('[bind'))).toEqual([]);
    await agent.kill('SIGTERM');
    await host.destroyGuest(5);
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    await eventually(() => takenAway().length === 2);
    expect(global('br_lan')).toEqual([]);
    expect(chains()).not.toContain('bound_');
  });

  test('where mode is "observe", and while xenstore does not answer', async () => {
    await bound(`[agent]\nmode = "observe"\n${STANZA}`);
    await observe(STANZA);
    expect(takenAway()).toEqual([]);
    expect(global('br_lan')).toEqual(['10.9.0.1/24']);
    expect(chains()).toContain('bound_');
  });

  test('that has no binding any more nothing is masqueraded', async () => {
    await bound(STANZA);
    await observe('');
    await eventually(() => takenAway().length === 1);
    expect(chains()).not.toContain('bound_');
  });
});

describe('on a routed vif', () => {
  /** vif5.0, connected, with this stanza of a binding. */
  async function routed(stanza: string): Promise<SimulatedHost> {
    const host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) } });
    onTestFinished(() => host.close());
    await host.createGuest(5, [{ script: 'vif-route', ip: '203.0.113.7' }]);
    writeFileSync(config(), `[vif]\nguard = "off"\ngateway = "203.0.113.1"\n${stanza}`);
    agent = await AgentProcess.ready(host.socketOf(NICDOM), '--config', config());
    await eventually(async () => (await host.backendNode(5, 0, 'hotplug-status')) === 'connected');
    return host;
  }

  test("a binding's address and route stay beside the vif's own, and nobody fights", async () => {
    await routed(
      '[bind.more]\nwhen.interface = "vif5.0"\naddresses = "10.9.0.1/24"\nroutes = ["198.51.100.0/24", "2001:db8:9::/64"]\n',
    );
    const shown = () => [...ip('route').split('\n'), ...ip('-6', 'route').split('\n')].join('\n');
    await eventually(() => shown().includes('198.51.100.0/24') && global('vif5.0').includes('10.9.0.1/24'));
    ip('link', 'set', 'vif5.0', 'txqueuelen', '7'); // has both look again
    await eventually(() => showLink('vif5.0')?.txqlen === 1000);
    const { length } = agent?.log ?? [];
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(agent?.log.slice(length).map(({ msg }) => msg)).not.toContainEqual(
      expect.stringMatching(/removed|vif5.0, | no route|on vif5.0$/),
    );
    expect(global('vif5.0').sort()).toEqual(['10.9.0.1/24', '203.0.113.1/32']);
    expect(shown()).toMatch(/^203\.0\.113\.7 dev vif5\.0 proto 118 /m);
    expect(shown()).toMatch(/^198\.51\.100\.0\/24 dev vif5\.0 proto 119 /m);
    expect(shown()).toMatch(/^2001:db8:9::\/64 dev vif5\.0 proto 119 /m);
  });
});
