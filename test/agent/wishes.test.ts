/** A wish that cannot be had harms nobody: not the vif as it is connected, and not whoever has what it wishes for. */
import { expect, test } from 'vitest';
import type { Link } from '../../src/network/rtnetlink.js';
import { parseBackend } from '../../src/vif/backend.js';
import { detach } from '../../src/vif/detach.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { NODES } from '../unit/vif-seen.js';
import { eventually } from './agent-process.js';
import { useMemoryHost } from './memory-host.js';

const memory = useMemoryHost();
const GUARDED = { bridge: 'br0', mac: '00:16:3e:00:00:01', ip: '192.0.2.7' };
const refused = () => eventually(async () => (await memory.node('hotplug-status')) === 'error');

test('a vif is given no guard under a name that another interface has', async () => {
  await memory.start();
  const { host, kernel } = memory;
  await kernel.create('eth0');
  const guarded: string[] = [];
  const setGuard = kernel.setGuard.bind(kernel);
  kernel.setGuard = async (ifname, guard, table) => {
    guarded.push(ifname);
    return setGuard(ifname, guard, table);
  };
  await host.createGuest(5, [{ ...GUARDED, vifname: 'eth0' }]);
  await memory.later(20_000);
  await refused();
  expect(await memory.node('hotplug-error')).toBe(
    'the kernel refused to set ifname=eth0 of vif5.0: EEXIST (the name is taken)',
  );
  expect(guarded).toEqual([]);
});

test('the guard under the name of an interface that is no vif goes with its vif', async () => {
  await memory.start();
  const { kernel } = memory;
  await kernel.setGuard('eth0', { chain: 'guard_0', rules: [] });
  kernel.addBridge('eth0');
  await memory.reconciler.scan();
  await eventually(() => kernel.guards.size === 0);
});

test('a mode that cannot be had takes nothing of what a running vif has', async () => {
  await memory.start();
  const { host, kernel } = memory;
  await host.createGuest(5, [GUARDED]);
  await memory.connected();
  const before = new Map(kernel.guards);
  expect([...before.keys()]).toEqual(['vif5.0']);
  memory.config = { vif: { mode: 'routed', gatewaydev: 'nosuch' }, rules: [] };
  await memory.reconciler.scan();
  await refused();
  expect(await memory.node('hotplug-error')).toContain('the guest has no gateway');
  await memory.reconciler.scan();
  expect(kernel.guards).toEqual(before);
  expect(kernel.find('vif5.0')).toMatchObject({ up: true, master: kernel.find('br0')?.ifindex });
});

test('a bridge that is not there takes no routes of a running vif', async () => {
  await memory.start();
  const { host, kernel } = memory;
  memory.config = { vif: { mode: 'routed', gateway: '10.0.0.1' }, rules: [] };
  await host.createGuest(5, [GUARDED]);
  await memory.connected();
  await eventually(() => kernel.routes.length === 1);
  const guards = new Map(kernel.guards);
  memory.config = { vif: {}, rules: [{ name: 'typo', bridge: 'brx' }] };
  await memory.reconciler.scan();
  await refused();
  await memory.reconciler.scan();
  expect(kernel.routes).toHaveLength(1);
  expect(kernel.guards).toEqual(guards);
});

test('what leaves without having been connected takes nothing of the vif that has its name and its address', async () => {
  await memory.start();
  const { host, kernel } = memory;
  memory.config = { vif: { mode: 'routed', gateway: '10.0.0.1', sourceTable: 100 }, rules: [] };
  await host.createGuest(5, [{ ...GUARDED, vifname: 'web' }]);
  await eventually(async () => (await memory.node('hotplug-status')) === 'connected');
  const seen = async () => [new Map(kernel.guards), await kernel.listRules('ipv4'), await kernel.listRoutes('ipv4')];
  const before = await seen();
  await kernel.create('vif6.0');
  const nodes = new Map(
    Object.entries({
      ...NODES,
      ...GUARDED,
      vifname: 'web',
      frontend: '/local/domain/6/device/vif/0',
      'frontend-id': '6',
    }),
  );
  const clone = resolveAttachment(parseBackend({ domid: 6, devid: 0 }, nodes), memory.config);
  await detach(clone, kernel);
  expect(await seen()).toEqual(before);
});

test('nobody waits for a vif that nobody looks at any more', async () => {
  await memory.start();
  await memory.reconciler.stop();
  await expect(memory.reconciler.until({ domid: 5, devid: 0 }, () => true)).rejects.toMatchObject({
    code: 'ECANCELED',
  });
});

test('while its interface is not there, a guard that is in force is not set again at each look for it', async () => {
  await memory.start();
  const { host, kernel } = memory;
  let set = 0;
  const setGuard = kernel.setGuard.bind(kernel);
  kernel.setGuard = async (...args) => {
    set++;
    return setGuard(...args);
  };
  let looks = 0;
  const getLink = kernel.getLink.bind(kernel);
  kernel.getLink = async (ifname) => {
    looks++;
    return getLink(ifname);
  };
  kernel.create = async () => undefined;
  await host.createGuest(5, [GUARDED], { connects: false });
  await eventually(() => looks > 12);
  expect(set).toBe(1);
});

test('a vif that another switch has leaves it before it joins its bridge', async () => {
  await memory.start();
  const { host, kernel } = memory;
  const ports = new Set<string>();
  kernel.openVSwitch.ownPorts = async () => [...ports];
  kernel.openVSwitch.removePort = async (ifname) => void ports.delete(ifname);
  const create = kernel.create.bind(kernel);
  kernel.create = async (ifname) => {
    await create(ifname);
    ports.add(ifname);
    const link = kernel.find(ifname) as Link;
    kernel.links.set(link.ifindex, { ...link, master: 99 }); // ovs-system: no port of a Linux bridge
  };
  let left: boolean | undefined;
  kernel.beforeChange = ({ master }) => {
    if (master !== undefined) left ??= ports.size === 0;
  };
  await host.createGuest(5, [{ bridge: 'br0' }]);
  await memory.connected();
  expect(left).toBe(true);
});
