/** What the agent finds when it starts, and what drifts while it runs. */
import { spawn } from 'node:child_process';
import { execaSync } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { ip, showAddresses, showLink } from '../netns/namespace.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** All that happens to links and below `backend` while `during` runs. */
async function recordChanges(during: () => Promise<void>): Promise<string[]> {
  const changes: string[] = [];
  const monitor = spawn('ip', ['-o', 'monitor', 'link', 'address'], { stdio: ['ignore', 'pipe', 'ignore'] });
  monitor.stdout.on('data', (bytes) => changes.push(String(bytes)));
  const watch = await world.host.nicdom.watch('backend', ({ path }) => changes.push(path));
  await sleep(100);
  changes.length = 0; // the watch's first event
  await during();
  await sleep(200);
  await watch.close();
  monitor.kill();
  return changes.filter((change) => !/^\d+: (br0|guest)/.test(change)); // the kernel's own, for the bridge, and the guests'
}

test.each(['SIGKILL', 'SIGTERM'] as const)(
  'after %s and a restart nothing is changed and nothing written',
  async (signal) => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }, { bridge: 'br0', vifname: 'wan' }]);
    await world.until(5, 0, 'state', '4');
    await world.until(5, 1, 'state', '4');
    await world.agent.kill(signal);
    expect(await recordChanges(async () => void (await world.startAgent()))).toEqual([]);
    await world.agent.saw(({ msg }) => msg === 'vif5.0 is connected to br0 already');
    await world.agent.saw(({ msg }) => msg === 'wan is connected to br0 already');
  },
);

test('a vif that came while no agent ran is connected at the start', async () => {
  await world.start({ agent: false });
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '2');
  await world.startAgent();
  expect(await world.node(5, 0, 'hotplug-status')).toBe('connected'); // ready means: the first scan is reconciled
  await world.until(5, 0, 'state', '4');
});

test('a vif that left while no agent ran is removed after the start', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '4');
  await world.agent.kill('SIGKILL');
  const detached = world.host.detachVif(5, 0);
  await world.until(5, 0, 'state', '6');
  await world.startAgent();
  expect(await detached).toMatchObject({ ok: true, errors: [] });
});

describe('repair', () => {
  const attached = async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0', mtu: 1400 }]); // 1500, taken from the bridge, would follow the vif
    await world.connected(5);
    await sleep(150);
  };

  test('a bridge deleted and made again has its ports again, with an error in between', async () => {
    await attached();
    ip('link', 'del', 'br0');
    await world.until(5, 0, 'hotplug-status', 'error', 1_000);
    expect(await world.node(5, 0, 'hotplug-error')).toBe('bridge "br0" does not exist');
    ip('link', 'add', 'br0', 'type', 'bridge');
    await world.connected(5, 0, 1_000);
    expect(showLink('vif5.0')?.master).toBe('br0');
    expect(await world.node(5, 0, 'hotplug-error')).toBeUndefined();
  });

  test.each<[string, string[], () => unknown, unknown]>([
    ['the port taken out', ['link', 'set', 'vif5.0', 'nomaster'], () => showLink('vif5.0')?.master, 'br0'],
    ['the queue length', ['link', 'set', 'vif5.0', 'txqueuelen', '32'], () => showLink('vif5.0')?.txqlen, 1000],
    ['the MTU', ['link', 'set', 'vif5.0', 'mtu', '1300'], () => showLink('vif5.0')?.mtu, 1400],
    ['taken down', ['link', 'set', 'vif5.0', 'down'], () => showLink('vif5.0')?.flags.includes('UP'), true],
    [
      'the MAC',
      ['link', 'set', 'vif5.0', 'address', '02:00:00:00:00:01'],
      () => showLink('vif5.0')?.address,
      'fe:ff:ff:ff:ff:ff',
    ],
  ])('%s', async (_, command, read, expected) => {
    await attached();
    ip(...command);
    await eventually(() => read() === expected, 1_000);
    await world.agent.saw(({ level, msg }) => level === 'warn' && msg.startsWith('repaired vif5.0 on br0'));
    await sleep(300);
    expect(world.agent.log.filter(({ msg }) => msg.startsWith('repaired')).length).toBeLessThanOrEqual(2); // no fight with itself
  });

  test('a program that keeps undoing it is answered ever later, and the log says so once', async () => {
    await attached();
    const undo = 'while sleep 0.05; do ip link set vif5.0 txqueuelen 32 nomaster; done';
    const opponent = spawn('sh', ['-c', undo], { stdio: 'ignore' });
    onTestFinished(() => void opponent.kill());
    await sleep(8_000);
    const repairs = world.agent.log.filter(({ msg }) => msg.startsWith('repaired vif5.0'));
    expect(repairs.length).toBeGreaterThanOrEqual(4); // the first ones at once
    expect(repairs.length).toBeLessThanOrEqual(8);
    const told = repairs.filter(({ level }) => level === 'warn');
    expect(told.length).toBe(4);
    expect(told.at(-1)?.msg).toMatch(
      /^repaired vif5\.0 on br0: txqlen=1000 master=\d+; something else keeps changing vif5\.0, see what: ip monitor link\. /,
    );
    opponent.kill();
    await eventually(() => showLink('vif5.0')?.master === 'br0', 15_000);
    expect(await world.host.detachVif(5, 0)).toMatchObject({ ok: true, errors: [] }); // what dom0 asks is not put off
  });

  test('what makes no link event is found by the periodic look', { timeout: 40_000 }, async () => {
    await attached();
    ip('addr', 'add', '192.0.2.1/24', 'dev', 'vif5.0');
    await eventually(() => showAddresses('vif5.0').length === 0, 25_000);
  });

  test.skipIf(execaSync('ethtool', ['--version'], { reject: false }).failed)(
    'checksum offload turned on again (needs ethtool)',
    async () => {
      await attached();
      execaSync('ethtool', ['-K', 'vif5.0', 'tx', 'on']);
      await eventually(() => execaSync('ethtool', ['-k', 'vif5.0']).stdout.includes('tx-checksumming: off'), 25_000);
    },
  );
});

test('when xenstore goes away the agent says so, and connects again', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.connected(5);
  world.host.store.disconnect(NICDOM);
  await world.agent.saw(
    ({ level, msg }) => level === 'error' && /closed the connection|connection to xenstore is lost/.test(msg),
  );
  await eventually(() => world.agent.log.filter(({ msg }) => msg.startsWith('ready')).length === 2);
});
