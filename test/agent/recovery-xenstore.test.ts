/** xenstore goes, comes again, is another, or forgets to tell; the driver domain is stopped, and moved. */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { SimulatedStore } from '../../src/simulator/store.js';
import { ip, showLink } from '../netns/namespace.js';
import { measured } from '../support/measured.js';
import { AgentProcess, eventually } from './agent-process.js';
import { environment, scratch, sleep, standIn } from './recovery.js';
import { StoreBetween } from './store-between.js';
import { useWorld } from './world.js';

const world = useWorld();
const MAC = '00:16:3e:00:00:01';
const OTHER = '00:16:3e:00:00:02';
const guards = () => execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' });

beforeEach(() => execFileSync('nft', ['flush', 'ruleset']));

/** With one guarded vif that works. */
async function working(...args: string[]): Promise<StoreBetween> {
  await world.start({ agent: false });
  const between = await new StoreBetween(world.host.socketOf(NICDOM)).start();
  world.agent = await AgentProcess.ready(between.path, ...args);
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
  await world.until(5, 0, 'state', '4');
  return between;
}

const saw = (msg: string, from: number) => () => world.agent.log.slice(from).some((line) => line.msg.includes(msg));

/** Nothing may happen to this link meanwhile. */
async function unchanged(ifname: string, during: () => Promise<void>): Promise<void> {
  const changes: string[] = [];
  const monitor = spawn('ip', ['-o', 'monitor', 'link'], { stdio: ['ignore', 'pipe', 'ignore'] });
  monitor.stdout.on('data', (bytes) => changes.push(...String(bytes).split('\n')));
  await sleep(100);
  await during();
  await sleep(100);
  monitor.kill();
  expect(changes.filter((line) => line.includes(`${ifname}@`))).toEqual([]);
}

const LOST = /xenstored closed the connection; vifs go on working, and vifd tries again$/;

test('xenstored restarts before the same tree: nothing flaps, what came meanwhile is connected', async () => {
  const between = await working();
  const rules = guards();
  await unchanged('vif5.0', async () => {
    between.stop();
    await world.agent.saw(({ level, msg }) => level === 'error' && LOST.test(msg));
    const created = world.host.createGuest(6, [{ bridge: 'br0' }]);
    await sleep(1_500);
    const from = world.agent.log.length;
    await between.start();
    await measured('xenstored away for 1.5 s, same tree: connected again', 2_500, async () => {
      await eventually(saw('vif5.0 is connected to br0 already', from));
      await world.connected(6);
    });
    expect(await created).toMatchObject({ ok: true });
  });
  expect(guards()).toBe(rules);
});

test('xenstored is replaced by one that knows nothing: what runs stays, guards too; and all is adopted when the tree is back', async () => {
  const { args, told } = hooks();
  const between = await working(...args);
  const rules = guards();
  const path = join(scratch(), 'empty');
  const empty = new SimulatedStore();
  await empty.listen(NICDOM, path);
  onTestFinished(() => empty.close());
  await unchanged('vif5.0', async () => {
    between.stop();
    const from = world.agent.log.length;
    await between.start(path);
    await measured('xenstored replaced, tree empty: vifd serves it', 2_000, () =>
      eventually(saw('0 vifs connected, 0 failed', from)),
    );
    await sleep(300); // for what it takes for leftovers
    expect(guards()).toBe(rules);
    const unseen =
      'the vifs in "backend/vif" cannot be seen and are left as they are: dom0 keeps it from this domain, or xenstored has lost';
    expect(saw(unseen, from)()).toBe(true);
    between.stop();
    await between.start(world.host.socketOf(NICDOM));
    await measured('the tree comes back: adopted', 2_000, () =>
      eventually(saw('vif5.0 is connected to br0 already', from)),
    );
  });
  expect(guards()).toBe(rules);
  await sleep(300); // for a hook that must not run
  expect(told()).toEqual([`connected vif5.0 ${MAC}`]);
});

/** A hook that writes down what it is told. */
function hooks(): { args: string[]; told: () => string[] } {
  const dir = scratch();
  chmodSync(dir, 0o755);
  mkdirSync(join(dir, 'hooks'));
  const told = join(dir, 'told');
  const file = join(dir, 'hooks', 'note');
  writeFileSync(file, `#!/bin/sh\necho "$VIFD_EVENT $VIFD_VIF $VIFD_MAC" >>${told}\n`);
  chmodSync(file, 0o755);
  if (process.getuid?.() === 0) chownSync(file, 0, 0);
  writeFileSync(join(dir, 'vifd.toml'), `hooks.directory = "${join(dir, 'hooks')}"\n`);
  return {
    args: ['-c', join(dir, 'vifd.toml')],
    told: () => (existsSync(told) ? readFileSync(told, 'utf8').trim().split('\n') : []),
  };
}

/** `xl network-detach` and attach: the same ids, another card. */
async function replace(): Promise<void> {
  await world.host.dom0.rm('/local/domain/1/backend/vif/5');
  await eventually(() => showLink('vif5.0') === undefined);
  await world.host.dom0.rm('/libxl/5/device/vif');
  await world.host.dom0.rm('/local/domain/5/device/vif');
  const attached = world.host.attachVif(5, { bridge: 'br0', mac: OTHER, devid: 0, ip: '192.0.2.8' });
  attached.catch(() => undefined);
  await world.until(5, 0, 'mac', OTHER);
}

test('hooks hear that a vif has left which was connected before the connection was lost, and could not be since', async () => {
  const { args, told } = hooks();
  const between = await working(...args);
  await eventually(() => told().length === 1);
  between.stop();
  await world.agent.saw(({ level, msg }) => level === 'error' && /closed the connection/.test(msg));
  ip('link', 'del', 'br0');
  await between.start();
  await world.until(5, 0, 'hotplug-status', 'error');
  await world.host.destroyGuest(5);
  await eventually(() => told().length === 2);
  expect(told()[1]).toContain('left');
});

test('a vif that was replaced while xenstored was away is a new one: hooks hear of both', async () => {
  const { args, told } = hooks();
  const between = await working(...args);
  await eventually(() => told().length === 1);
  between.stop();
  await replace();
  await between.start();
  await measured('another vif of the same number, replaced while xenstored was away: connected', 2_500, () =>
    world.connected(5),
  );
  await eventually(() => told().length === 3);
  expect(told()).toEqual([`connected vif5.0 ${MAC}`, `left vif5.0 ${MAC}`, `connected vif5.0 ${OTHER}`]);
  expect(guards()).toContain(OTHER);
  expect(guards()).not.toContain(MAC);
});

test.each(['xenstore', 'xenstore and the kernel'])(
  'a vif that was replaced while events of %s were lost: the same',
  { timeout: 60_000 },
  async (who) => {
    const real = execFileSync('which', ['ip'], { encoding: 'utf8' }).trim();
    if (who !== 'xenstore') standIn('ip', `[ "$2" = monitor ] && exec sleep 60; exec ${real} "$@"`);
    const { args, told } = hooks();
    const between = await working(...args);
    await eventually(() => told().length === 1);
    between.losesEvents = true;
    await replace();
    await measured(`a vif was replaced, all events of ${who} lost: connected`, 21_000, () =>
      world.connected(5, 0, 22_000),
    );
    await eventually(() => told().length === 3);
    expect(told()).toEqual([`connected vif5.0 ${MAC}`, `left vif5.0 ${MAC}`, `connected vif5.0 ${OTHER}`]);
    expect(guards()).not.toContain(MAC);
  },
);

test('the domain is stopped for a while: what came, went and was changed meanwhile is put right, and systemd hears of life', async () => {
  const said = join(scratch(), 'said');
  standIn('systemd-notify', `echo "$*" >>${said}`);
  environment({ NOTIFY_SOCKET: 'unused', WATCHDOG_USEC: '2000000' });
  await working();
  await world.host.createGuest(6, [{ bridge: 'br0' }]);
  await world.until(6, 0, 'state', '4');
  process.kill(world.agent.pid, 'SIGSTOP');
  const detached = world.host.detachVif(6, 0);
  const created = world.host.createGuest(7, [{ bridge: 'br0' }]);
  ip('link', 'set', 'vif5.0', 'nomaster');
  await sleep(4_000);
  const signs = () => readFileSync(said, 'utf8').split('WATCHDOG=1').length;
  const before = signs();
  process.kill(world.agent.pid, 'SIGCONT');
  await measured('stopped for 4 s: new vif connected, changed one repaired', 1_000, async () => {
    await world.connected(7);
    await eventually(() => showLink('vif5.0')?.master === 'br0');
  });
  await measured('stopped for 4 s: sign of life for systemd', 1_500, () => eventually(() => signs() > before));
  expect(await detached).toMatchObject({ ok: true });
  expect(await created).toMatchObject({ ok: true });
});

/** All of a tree, for another domain to own. */
async function copy(from: string, to: string, owner: number): Promise<void> {
  const { dom0 } = world.host;
  await dom0.write(to, await dom0.read(from));
  await dom0.setPerms(to, [`n${owner}`, 'b0']);
  for (const name of await dom0.directory(from)) await copy(`${from}/${name}`, `${to}/${name}`, owner);
}

test('the driver domain is moved: it and a guest have other ids, watches fire anew', async () => {
  const between = await working();
  const { dom0, store } = world.host;
  const socket = join(scratch(), 'moved');
  await store.listen(9, socket);
  await dom0.write('/local/domain/9/domid', '9');
  for (const name of ['data', 'backend']) await copy(`/local/domain/1/${name}`, `/local/domain/9/${name}`, 9);
  await dom0.rm('/local/domain/9/data/vifd');
  // A guest that was moved, too: netback makes its interface anew.
  await copy('/local/domain/1/backend/vif/5', '/local/domain/9/backend/vif/8', 9);
  await dom0.write('/local/domain/9/backend/vif/8/0/state', '2');
  await dom0.write('/local/domain/9/backend/vif/8/0/frontend', '/local/domain/8/device/vif/0');
  await dom0.write('/local/domain/9/backend/vif/8/0/frontend-id', '8');
  await dom0.rm('/local/domain/9/backend/vif/8/0/hotplug-status');
  ip('link', 'add', 'vif8.0', 'type', 'veth', 'peer', 'name', 'g8.0');
  await unchanged('vif5.0', async () => {
    await measured('moved, with other domids: connected', 1_000, async () => {
      between.move(socket);
      await eventually(
        async () => (await dom0.readOptional('/local/domain/9/backend/vif/8/0/hotplug-status')) === 'connected',
        5_000,
        () => world.agent.log.map(({ msg }) => msg).join('\n'),
      );
    });
  });
  expect(showLink('vif8.0')?.master).toBe('br0');
  await eventually(async () => (await dom0.readOptional('/local/domain/9/data/vifd')) === 'ready');
  expect(world.agent.log.filter(({ level }) => level === 'error')).toEqual([]);
});
