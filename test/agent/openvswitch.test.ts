/** Ports of a real Open vSwitch over the life of a vif: connected, adopted, gone. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execaSync } from 'execa';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { noOvs, OvsDaemons, vsctl } from '../netns/ovs-daemons.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

const GUEST = { bridge: 'ovs0.10:20', script: '/etc/xen/scripts/vif-openvswitch', mac: '00:16:3e:00:00:01' };
const ports = () =>
  vsctl('list-ports', 'ovs0')
    .split('\n')
    .filter((name) => name !== '');
const uuid = () => vsctl('get', 'Port', 'vif5.0', '_uuid');

describe.skipIf(noOvs !== undefined)(noOvs ?? 'Open vSwitch', () => {
  const world = useWorld();
  let ovs: OvsDaemons;
  beforeEach(async () => {
    ovs = await OvsDaemons.start();
    ovs.addBridge('ovs0');
  });
  afterEach(() => ovs.stop());

  test('a port from connected to gone; adoption after a kill leaves it alone; what drifts is put right', async () => {
    await world.start();
    await world.host.createGuest(5, [GUEST, { bridge: 'br0' }]);
    await world.until(5, 0, 'state', '4');
    await world.connected(5, 1);
    expect(ports()).toEqual(['vif5.0']);
    expect(vsctl('get', 'Port', 'vif5.0', 'tag', 'trunks', 'vlan_mode').split('\n')).toEqual([
      '10',
      '[20]',
      'native-untagged',
    ]);
    const before = uuid();
    await world.agent.kill('SIGKILL');
    await world.startAgent();
    await world.agent.saw(({ msg }) => msg === 'vif5.0 is connected to ovs0 already');
    expect(uuid()).toBe(before);
    vsctl('set', 'Port', 'vif5.0', 'tag=11');
    execaSync('ip', ['link', 'set', 'vif5.0', 'txqueuelen', '7']); // has vifd look
    await eventually(() => vsctl('get', 'Port', 'vif5.0', 'tag') === '10', 8_000);
    expect(uuid()).toBe(before);
    expect(await world.host.detachVif(5, 0)).toMatchObject({ ok: true });
    await eventually(() => ports().length === 0);
  });

  test('a guest that reboots, and ports that outlived their vifs', async () => {
    await world.start();
    await world.host.createGuest(5, [{ ...GUEST, vifname: 'wan' }]);
    await world.connected(5);
    expect(ports()).toEqual(['wan']);
    await world.host.rebootGuest(5, 6);
    await world.connected(6);
    expect(ports()).toEqual(['wan']);
    expect(vsctl('get', 'Interface', 'wan', 'external_ids:xen-vif')).toBe('"6/0"');
    vsctl('add-port', 'ovs0', 'other0', '--', 'set', 'Interface', 'other0', 'type=internal');
    await world.agent.kill('SIGKILL');
    execaSync('ip', ['link', 'del', 'wan']);
    await world.host.destroyGuest(6).catch(() => undefined);
    expect(ports()).toEqual(['other0', 'wan']);
    await world.startAgent();
    await eventually(() => ports().length === 1, 10_000);
    expect(ports()).toEqual(['other0']); // not vifd's
  }, 60_000);

  test('a bridge that is missing, then made; a rule that makes it a Linux bridge’s port', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'vifd-agent-'));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const file = join(dir, 'vifd.toml');
    writeFileSync(file, '');
    await world.start({ agent: false });
    await world.startAgent('-c', file);
    await world.host.createGuest(5, [{ ...GUEST, bridge: 'ovs1', ip: '192.0.2.7' }]);
    await world.until(5, 0, 'hotplug-error', 'Open vSwitch has no bridge "ovs1"');
    await world.agent.saw(({ msg }) => msg.includes('its bridges: ovs0'));
    ovs.addBridge('ovs1');
    await world.connected(5, 0, 10_000);
    await world.agent.saw(({ msg }) =>
      msg.includes("it is not held to the addresses in dom0's ip=: frames of Open vSwitch pass nftables by"),
    );
    expect(vsctl('list-ports', 'ovs1')).toBe('vif5.0');
    writeFileSync(file, '[rule.a]\nmode = "bridge"\nbridge = "br0"\nguard = "off"\n');
    process.kill(world.agent.pid, 'SIGHUP');
    await eventually(() => vsctl('list-ports', 'ovs1') === '', 8_000);
    await world.agent.saw(({ msg }) => /repaired vif5\.0 on br0/.test(msg));
  });

  test('a database that is down fails its own vifs, and no others', async () => {
    await world.start();
    await ovs.kill();
    await ovs.kill();
    await world.host.createGuest(5, [GUEST, { bridge: 'br0' }]);
    await world.connected(5, 1);
    await world.until(5, 0, 'hotplug-status', 'error');
    expect(await world.node(5, 0, 'hotplug-error')).toMatch(/^the database of Open vSwitch cannot be reached \(/);
  });
});
