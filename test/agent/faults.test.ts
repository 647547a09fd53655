/** What the agent does when something is wrong: it says so where people look, and recovers by itself. */
import { describe, expect, test } from 'vitest';
import { ip, showLink } from '../netns/namespace.js';
import { measured, printMeasured } from '../support/measured.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
const error = (domid: number, devid = 0) => world.node(domid, devid, 'hotplug-error');

describe('the bridge', () => {
  test('is missing: an error within a second, in xenstore and in the log; connected within a second of its coming', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br9' }]);
    await world.until(5, 0, 'hotplug-status', 'error', 1_000);
    expect(await error(5)).toBe('bridge "br9" does not exist');
    await world.agent.saw(
      ({ level, msg }) => level === 'error' && msg === 'vif5.0: bridge "br9" does not exist; bridges here: br0',
    );
    ip('link', 'add', 'br9', 'type', 'bridge');
    await world.connected(5, 0, 1_000);
    expect(await error(5)).toBeUndefined();
    await world.until(5, 0, 'state', '4');
  });

  test('is a network card', async () => {
    ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire');
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'eth0' }]);
    await world.until(5, 0, 'hotplug-status', 'error', 1_000);
    expect(await error(5)).toBe('"eth0" is of kind veth, not a bridge');
  });

  test('none is named, and there is none', async () => {
    ip('link', 'del', 'br0');
    await world.start();
    await world.host.createGuest(5, [{ nodes: { bridge: undefined } }]);
    await world.until(5, 0, 'hotplug-status', 'error', 1_000);
    expect(await error(5)).toBe('dom0 named no bridge and there is none');
    ip('link', 'add', 'lan', 'type', 'bridge');
    await world.connected(5, 0, 1_000);
  });

  test('the same failure is logged once, however often it is tried again', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br9' }]);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(world.agent.log.filter(({ level }) => level === 'error')).toHaveLength(1);
  });
});

describe('the kernel', () => {
  test('makes no interface: an error that says so', async () => {
    await world.start({ netback: { neverLink: true } });
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'hotplug-status', 'error', 4_000);
    expect(await error(5)).toBe('xen-netback made no interface vif5.0');
  });

  test('does not take the vif, because xen-netback is not loaded', async () => {
    await world.start({ toolstack: { initTimeoutMs: 6_000 } });
    await world.host.netback.stop();
    const created = world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'hotplug-error', 'xen-netback has not taken this vif (state is still 1)', 5_000);
    await world.agent.saw(({ level, msg }) => level === 'error' && msg.includes('modprobe xen-netback'));
    expect(await created).toMatchObject({ ok: false });
  });

  test('gave the vif up: its own words are in the log', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0', mac: 'xx' }]);
    await world.until(5, 0, 'hotplug-status', 'error', 5_000);
    expect(await error(5)).toBe('node "mac" is "xx"; expected a MAC address such as 00:16:3e:01:02:03');
  });
});

test('bad values name node and value, one for each vif, and the good neighbour is connected', async () => {
  await world.start();
  const bad: Record<string, string>[] = [
    { bridge: 'a/../b' },
    { bridge: 'x'.repeat(300) },
    { vifname: 'wan;reboot' },
    { mtu: '99999' },
    { ip: '$(reboot)' },
    { script: 'vif-bridge' },
    { type: 'weird' },
    { 'frontend-id': '07' },
    { vlan: '`x`' },
    { rate: 'fast' },
  ];
  const startedAt = performance.now();
  await measured('ten vifs with nonsense of dom0: the good one beside them is connected', 4_000, async () => {
    await world.host.createGuest(5, [...bad.map((nodes) => ({ bridge: 'br0', nodes })), { bridge: 'br0' }]);
    await world.connected(5, bad.length, 2_000);
  });
  for (const [devid, nodes] of bad.entries()) {
    const [name] = Object.keys(nodes) as [string];
    if (name === 'vifname') continue; // a valid name, if an odd one: the kernel may have it
    if (name === 'ip' || name === 'rate') {
      await world.agent.saw(({ level, msg }) => level === 'warn' && msg.startsWith(`vif5.${devid}: node "${name}" is`));
      continue;
    }
    await world.until(5, devid, 'hotplug-status', 'error', 4_000);
    expect(await error(5, devid)).toMatch(new RegExp(`^(node "${name}" is|xen-netback )`));
  }
  printMeasured('ten vifs with nonsense of dom0: each has its error', performance.now() - startedAt);
  expect(await world.host.destroyGuest(5)).toMatchObject({ errors: [] });
});

test('where the xenstore quota ends, the log says which it is and how to raise it, and the vifs before keep working', {
  timeout: 60_000,
}, async () => {
  await world.start({ toolstack: { initTimeoutMs: 3_000 } });
  let last = 100;
  while ((await world.host.createGuest(last, [{ bridge: 'br0' }])).ok) last++;
  await world.agent.saw(
    ({ level, msg }) =>
      level === 'error' &&
      msg.includes('the xenstore quota of this driver domain is used up') &&
      msg.includes('quota-maxentity'),
    8_000,
  );
  // 24 nodes each (11 of libxl, 12 of netback, the frontend's mtu) beside the domain's own: 1000 are enough for 41.
  expect(last - 100).toBeGreaterThanOrEqual(41);
  for (let domid = 100; domid < last; domid++) await world.connected(domid);
  expect(JSON.parse(ip('-j', 'link', 'show', 'master', 'br0'))).toHaveLength(last - 100);
});

test('where the watch quota ends, netback gives a vif up that was connected: the log says which quota it is', async () => {
  // The agent's watch and the backend bus's, one for each vif, two more when it is connected, and another while it connects.
  await world.start({ quotas: { watches: 8 } });
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '4');
  await world.host.createGuest(6, [{ bridge: 'br0' }]);
  await world.until(6, 0, 'state', '4');
  await world.host.createGuest(7, [{ bridge: 'br0' }]);
  await world.host.createGuest(8, [{ bridge: 'br0' }]);
  await world.agent.saw(
    ({ level, msg }) => level === 'error' && /gave this vif up.*adding watch on.*quota-maxwatch/.test(msg),
  );
  expect([await world.node(5, 0, 'state'), await world.node(6, 0, 'state')]).toEqual(['4', '4']);
});

test('a directory that vanishes at any moment of an attach does no harm', async () => {
  await world.start();
  for (let round = 0; round < 12; round++) {
    const created = world.host.createGuest(50 + round, [{ bridge: 'br0' }], { connects: false });
    await new Promise((resolve) => setTimeout(resolve, 5 * round));
    await world.host.dom0.rm(`/local/domain/1/backend/vif/${50 + round}`).catch(() => undefined); // not made yet
    await created.catch(() => undefined); // xl and the guest find nothing either
  }
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.connected(5, 0, 2_000);
  expect(
    world.agent.log.filter(({ level, msg }) => level === 'error' && !/has not taken|made no interface/.test(msg)),
  ).toEqual([]);
});

test('an interface that vanishes at any moment of an attach does no harm', async () => {
  await world.start();
  await world.host.createGuest(6, [{ bridge: 'br0' }]);
  for (let round = 0; round < 12; round++) {
    await world.host.createGuest(50 + round, [{ bridge: 'br0' }], { connects: false });
    await eventually(() => showLink(`vif${50 + round}.0`));
    await new Promise((resolve) => setTimeout(resolve, round % 4));
    ip('link', 'del', `vif${50 + round}.0`);
  }
  await world.connected(6);
  await world.host.createGuest(7, [{ bridge: 'br0' }]);
  await world.connected(7, 0, 2_000);
});
