/** What the running agent tells of itself: over its socket, into a file, and through `vifd status --prometheus`. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { askAgent } from '../../src/service/status-socket-client.js';
import { NICDOM } from '../../src/simulator/host.js';
import { ip, showLink } from '../netns/namespace.js';
import { parsePrometheus, type Scrape } from '../prometheus.js';
import { AgentProcess, eventually, type LogLine } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-metrics-'));
  process.env.VIFD_RUN_DIR = dir;
  onTestFinished(() => {
    delete process.env.VIFD_RUN_DIR;
    rmSync(dir, { recursive: true });
  });
});

async function metrics(): Promise<Scrape> {
  let text = '';
  for await (const line of askAgent('metrics')) text += `${line}\n`;
  return parsePrometheus(text);
}

const vifd = (...args: string[]) =>
  execa(process.execPath, ['dist/main.js', ...args, '--xenstore', world.host.socketOf(NICDOM)], { reject: false });

/** Guest 5 is connected to br0. */
async function oneGuest(): Promise<void> {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.connected(5);
}

test('a follower has the debug records that the log itself is not to have; nobody has them when it has gone', async () => {
  await world.start({ agent: false });
  world.agent = new AgentProcess(world.host.socketOf(NICDOM), '--log-level', 'warn');
  await eventually(() => metrics().catch(() => false));
  const lines = askAgent('follow');
  const next = async () => JSON.parse((await lines.next()).value ?? '{}') as LogLine;
  expect(await next()).toMatchObject({ level: 'debug', msg: 'a client follows this log' });
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  let record = await next();
  if (record.msg.startsWith('ready')) record = await next();
  expect(record).toMatchObject({ level: 'info', domid: 5, msg: expect.stringContaining('connected vif5.0') });
  await lines.return();
  await world.host.createGuest(6, [{ bridge: 'none' }]);
  await world.agent.saw(({ level, domid }) => level === 'error' && domid === 6);
  expect(world.agent.log.map(({ level }) => level)).toEqual(['error']);
});

test('the socket is gone after the agent, and a new agent takes the place of one that was killed', async () => {
  await world.start();
  expect((await metrics()).value('vifd_up')).toBe(1);
  await world.agent.kill('SIGKILL');
  expect(readdirSync(dir)).toContain('status');
  await expect(metrics()).rejects.toMatchObject({ code: 'ENOAGENT' });
  await world.startAgent();
  expect((await metrics()).value('vifd_up')).toBe(1);
  await world.agent.kill('SIGTERM');
  expect(readdirSync(dir)).not.toContain('status');
});

test('a vif that is attached, one that fails and then works, and one that leaves', async () => {
  await oneGuest();
  await world.host.createGuest(6, [{ bridge: 'br1' }]);
  await world.until(6, 0, 'hotplug-status', 'error');
  const failed = await metrics();
  expect(failed.value('vifd_vifs', { state: 'connected', bridge: 'br0' })).toBe(1);
  expect(failed.value('vifd_vifs', { state: 'failed', bridge: 'br1' })).toBe(1);
  expect(failed.value('vifd_vif_failed', { domid: '6', devid: '0', ifname: 'vif6.0' })).toBe(1);
  expect(failed.value('vifd_failures_total', { code: 'ENOBRIDGE' })).toBe(1);
  expect(failed.value('vifd_attach_seconds_count')).toBe(1);
  expect(failed.value('vifd_attach_seconds_sum')).toBeGreaterThan(0);
  expect(failed.value('vifd_attach_seconds_sum')).toBeLessThan(1);

  await sleep(1_000); // a time that cannot be netback's
  ip('link', 'add', 'br1', 'up', 'type', 'bridge');
  await world.connected(6);
  const cured = await metrics();
  expect(cured.value('vifd_vifs', { state: 'connected', bridge: 'br1' })).toBe(1);
  expect(cured.value('vifd_vif_failed', { domid: '6', devid: '0', ifname: 'vif6.0' })).toBe(0);
  expect(cured.value('vifd_failures_total', { code: 'ENOBRIDGE' })).toBe(1); // tried again many times, one fault
  expect(cured.value('vifd_attach_seconds_count')).toBe(2);
  expect(cured.value('vifd_attach_seconds_sum')).toBeGreaterThan(1);

  await world.host.detachVif(6, 0);
  await world.gone(6);
  await eventually(async () => (await metrics()).value('vifd_departures_total') === 1);
  await sleep(500);
  expect(world.agent.log.filter(({ msg }) => msg === 'vif6.0 has left')).toHaveLength(1);
  const gone = await metrics();
  expect(gone.value('vifd_departures_total')).toBe(1);
  expect(gone.names().filter((name) => name === 'vifd_vif_failed')).toHaveLength(1);
});

test('a repair is counted by what was repaired', async () => {
  await oneGuest();
  ip('link', 'set', 'vif5.0', 'nomaster');
  await eventually(() => showLink('vif5.0')?.master === 'br0');
  await world.agent.saw(({ msg }) => msg.startsWith('repaired vif5.0'));
  ip('link', 'set', 'vif5.0', 'txqueuelen', '7');
  await eventually(() => showLink('vif5.0')?.txqlen === 1000);
  await eventually(() => world.agent.log.filter(({ msg }) => msg.startsWith('repaired vif5.0')).length === 2);
  const seen = await metrics();
  expect(seen.value('vifd_repairs_total', { what: 'master' })).toBe(1);
  expect(seen.value('vifd_repairs_total', { what: 'txqlen' })).toBe(1);
  expect(seen.value('vifd_attach_seconds_count')).toBe(1);
});

test('a connection to xenstore that was made anew; a vif that is found connected was not attached', async () => {
  await oneGuest();
  const before = await metrics();
  expect(before.value('vifd_xenstore_reconnects_total')).toBe(0);
  expect(before.value('vifd_scans_total')).toBe(1);
  world.host.store.disconnect(NICDOM);
  await eventually(async () => (await metrics()).value('vifd_xenstore_connected') === 0);
  await eventually(async () => (await metrics()).value('vifd_xenstore_reconnects_total') === 1);
  const after = await metrics();
  expect(after.value('vifd_xenstore_connected')).toBe(1);
  expect(after.value('vifd_scans_total')).toBe(2);
  expect(after.value('vifd_vifs', { state: 'connected', bridge: 'br0' })).toBe(1);
  expect(after.value('vifd_attach_seconds_count')).toBe(1);
  expect(after.value('vifd_start_time_seconds')).toBe(before.value('vifd_start_time_seconds'));
});

test('vifd status --prometheus: the vifs as seen from there, the counters of the agent; without it vifd_up 0', async () => {
  await oneGuest();
  await world.host.createGuest(6, [{ bridge: 'none' }]);
  await world.until(6, 0, 'hotplug-status', 'error');
  const beside = await vifd('status', '--prometheus');
  expect([beside.exitCode, beside.stderr]).toEqual([0, '']);
  const seen = parsePrometheus(`${beside.stdout}\n`);
  expect(seen.value('vifd_up')).toBe(1);
  expect(seen.value('vifd_failures_total', { code: 'ENOBRIDGE' })).toBe(1);
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  expect(seen.value('vifd_build_info', { version, node_version: process.versions.node })).toBe(1);
  expect(seen.value('vifd_vif_failed', { domid: '6', devid: '0', ifname: 'vif6.0' })).toBe(1);

  await world.agent.kill('SIGTERM');
  const alone = await vifd('status', '--prometheus');
  expect([alone.exitCode, alone.stderr]).toEqual([0, '']);
  const left = parsePrometheus(`${alone.stdout}\n`);
  expect(left.value('vifd_up')).toBe(0);
  expect(left.value('vifd_vifs', { state: 'failed', bridge: 'none' })).toBe(1);
  expect(new Set(left.names())).toEqual(new Set(['vifd_up', 'vifd_vifs', 'vifd_vif_failed']));
});

test('the agent keeps a file of them, and its last word is that it has ended', async () => {
  const file = join(dir, 'vifd.prom');
  const read = () => parsePrometheus(readFileSync(file, 'utf8'));
  await world.start({ agent: false });
  await world.startAgent('--metrics-file', file);
  await eventually(() => read().value('vifd_scans_total') === 1);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await eventually(() => read().names().includes('vifd_vifs'), 20_000);
  const second = new AgentProcess(world.host.socketOf(NICDOM), '--metrics-file', file);
  expect(await second.exited).toMatchObject({ code: 1 }); // one is enough
  expect(read().value('vifd_up')).toBe(1);
  expect(read().value('vifd_vifs', { state: 'connected', bridge: 'br0' })).toBe(1);
  await world.agent.kill('SIGTERM');
  expect(read().value('vifd_up')).toBe(0);
  expect(read().value('vifd_attach_seconds_count')).toBe(1);
  expect(readdirSync(dir).filter((name) => name.startsWith('vifd.prom'))).toEqual(['vifd.prom']);
});

test('a file that cannot be written is one warning, and the agent works', async () => {
  await world.start({ agent: false });
  await world.startAgent('--metrics-file', '/proc/vifd.prom');
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.connected(5);
  expect(world.agent.log.filter(({ level }) => level === 'warn').map(({ msg }) => msg)).toEqual([
    "the metrics file /proc/vifd.prom cannot be written (ENOENT); /proc must be there and vifd's to write, under systemd by ReadWritePaths= as well",
  ]);
});

test('a relative path is wrong usage', async () => {
  const { exitCode, stderr } = await execa(process.execPath, ['dist/main.js', 'run', '--metrics-file', 'vifd.prom'], {
    reject: false,
  });
  expect(exitCode).toBe(2);
  expect(stderr).toContain('it must be an absolute path.');
});
