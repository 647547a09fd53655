/** Rules of the configuration, by the running agent and on real ports. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execaSync } from 'execa';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ip, showLink } from '../netns/namespace.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
let file: string;
beforeEach(() => {
  file = join(mkdtempSync(join(tmpdir(), 'vifd-agent-')), 'vifd.toml');
});
afterEach(() => rmSync(join(file, '..'), { recursive: true }));

interface Port {
  readonly isolated: boolean;
  readonly learning: boolean;
  readonly master: string;
}
const port = (ifname: string): Port =>
  JSON.parse(execaSync('bridge', ['-d', '-j', 'link', 'show', 'dev', ifname]).stdout)[0];

test('a rule gives its vifs their port and their bridge; what drifts is repaired; a reload brings the rest', async () => {
  writeFileSync(file, '[rule.guests]\nmatch.mac = "00:16:3e:00:*"\nisolated = true\nbridge = "br9"\nqlen = 7\n');
  await world.start({ agent: false });
  ip('link', 'add', 'br9', 'up', 'type', 'bridge');
  await world.startAgent('-c', file);
  const mac = '00:16:3e:00:00:01';
  await world.host.createGuest(5, [
    { bridge: 'br0', mac },
    { bridge: 'br0', mac: '00:16:3e:99:00:01' },
  ]);
  for (const devid of [0, 1]) await world.until(5, devid, 'state', '4');
  expect(port('vif5.0')).toMatchObject({ master: 'br9', isolated: true, learning: true });
  expect(showLink('vif5.0')?.txqlen).toBe(7);
  expect(port('vif5.1')).toMatchObject({ master: 'br0', isolated: false });

  execaSync('bridge', ['link', 'set', 'dev', 'vif5.0', 'isolated', 'off']);
  await eventually(() => port('vif5.0').isolated, 2_000);

  writeFileSync(file, '[rule.guests]\nlearning = false\n');
  process.kill(world.agent.pid, 'SIGHUP');
  await world.agent.saw(({ msg }) => msg.includes('rule.guests.learning not set -> false'));
  await eventually(() => !port('vif5.0').learning && !port('vif5.1').learning, 2_000);
  expect(port('vif5.0')).toMatchObject({ master: 'br0', isolated: false });
});

test('a vif that asks for VLANs on a bridge that does not filter them is not connected, and is told why', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', vlan: '10p/20' }, { bridge: 'br0' }]);
  await world.connected(5, 1);
  await world.until(5, 0, 'hotplug-status', 'error');
  expect(await world.node(5, 0, 'hotplug-error')).toMatch(
    /^bridge "br0" does not filter VLANs, so vlan 10p\/20 cannot be kept apart/,
  );
  const { msg } = await world.agent.saw(({ msg: text }) => text.includes('does not filter VLANs'));
  expect(msg).toContain('ip link set br0 type bridge vlan_filtering 1');
  expect(showLink('vif5.0')?.master).toBeUndefined();
});

test('offloads by name are set, put right, and kept', async () => {
  writeFileSync(file, '[vif]\ntso = "off"\ngro = "on"\nmcast_router = 2\nbcast_flood = false\n');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '4');
  const features = () => execaSync('ethtool', ['-k', 'vif5.0']).stdout;
  expect(features()).toMatch(/^tcp-segmentation-offload: off$/m);
  expect(features()).toMatch(/^generic-receive-offload: on$/m);
  expect(features()).toMatch(/^tx-checksumming: off$/m);
  expect(port('vif5.0')).toMatchObject({ bcast_flood: false, learning: true });
  execaSync('ethtool', ['-K', 'vif5.0', 'gro', 'off']);
  execaSync('ip', ['link', 'set', 'vif5.0', 'txqueuelen', '7']); // has vifd look; ethtool makes no event here
  await eventually(() => /^generic-receive-offload: on$/m.test(features()), 5_000);

  writeFileSync(file, '[vif]\ntx_checksum = "on"\n');
  process.kill(world.agent.pid, 'SIGHUP');
  await eventually(() => /^tx-checksumming: on$/m.test(features()), 2_000);
  expect(features()).toMatch(/^tcp-segmentation-offload: off$/m); // kept
});
