/** Guards over the life of a vif: before it is up, after a restart, after a flush, and when it is gone. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa, execaSync } from 'execa';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { AgentProcess, eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
const nft = (...args: string[]) => execaSync('nft', args, { reject: false }).stdout;
const table = () => nft('list', 'table', 'bridge', 'vifd');
const MAC = '00:16:3e:00:00:01';

beforeEach(() => void nft('flush', 'ruleset'));

test('a vif with ip= is guarded before it is up; without ip= there is no table', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await world.connected(5);
  expect(table()).toBe('');
  await world.host.createGuest(6, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
  await world.connected(6);
  const { did } = await world.agent.saw(({ ifname, did: steps }) => ifname === 'vif6.0' && steps !== undefined);
  expect(did?.[0]).toBe('guarded');
  expect(did?.at(-1)).toBe('up=true');
  expect(table()).toMatch(/"vif6\.0" : jump guard_/);
  expect(table()).toContain(`ether saddr != ${MAC} drop`);
  expect(table()).toContain('ip saddr != 192.0.2.7 drop');
});

test('explain and status name what the rules in force hold the guest to', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7/24' }]);
  await world.connected(5);
  expect(table()).toContain('ip saddr != 192.0.2.7 drop');
  const ask = async (...args: string[]) =>
    (await execa(process.execPath, ['dist/main.js', ...args, '--xenstore', world.host.socketOf(NICDOM)])).stdout;
  const held = `${MAC}, 192.0.2.7 and any IPv6 address`;
  expect(await ask('explain', '5/0')).toContain(`ok     guard       holds the guest to ${held} (ip= of dom0): `);
  expect(await ask('status')).toContain(`  held to: ${held}`);
});

test('it stays through a kill, comes back after a flush, and goes with the vif', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
  await world.until(5, 0, 'state', '4');
  const before = table();
  await world.agent.kill('SIGKILL');
  await world.startAgent();
  expect(table()).toBe(before);
  nft('flush', 'ruleset');
  execaSync('ip', ['link', 'set', 'vif5.0', 'txqueuelen', '7']); // has vifd look; else it does so every 20 s
  await world.agent.saw(({ msg }) => msg.startsWith('repaired vif5.0'), 8_000).catch(() => undefined);
  await eventually(() => table() === before, 30_000);
  await world.host.detachVif(5, 0);
  await eventually(() => !table().includes('vif5.0'));
  expect(table()).not.toContain('guard_');
}, 60_000);

test('a guard that outlived its vif goes when the agent starts', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
  await world.connected(5);
  await world.agent.kill('SIGKILL');
  execaSync('ip', ['link', 'del', 'vif5.0']);
  await world.host.destroyGuest(5).catch(() => undefined);
  await world.startAgent();
  await eventually(() => !table().includes('vif5.0'), 10_000);
}, 60_000);

test('a reload takes the guard away', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'vifd.toml');
  writeFileSync(file, '');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
  await world.connected(5);
  writeFileSync(file, 'vif.guard = "off"');
  process.kill(world.agent.pid, 'SIGHUP');
  await eventually(() => !table().includes('vif5.0'), 3_000);
});

test('one that is taken away while vifd is down goes when it starts', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC, ip: '192.0.2.7' }]);
  await world.connected(5);
  await world.agent.kill('SIGKILL');
  expect(table()).toContain('vif5.0');
  const dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'vifd.toml'), 'vif.guard = "off"');
  await world.startAgent('-c', join(dir, 'vifd.toml'));
  await eventually(() => !table().includes('vif5.0'), 3_000); // not at the second scan, after 20 s
});

/** A PATH with ip, which vifd always needs, and without nft. */
function withoutNft(): void {
  const dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
  symlinkSync(execaSync('which', ['ip']).stdout, join(dir, 'ip'));
  AgentProcess.prefix = ['env', `PATH=${dir}`];
  onTestFinished(() => {
    AgentProcess.prefix = [];
    rmSync(dir, { recursive: true });
  });
}

test('without nft a vif with ip= is connected with a warning; one that must be guarded is not', async () => {
  withoutNft();
  const dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'vifd.toml'), '[rule.a]\nmatch.devid = 1\nguard = "mac"\n');
  await world.start({ agent: false });
  await world.startAgent('-c', join(dir, 'vifd.toml'));
  await world.host.createGuest(5, [
    { bridge: 'br0', mac: MAC, ip: '192.0.2.7' },
    { bridge: 'br0', mac: '00:16:3e:00:00:02' },
  ]);
  await world.connected(5);
  const { msg } = await world.agent.saw(({ level, ifname }) => level === 'warn' && ifname === 'vif5.0');
  expect(msg).toMatch(/not held to the addresses in dom0's ip=.*nft cannot be run \(ENOENT\); install nftables/);
  await world.until(5, 1, 'hotplug-status', 'error');
  expect(await world.node(5, 1, 'hotplug-error')).toBe('the vif cannot be guarded: nft cannot be run (ENOENT)');
});
