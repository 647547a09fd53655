/** The admin's scripts and hooks by the running agent: called as libxl calls them, and nobody waits for one that hangs. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa, execaSync } from 'execa';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { showLink } from '../netns/namespace.js';
import { measured } from '../support/measured.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'hooks'));
});

const executable = (name: string, text: string) =>
  writeFileSync(join(dir, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
const script = (text: string) => executable('vif-mine', text);
const lines = (name: string) =>
  existsSync(join(dir, name)) ? readFileSync(join(dir, name), 'utf8').trim().split('\n') : [];
const GUEST = { bridge: 'br0', script: '/etc/xen/scripts/vif-mine' };

async function start(more = ''): Promise<void> {
  const config = `[script.vif-mine]\nfile = "${dir}/vif-mine"\n${more}\n[hooks]\ndirectory = "${dir}/hooks"\n`;
  writeFileSync(join(dir, 'vifd.toml'), config);
  await world.start({ agent: false });
  await startAgent();
}
const startAgent = () => world.startAgent('-c', join(dir, 'vifd.toml'));
const calls = () => lines('calls');
/** Notes each call, and what the interface is like. */
const NOTE = () =>
  `echo "$1 $2 $# $vif $XENBUS_PATH $(ip -o link show $vif 2>/dev/null | grep -o 'qlen [0-9]*')" >>${dir}/calls\n`;

test('online once, before connected; adopted it is not run again; offline once before the directory goes', async () => {
  script(`${NOTE()}[ $1 = offline ] || ip link set $vif up\necho hello`);
  await start();
  await world.host.createGuest(5, [GUEST]);
  await world.connected(5);
  expect(calls()).toEqual(['online type_if=vif 2 vif5.0 backend/vif/5/0 qlen 1000']);
  await world.agent.saw(({ msg }) => msg === 'vif5.0: script vif-mine online: "hello"');
  await world.agent.saw(({ msg }) => msg.startsWith('connected vif5.0 to script vif-mine in '));
  await world.until(5, 0, 'state', '4');
  execaSync('ip', ['link', 'set', 'vif5.0', 'txqueuelen', '7']); // this is repaired, and without the script
  await eventually(() => showLink('vif5.0')?.txqlen === 1000);

  await world.agent.kill('SIGKILL');
  await startAgent();
  await world.agent.saw(({ msg }) => msg === 'vif5.0 is connected to script vif-mine already');
  expect(calls()).toHaveLength(1);
  await world.agent.kill('SIGKILL');
  const detached = world.host.detachVif(5, 0); // while no agent runs
  await world.until(5, 0, 'state', '6');
  await startAgent();
  expect(await detached).toMatchObject({ ok: true });
  expect(calls().slice(1)).toEqual(['offline type_if=vif 2 vif5.0 backend/vif/5/0']);
});

test('a script that hangs delays no other vif, is killed at its limit, and is run again until it succeeds', async () => {
  script(`${NOTE()}[ -e ${dir}/good ] || sleep 60`);
  await start('timeout = 1');
  await measured('a user script hangs: two other vifs are connected', 900, async () => {
    await world.host.createGuest(5, [GUEST, { bridge: 'br0' }, { bridge: 'br0' }]);
    await world.connected(5, 1);
    await world.connected(5, 2);
  });
  expect(await world.node(5, 0, 'hotplug-status')).toBe('');
  await world.until(5, 0, 'hotplug-error', 'script vif-mine did not end within 1 s and was killed');
  expect(await world.node(5, 0, 'hotplug-status')).toBe('error');
  writeFileSync(join(dir, 'good'), '');
  await world.connected(5);
  expect(calls().length).toBeGreaterThan(1);
  expect(await world.node(5, 0, 'hotplug-error')).toBeUndefined();
});

test('a script that has written its own success and then fails has failed', async () => {
  script(`${NOTE()}while [ ! -e ${dir}/written ]; do sleep 0.1; done\necho no luck >&2; exit 1`);
  await start();
  await world.host.createGuest(5, [GUEST]);
  await eventually(() => calls().length === 1);
  await world.host.dom0.write(`/local/domain/${NICDOM}/backend/vif/5/0/hotplug-status`, 'connected');
  writeFileSync(join(dir, 'written'), '');
  await world.until(5, 0, 'hotplug-error', 'script vif-mine failed: no luck');
});

test('while online hangs the guest can leave, and the script is told', async () => {
  script(`${NOTE()}[ $1 = offline ] || sleep 60`);
  await start('timeout = 40');
  await world.host.createGuest(5, [GUEST]);
  await eventually(() => calls().length === 1);
  expect(await world.host.destroyGuest(5)).toMatchObject({ ok: true });
  expect(calls().map((line) => line.split(' ')[0])).toEqual(['online', 'offline']);
});

test('a directory that dom0 removes by force is an end as well; made anew, it begins when that is over', async () => {
  script(`${NOTE()}[ $1 = online ] || sleep 2\necho "$1 ended" >>${dir}/calls`);
  await start();
  const told = () => calls().map((line) => line.replace(/ type_if.*/, ''));
  await world.host.createGuest(5, [GUEST]);
  await world.connected(5);
  await world.host.dom0.rm(`/local/domain/${NICDOM}/backend/vif/5/0`);
  await eventually(() => told().length === 3);
  await sleep(500); // looked at meanwhile, and found gone
  await world.host.detachVif(5, 0);
  expect(await world.host.attachVif(5, { ...GUEST, devid: 0 })).toMatchObject({ ok: true });
  await world.connected(5);
  expect(told()).toEqual(['online', 'online ended', 'offline', 'offline ended', 'online', 'online ended']);
});

test('an error of vifd’s own in between: neither script nor hooks hear of a vif that stays', async () => {
  script(`${NOTE()}[ $1 = offline ] || ip link set $vif up`);
  executable('hooks/10-note', `echo $VIFD_EVENT >>${dir}/told`);
  await start();
  await world.host.createGuest(5, [GUEST]);
  await world.connected(5);
  const files = readFileSync(join(dir, 'vifd.toml'), 'utf8');
  writeFileSync(join(dir, 'vifd.toml'), `${files}[vif]\nguard = "ip"\n`);
  process.kill(world.agent.pid, 'SIGHUP');
  await world.until(5, 0, 'hotplug-status', 'error');
  writeFileSync(join(dir, 'vifd.toml'), files);
  process.kill(world.agent.pid, 'SIGHUP');
  await world.connected(5);
  await world.host.detachVif(5, 0);
  await eventually(() => lines('told').length === 2, 8_000);
  expect(lines('told')).toEqual(['connected', 'left']);
  expect(calls().map((line) => line.split(' ')[0])).toEqual(['online', 'offline']);
});

test('a script may give the interface another name', async () => {
  script(`${NOTE()}[ $1 = offline ] || { ip link set $vif down; ip link set $vif name web0; ip link set web0 up; }`);
  await start();
  await world.host.createGuest(5, [GUEST]);
  await world.connected(5);
  await world.until(5, 0, 'state', '4');
  await sleep(1500); // longer than its changes settle
  expect(showLink('web0')?.txqlen).toBe(1000);
  expect(world.agent.log.filter(({ msg }) => msg.startsWith('connected vif5.0'))).toHaveLength(1);
  expect(await world.host.destroyGuest(5)).toMatchObject({ ok: true });
  expect(calls().map((line) => line.split(' ')[0])).toEqual(['online', 'offline']);
});

test('one that fails says why; one that hangs on offline keeps the directory no longer than dom0 waits', async () => {
  script('if [ $1 = offline ]; then sleep 60; fi\n[ -e /nowhere ] || echo "no /nowhere here" >&2; exit 1');
  await start();
  await world.host.createGuest(5, [GUEST]);
  await world.until(5, 0, 'hotplug-error', 'script vif-mine failed: no /nowhere here');
  expect(await world.host.destroyGuest(5)).toMatchObject({ ok: true });
});

test('hooks are told of what has happened, in the order of their names, and delay nothing', async () => {
  const note = `echo "$0 $(env | grep ^VIFD_ | grep -v -e RUN_DIR -e TEST -e VIFD_PID | sort | tr '\\n' ' ')" >>${dir}/told`;
  executable('hooks/10-slow', `sleep 1\n${note}`);
  executable('hooks/20-bad', 'exit 3');
  executable('hooks/30-other', note);
  await start();
  const startedAt = performance.now();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: '00:16:3e:00:00:01' }]);
  await world.connected(5);
  expect(performance.now() - startedAt).toBeLessThan(900);
  const facts = (event: string) =>
    `VIFD_BRIDGE=br0 VIFD_DEVID=0 VIFD_DOMID=5 VIFD_EVENT=${event} VIFD_IFNAME=vif5.0 VIFD_IP= VIFD_MAC=00:16:3e:00:00:01 VIFD_MODE=bridge VIFD_VIF=vif5.0`;
  const told = (event: string) => ['10-slow', '30-other'].map((name) => `${dir}/hooks/${name} ${facts(event)}`);
  await world.host.detachVif(5, 0);
  await eventually(() => lines('told').length === 4, 8_000);
  expect(lines('told').map((line) => line.trim())).toEqual([...told('connected'), ...told('left')]);
  await world.agent.saw(({ msg }) => msg.includes('vif5.0 connected: hook "20-bad" failed: exit status 3'));
});

test('without a daemon vif-script runs it as well, once for each command', async () => {
  script(`${NOTE()}[ $1 = offline ] || ip link set $vif up`);
  await start();
  await world.agent.kill('SIGTERM');
  const ask = (command: string) =>
    execa(process.execPath, ['dist/main.js', 'vif-script', command, 'backend/vif/5/0', '-c', join(dir, 'vifd.toml')], {
      env: { XENSTORED_PATH: world.host.socketOf(NICDOM), UDEV_CALL: '1' },
      reject: false,
    });
  void world.host.createGuest(5, [GUEST]);
  await world.until(5, 0, 'state', '2');
  expect(await ask('online')).toMatchObject({ exitCode: 0, stderr: '' });
  await world.until(5, 0, 'state', '4');
  const detached = world.host.detachVif(5, 0);
  await world.until(5, 0, 'state', '6');
  expect(await ask('offline')).toMatchObject({ exitCode: 0, stderr: '' });
  expect(await detached).toMatchObject({ ok: true });
  expect(calls().map((line) => line.split(' ')[0])).toEqual(['online', 'offline']);
});
