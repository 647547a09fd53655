/** Programs that vifd needs and that hang, are killed, or cannot be started. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { showLink } from '../netns/namespace.js';
import { measured, printMeasured } from '../support/measured.js';
import { AgentProcess, eventually } from './agent-process.js';
import { environment, scratch, standIn } from './recovery.js';
import { StoreBetween } from './store-between.js';
import { useWorld } from './world.js';

const world = useWorld();
const MAC = '00:16:3e:00:00:01';
const OVS = { bridge: 'ovs0', script: '/etc/xen/scripts/vif-openvswitch', mac: MAC };

beforeEach(() => execFileSync('nft', ['flush', 'ruleset']));

/** How many children of this process hang. */
const hanging = (pid: number): number =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter((child) => /^\d+$/.test(child) && readFileSync(`/proc/${child}/comm`, 'utf8') === 'sleep\n').length;

test('vifd ends within a second while nft, ovs-vsctl and systemd-notify hang', async () => {
  for (const name of ['nft', 'ovs-vsctl', 'systemd-notify']) standIn(name, 'exec sleep 60');
  environment({ NOTIFY_SOCKET: 'unused' });
  await world.start({ agent: false });
  world.agent = new AgentProcess(world.host.socketOf(NICDOM));
  const created = world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }, OVS]);
  created.catch(() => undefined); // xl would wait
  await eventually(() => hanging(world.agent.pid) >= 2);
  await measured('vifd stop while nft, ovs-vsctl, systemd-notify hang', 1_000, async () => {
    expect(await world.agent.kill('SIGTERM')).toEqual({ code: 0, signal: null });
  });
});

test('a lost connection to xenstore is made anew at once while nft and ovs-vsctl hang', async () => {
  for (const name of ['nft', 'ovs-vsctl']) standIn(name, 'exec sleep 60');
  await world.start();
  await world.host.createGuest(6, [{ bridge: 'br0' }]);
  await world.connected(6);
  const created = world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }, OVS]);
  created.catch(() => undefined); // xl would wait
  await eventually(() => hanging(world.agent.pid) >= 2);
  world.host.store.disconnect(NICDOM);
  await measured('reconnect while nft and ovs-vsctl hang', 1_000, async () => {
    await world.agent.saw(({ msg }) => msg === 'vif6.0 is connected to br0 already');
  });
});

test('nft hangs: five vifs that must be guarded say so after one try of 5 s, and the others are connected', async () => {
  standIn('nft', 'exec sleep 60');
  const file = join(scratch(), 'vifd.toml');
  writeFileSync(file, '[rule.a]\nmatch.domid = 5\nguard = "mac"\n');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  const five = Array.from({ length: 5 }, (_, i) => ({ bridge: 'br0', mac: `00:16:3e:00:00:0${i}` }));
  world.host.createGuest(5, five).catch(() => undefined); // xl would wait
  await eventually(() => hanging(world.agent.pid) >= 1);
  await measured('nft hangs, five vifs wait for it: a vif without guard', 1_000, async () => {
    await world.host.createGuest(6, [{ bridge: 'br0' }]);
    await world.connected(6);
  });
  await measured('nft hangs: five vifs that must be guarded say so', 7_000, async () => {
    for (const devid of five.keys())
      await world.until(5, devid, 'hotplug-error', 'the vif cannot be guarded: nft has not done it', 7_000);
  });
  expect(world.agent.log.filter(({ msg }) => /nft has not done it; it did not end within 5 s/.test(msg))).toHaveLength(
    5,
  );
  await eventually(() => hanging(world.agent.pid) >= 1, 15_000); // they try again, not before 5 s have gone
  await measured('nft hangs, five vifs try again: a vif without guard', 1_000, async () => {
    await world.host.createGuest(7, [{ bridge: 'br0' }]);
    await world.connected(7);
  });
});

test('nft and ovs-vsctl hang: their vifs say so, and others are connected', async () => {
  for (const name of ['nft', 'ovs-vsctl']) standIn(name, 'exec sleep 60');
  const file = join(scratch(), 'vifd.toml');
  writeFileSync(file, '[rule.a]\nmatch.devid = [1, 2]\nguard = "mac"\n');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  const startedAt = performance.now();
  const guarded = (last: number) => ({ bridge: 'br0', mac: `00:16:3e:00:00:0${last}` });
  await measured('nft and ovs-vsctl hang: a vif that needs neither is connected', 2_500, async () => {
    await world.host.createGuest(5, [{ bridge: 'br0' }, guarded(7), guarded(8), OVS]);
    await world.connected(5);
  });
  for (const [devid, program] of [
    [3, 'Open vSwitch'],
    [1, 'nft'],
    [2, 'nft'],
  ] as const) {
    await eventually(
      async () => (await world.node(5, devid, 'hotplug-error'))?.includes(`${program} has not done it`),
      8_000,
      () => world.agent.log.map(({ msg }) => msg).join('\n'),
    );
    printMeasured(`${program} hangs: its vif says so`, performance.now() - startedAt);
  }
});

test('vifd that ends while nft has a guard in hand puts no vif up without it', async () => {
  const inHand = join(scratch(), 'in-hand');
  standIn('nft', `[ "$1" = -j ] && exit 1; cat >/dev/null; touch ${inHand}; exec sleep 60`);
  await world.start();
  const created = world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
  created.catch(() => undefined); // xl would wait
  await eventually(() => existsSync(inHand));
  await world.agent.kill('SIGTERM');
  expect(showLink('vif5.0')).toMatchObject({ flags: expect.not.arrayContaining(['UP']) });
  expect(showLink('vif5.0')?.master).toBeUndefined();
});

test('an nft that is killed says so, and the guard comes when nft works again', async () => {
  const nft = standIn('nft', '[ "$1" = -j ] && exit 1; kill -KILL $$');
  const file = join(scratch(), 'vifd.toml');
  writeFileSync(file, 'vif.guard = "mac"\n');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await world.agent.saw(
    ({ level, msg }) => level === 'error' && /nft has not done it; it was ended by SIGKILL/.test(msg),
  );
  rmSync(nft);
  await measured('nft killed, then well', 5_000, () => world.connected(5));
});

test('no process can be started any more: bridges go on, and the guard and ip monitor come when one can', async () => {
  // As fork(2) refuses it for want of processes or memory; root is not held to RLIMIT_NPROC.
  const preload = join(scratch(), 'refuse.cjs');
  writeFileSync(preload, REFUSE_CHILDREN);
  const gate = join(scratch(), 'refuse');
  writeFileSync(gate, '');
  environment({ NODE_OPTIONS: `--require ${preload}`, REFUSE_WHILE: gate, NOTIFY_SOCKET: 'unused' });
  const file = join(scratch(), 'vifd.toml');
  writeFileSync(file, '[rule.a]\nmatch.devid = 1\nguard = "mac"\n');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  await measured('no child can be started (ENOMEM): attach to a bridge', 1_000, async () => {
    await world.host.createGuest(5, [{ bridge: 'br0' }, { bridge: 'br0', mac: MAC }, OVS]);
    await world.connected(5);
  });
  await world.until(5, 1, 'hotplug-error', 'the vif cannot be guarded: nft cannot be run (ENOMEM)');
  await world.until(5, 2, 'hotplug-error', 'Open vSwitch cannot be asked: ovs-vsctl cannot be run (ENOMEM)');
  await world.agent.saw(({ msg }) =>
    msg.includes('this domain lacks memory, processes or open files for one more program'),
  );
  await world.agent.saw(({ msg }) => /^cannot follow link changes .*ENOMEM/.test(msg));
  await world.agent.saw(({ msg }) => /^systemd cannot be told READY=1 .*ENOMEM/.test(msg));
  rmSync(gate);
  await measured('children can be started again: guarded vif connected', 6_000, () => world.connected(5, 1, 10_000));
});

/** spawn() as Node.js has it when fork(2) fails with ENOMEM: it throws. */
const REFUSE_CHILDREN = `
const child = require('node:child_process');
const fs = require('node:fs');
const { spawn } = child;
child.spawn = (...words) => {
  if (!fs.existsSync(process.env.REFUSE_WHILE)) return spawn(...words);
  throw Object.assign(new Error('spawn ' + words[0] + ' ENOMEM'), { code: 'ENOMEM', errno: -12 });
};
require('node:module').syncBuiltinESMExports();
`;

test('no file can be opened any more (EMFILE): vifs are attached, and all goes on when one can', async () => {
  await world.start({ agent: false });
  const between = await new StoreBetween(world.host.socketOf(NICDOM)).start();
  world.agent = await AgentProcess.ready(between.path);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.connected(5);
  const prlimit = (...words: string[]) =>
    execFileSync('prlimit', ['--pid', String(world.agent.pid), ...words], { encoding: 'utf8' });
  const soft = prlimit('--nofile', '-o', 'SOFT', '--noheadings').trim();
  prlimit('--nofile=3:'); // those that it has stay open
  await measured('no file descriptor left (EMFILE): attach to a bridge', 1_000, async () => {
    await world.host.createGuest(6, [{ bridge: 'br0' }, { bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
    await world.connected(6);
  });
  await world.agent.saw(({ msg }) => msg.includes('nft cannot be run (EMFILE)'));
  between.stop();
  await between.start();
  await world.agent.saw(({ msg }) => /^no xenstore yet: .*EMFILE/.test(msg));
  prlimit(`--nofile=${soft}:`);
  await measured('file descriptors again: xenstore connected', 3_000, () =>
    eventually(() => world.agent.log.filter(({ msg }) => msg.startsWith('ready')).length === 2),
  );
  await world.host.createGuest(7, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
  await world.connected(7);
  expect(execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' })).toContain('vif7.0');
});
