/** A wish that cannot be had harms nobody: not the vif as it is connected, and not whoever has what it wishes for. */
import { expect, test } from 'vitest';
import { AttachError } from '../../src/errors.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { attach } from '../../src/vif/attach.js';
import { AttachQueue } from '../../src/vif/attach-queue.js';
import { parseBackend } from '../../src/vif/backend.js';
import { detach } from '../../src/vif/detach.js';
import { lookAtVif } from '../../src/vif/look.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import type { Surroundings } from '../../src/vif/seen.js';
import { MemoryKernel } from '../support/memory-kernel.js';
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

test('of routes to an interface that is down nothing is asked: the kernel has none', async () => {
  await memory.start();
  const { host, kernel } = memory;
  memory.config = { vif: { mode: 'routed', gateway: '10.0.0.1' }, rules: [] };
  const asked: boolean[] = [];
  const listRoutes = kernel.listRoutes.bind(kernel);
  kernel.listRoutes = async (family, of) => {
    if (of !== undefined && 'ifindex' in of) asked.push(kernel.find('vif5.0')?.up === true);
    return listRoutes(family, of);
  };
  await host.createGuest(5, [GUARDED]);
  await memory.connected();
  await memory.reconciler.scan();
  await eventually(() => asked.length > 0);
  expect(asked).not.toContain(false);
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

test('a guard that is wished for with a bridge that is not there takes nothing of that of a running vif', async () => {
  await memory.start();
  const { host, kernel } = memory;
  await host.createGuest(5, [GUARDED]);
  await memory.connected();
  const before = new Map(kernel.guards);
  for (const guard of ['off', 'mac'] as const) {
    memory.config = { vif: { guard }, rules: [{ name: 'typo', bridge: 'brx' }] };
    await memory.later(30_000);
    await refused();
  }
  expect(kernel.guards).toEqual(before);
});

/** As many as have their turn at once, and one more. */
const FIVE = Array.from({ length: 5 }, (_, i) => ({ ...GUARDED, mac: `00:16:3e:00:01:0${i}`, ip: `192.0.2.${i + 1}` }));
const NFT_HANGS = new AttachError('ENFTTIME', 'the vif cannot be guarded: nft has not done it', '');

test.each(['at their first try', 'after an error', 'when they are repaired'])(
  'five vifs that wait for nft %s keep no other from its turn',
  async (when) => {
    await memory.start();
    const { host, kernel } = memory;
    memory.config = { vif: {}, rules: [{ name: 'five', matchDomid: [5], guard: 'ip' }] };
    let nft = { 'at their first try': 'hangs', 'after an error': 'fails', 'when they are repaired': 'works' }[when];
    const hung: (() => void)[] = [];
    const setGuard = kernel.setGuard.bind(kernel);
    kernel.setGuard = async (...change) => {
      if (nft === 'works') return setGuard(...change);
      if (nft === 'hangs') await new Promise<void>((resolve) => hung.push(resolve));
      throw NFT_HANGS;
    };
    const release = () => {
      nft = 'fails';
      for (const resolve of hung.splice(0)) resolve();
    };
    const all = async (status: string) => {
      const now = await Promise.all(FIVE.map((_, devid) => host.backendNode(5, devid, 'hotplug-status')));
      return now.every((one) => one === status);
    };
    host.createGuest(5, FIVE).catch(() => undefined); // xl would wait
    if (nft !== 'hangs') await eventually(() => all(nft === 'works' ? 'connected' : 'error'));
    nft = 'hangs';
    kernel.guards.clear();
    memory.reconciler.kickAll();
    await eventually(() => hung.length === 5).finally(() => setTimeout(release, 2_000)); // or nothing would end
    await host.createGuest(6, [{ bridge: 'br0' }]);
    await eventually(async () => (await host.backendNode(6, 0, 'hotplug-status')) === 'connected', 1_000);
    expect(hung).toHaveLength(5);
    release();
  },
);

test('a guard that nft does not make is tried once; without being asked for, the vif is connected with a warning', async () => {
  const kernel = new MemoryKernel();
  kernel.addBridge('br0');
  await kernel.create('vif5.0');
  const nodes = new Map(Object.entries({ ...NODES, ...GUARDED }));
  const want = resolveAttachment(parseBackend({ domid: 5, devid: 0 }, nodes), { vif: {}, rules: [] });
  let tried = 0;
  kernel.setGuard = async () => {
    tried++;
    throw NFT_HANGS;
  };
  const io = { kernel, attaching: new AttachQueue(4) };
  const warning = "vif5.0 is not held to the addresses in dom0's ip=: the vif cannot be guarded: nft has not done it; ";
  expect(await attach(want, io, { said: 'nothing', overdue: false })).toMatchObject({ warnings: [warning] });
  expect(tried).toBe(1);
  kernel.getGuard = () => Promise.reject(NFT_HANGS); // nor does it answer
  expect(await attach(want, io, { said: 'connected', overdue: false })).toMatchObject({
    steps: [],
    warnings: [warning],
  });
  await expect(attach({ ...want, guardRequired: true }, io, { said: 'nothing', overdue: false })).rejects.toBe(
    NFT_HANGS,
  );
  expect(tried).toBe(1);
});

test('who looks at a vif while nft does not answer sees the rest of it', async () => {
  await memory.start();
  const { host, kernel, store, config } = memory;
  await host.createGuest(5, [GUARDED]);
  await memory.connected();
  kernel.getGuard = () => Promise.reject(NFT_HANGS);
  const io = { store, kernel, config, around: {} as Surroundings, statistics: new Map(), links: [] };
  const seen = await lookAtVif({ domid: 5, devid: 0 }, io);
  expect(seen).toMatchObject({ guard: undefined, link: { ifname: 'vif5.0', up: true } });
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
