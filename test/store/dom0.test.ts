/** `vifd dom0` as a process, against the simulator's xenstore and toolstack. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Dom0World } from './dom0-world.js';
import { until } from './support.js';

describe('dom0 wait', () => {
  test('a guest whose vifs are connected on both sides', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1);
    await world.startGuest(5, [{}, {}]);
    const ended = await world.vifd('wait', 'guest5');
    expect(ended).toEqual({
      code: 0,
      stdout: 'guest5 (domid 5), vif 0: connected\nguest5 (domid 5), vif 1: connected\n',
      stderr: '',
    });
    expect((await world.vifd('wait', '5')).code).toBe(0);
  });

  test('a bridge that is not there: the sentence of vifd, once it has stood for five seconds', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1);
    await world.startGuest(5, [{}, { bridge: 'br_no' }]);
    const startedAt = performance.now();
    const { code, stdout, stderr } = await world.vifd('wait', 'guest5', '--timeout', '60');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /^vifd: guest5 \(domid 5\), vif 1: bridge "br_no" does not exist\nvifd: given up after 5\.\d s\n$/,
    );
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });

  test('one that is mended meanwhile is connected', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1);
    await world.startGuest(5, [{ bridge: 'br_no' }]);
    const ended = world.vifd('wait', 'guest5');
    await sleep(1_500);
    await world.dom0.write('/local/domain/1/backend/vif/5/0/hotplug-status', 'connected');
    expect(await ended).toMatchObject({ code: 0, stderr: '' });
  });

  test('a guest without a driver yet: connected as far as the driver domain goes', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1);
    await world.startGuest(5, [{}], { connects: false });
    expect(await world.vifd('wait', 'guest5', '--until', 'hotplug')).toMatchObject({ code: 0 });
    const { code, stderr } = await world.vifd('wait', 'guest5', '--timeout', '1');
    expect(code).toBe(1);
    expect(stderr).toContain(
      `guest5 (domid 5), vif 0: "nicdom" has connected it, but the guest's driver has not (the guest's state is 1, that of the driver domain 2); is the guest up?`,
    );
  });

  test('no agent in the driver domain; no netback there', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1, { agent: false });
    await world.startGuest(5, [{}]);
    const { code, stderr } = await world.vifd('wait', 'guest5', '--timeout', '0');
    expect(code).toBe(1);
    expect(stderr.replace(/0\.\d s/, 'T s')).toBe(
      `vifd: guest5 (domid 5), vif 0: nothing in "nicdom" has connected it yet (hotplug-status is empty); does vifd run there? vifd status\nvifd: given up after T s\n`,
    );
  });

  test('a driver domain that is gone', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1);
    await world.startGuest(5, [{}]);
    await world.destroyNicdom();
    const { code, stderr } = await world.vifd('wait', 'guest5', '--timeout', '0');
    expect(code).toBe(1);
    expect(stderr).toContain(
      'its driver domain (domid 1) is gone; once the driver domain runs again: vifd dom0 recover',
    );
  });

  test('a guest that comes later, with its vif; one without any', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1);
    const ended = world.vifd('wait', 'guest5', '--timeout', '20');
    await sleep(1_000);
    await world.toolstack.createDomain({ domid: 5, name: 'guest5' });
    await sleep(1_500); // seen without a vif
    await world.startGuest(5, [{}]);
    expect(await ended).toEqual({ code: 0, stdout: 'guest5 (domid 5), vif 0: connected\n', stderr: '' });
    await world.startGuest(6, []);
    expect(await world.vifd('wait', '6')).toEqual({ code: 0, stdout: 'guest6 (domid 6) has no vif\n', stderr: '' });
  });

  test('a guest that never comes; a driver domain that serves, or does not', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1, { serving: false });
    expect(await world.vifd('wait', 'nobody', '--timeout', '0')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is no guest nobody; xl list shows those there are'),
    });
    expect(await world.vifd('wait', 'nicdom', '--until', 'serving', '--timeout', '0')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'vifd has not begun in nicdom (domid 1) (/local/domain/1/data/vifd is not "ready"); does it run there?',
      ),
    });
    const ended = world.vifd('wait', 'nicdom', '--until', 'serving');
    await sleep(500);
    await world.dom0.write('/local/domain/1/data/vifd', 'ready');
    expect(await ended).toMatchObject({ code: 0, stdout: 'vifd serves in nicdom (domid 1)\n' });
  });

  test('exit codes 2 and 3: wrong usage, no xenstore, not dom0', async () => {
    const world = await Dom0World.start();
    await world.startNicdom(1);
    expect((await world.vifd('wait')).code).toBe(2);
    const wrong = await world.vifd('wait', 'x', '--timeout', 'soon');
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain('expected a whole number of seconds.');
    expect((await world.vifdAt(99, 'wait', 'x')).code).toBe(3);
    expect(await world.vifdAt(1, 'wait', 'nicdom')).toMatchObject({
      code: 3,
      stderr: 'vifd: this is not dom0: xenstore does not show the other domains here; run it in dom0\n',
    });
  });
});

/** Two guests that have lost their driver domain 1; another runs as 7. */
async function restarted(options: { serving?: boolean } = {}): Promise<Dom0World> {
  const world = await Dom0World.start();
  await world.startNicdom(1);
  await world.startGuest(5, [{ mac: '00:16:3e:00:05:aa' }, FULL]);
  await world.startGuest(6, [{ mac: '00:16:3e:00:06:00' }]);
  for (const [domid, devid] of [
    [5, 0],
    [5, 1],
    [6, 0],
  ] as const)
    await until(async () => (await world.frontendState(domid, devid)) === '4');
  await world.destroyNicdom();
  await world.startNicdom(7, options);
  return world;
}

const FULL = {
  mac: '00:16:3e:00:05:bb',
  script: '/etc/xen/scripts/vif-route',
  vifname: 'web',
  ip: '10.0.0.5 fd00::5',
  gatewaydev: 'eth0',
  rate: '62500,50000',
  mtu: 1400,
  vlan: '10p/20',
};

const ATTACH_5_1 =
  "xl network-attach 5 devid=1 mac=00:16:3e:00:05:bb bridge=br0 script=/etc/xen/scripts/vif-route vifname=web 'ip=10.0.0.5 fd00::5' gatewaydev=eth0 mtu=1400 vlan=10p/20 rate=1250000B/s@50000us backend=nicdom";

describe('dom0 recover', () => {
  test('without --yes: the commands in their order, and nothing is done', async () => {
    const world = await restarted();
    const before = await world.nodes(5, 1);
    const { code, stdout, stderr } = await world.vifd('recover', 'nicdom');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe(`# guest5 (domid 5), vif 0
xl network-detach 5 0
sleep 2
xl network-attach 5 devid=0 mac=00:16:3e:00:05:aa bridge=br0 script=/etc/xen/scripts/vif-bridge backend=nicdom
# guest5 (domid 5), vif 1
xl network-detach 5 1
sleep 2
${ATTACH_5_1}
# guest6 (domid 6), vif 0
xl network-detach 6 0
sleep 2
xl network-attach 6 devid=0 mac=00:16:3e:00:06:00 bridge=br0 script=/etc/xen/scripts/vif-bridge backend=nicdom
# nothing has been done; with --yes it is
`);
    expect(await world.nodes(5, 1)).toEqual(before);
    expect(world.calls.every(([command]) => command === 'list')).toBe(true);
  });

  test('--yes: every guest is connected again with all its settings; one with a living backend is not touched', async () => {
    const world = await restarted();
    world.letGoMs = 1_200; // a slow guest, which an attach at once would leave with a dead vif
    await world.startGuest(8, [{}]);
    await until(async () => (await world.frontendState(8, 0)) === '4');
    const before = [await world.nodes(5, 0), await world.nodes(5, 1), await world.nodes(6, 0)];
    const { code, stdout, stderr } = await world.vifd('recover', 'nicdom', '--yes', '--timeout', '5');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`${ATTACH_5_1}\nguest5 (domid 5), vif 1: connected\n`);
    expect(stdout).toMatch(/\n3 of 3 vifs have their network again\n$/);
    expect([await world.nodes(5, 0), await world.nodes(5, 1), await world.nodes(6, 0)]).toEqual(before);
    for (const [domid, devid] of [
      [5, 0],
      [5, 1],
      [6, 0],
    ] as const)
      expect(await world.dom0.read(`/local/domain/7/backend/vif/${domid}/${devid}/state`)).toBe('4');
    expect(world.calls.filter((argv) => argv.includes('8'))).toEqual([]);
    expect(await world.vifd('recover', 'nicdom', '--yes')).toEqual({
      code: 0,
      stdout: '# no vif of nicdom waits for a new backend\n',
      stderr: '',
    });
  }, 40_000);

  test('one that cannot be attached: the commands by hand, its other vif keeps its record, the other guest is served', async () => {
    const world = await restarted();
    const refused = { code: 1, stdout: '', stderr: 'libxl: error: no\nlibxl_device_nic_add failed.\n' };
    world.onXl = ([command, guest]) => (command === 'network-attach' && guest === '5' ? refused : undefined);
    const { code, stdout, stderr } = await world.vifd('recover', 'nicdom', '--yes');
    expect(code).toBe(1);
    expect(stdout).toContain(
      'guest5 (domid 5), vif 0: it could not be attached: libxl: error: no; libxl_device_nic_add failed.; once that is mended: xl network-detach 5 0; xl network-attach 5 devid=0 mac=00:16:3e:00:05:aa bridge=br0 script=/etc/xen/scripts/vif-bridge backend=nicdom\n',
    );
    expect(stdout).toContain('vif 1: not tried, since an earlier vif of this guest could not be attached\n');
    expect(stdout).toContain('guest6 (domid 6), vif 0: connected\n1 of 3 vifs have their network again\n');
    expect(stderr).toBe(
      'vifd: not guest5 (domid 5), vif 0; why is said above\nvifd: not guest5 (domid 5), vif 1; why is said above\n',
    );
    expect(await world.nodes(5, 1)).toMatchObject({ mac: FULL.mac });
  });

  test('attached, but its bridge is not in the new driver domain', async () => {
    const world = await restarted();
    world.bridges.delete('br0');
    const { code, stdout } = await world.vifd('recover', 'nicdom', '--yes', '--guest', 'guest6');
    expect(code).toBe(1);
    expect(stdout).toContain(
      'guest6 (domid 6), vif 0: attached, but not connected: guest6 (domid 6), vif 0: bridge "br0" does not exist\n',
    );
    expect(world.calls.some((argv) => argv.includes('5'))).toBe(false);
  });

  test('one that cannot be detached, and one that has come back by itself', async () => {
    const world = await restarted();
    world.onXl = ([command, guest]) =>
      command === 'network-detach' && guest === '6' ? { code: 0, stdout: '', stderr: '' } : undefined;
    const ended = world.vifd('recover', 'nicdom', '--yes');
    await until(() => world.calls.some(([command]) => command === 'network-detach'));
    for (const [name, value] of [['backend', '/local/domain/7/backend/vif/5/1']] as const)
      await world.dom0.write(`/libxl/5/device/vif/1/${name}`, value);
    await world.dom0.write('/local/domain/7/backend/vif/5/1/state', '2');
    const { code, stdout } = await ended;
    expect(code).toBe(1);
    expect(stdout).toContain('guest5 (domid 5), vif 1: it has a backend again and is left as it is\n');
    expect(stdout).toContain('guest6 (domid 6), vif 0: it could not be detached: its directory stays in xenstore\n');
    expect(stdout).toContain('2 of 3 vifs have their network again');
  }, 40_000);

  test('stopped in the middle: the vif that is detached is attached again, and no other is begun', async () => {
    const world = await restarted();
    const ended = world.vifd('recover', 'nicdom', '--yes');
    await until(() => world.calls.some(([command]) => command === 'network-detach'));
    world.process?.kill('SIGINT');
    const { code, stdout } = await ended;
    expect(code).toBe(1);
    expect(stdout).toContain(
      'guest5 (domid 5), vif 0: connected\nguest5 (domid 5), vif 1: not tried, since it was stopped before\n',
    );
    expect(stdout).toContain('1 of 3 vifs have their network again\n');
    expect(await world.dom0.read('/local/domain/7/backend/vif/5/0/state')).toBe('4');
  });

  test("two at once: the second does nothing; one that was killed is in nobody's way", async () => {
    const world = await restarted();
    const ended = world.vifd('recover', 'nicdom', '--yes', '--guest', 'guest5');
    await until(() => world.calls.some(([command]) => command === 'network-detach'));
    const first = world.process;
    const second = await world.vifd('recover', 'nicdom', '--yes');
    expect(second).toMatchObject({ code: 1, stdout: '' });
    expect(second.stderr).toMatch(
      /^vifd: another vifd dom0 recover --yes is at work \(its process is in .*\/vifd-recover\.pid\); nothing has been done, try again when it has ended\n$/,
    );
    first?.kill('SIGKILL');
    await ended;
    expect((await world.vifd('recover', 'nicdom', '--yes', '--guest', 'guest6')).code).toBe(0);
    expect(world.calls.filter(([command]) => command === 'network-detach')).toEqual([
      ['network-detach', '5', '0'],
      ['network-detach', '6', '0'],
    ]);
  }, 40_000);

  test('what is not known to be of this driver domain is left, unless its guest is named', async () => {
    const world = await restarted();
    world.recorded.set(5, [
      { devid: 0, backend_domname: 'nicdom2' },
      { devid: 1, backend_domname: '1' },
    ]);
    world.recorded.delete(6);
    const { code, stdout } = await world.vifd('recover', 'nicdom', '--yes');
    expect(code).toBe(1);
    expect(
      stdout,
    ).toBe(`# guest5 (domid 5), vif 0: left as it is: its vif line says backend="nicdom2", another driver domain
# guest5 (domid 5), vif 1: left as it is: its vif line says backend=1; if it was nicdom, add --guest guest5
# guest6 (domid 6), vif 0: left as it is: xl has no record of the name of its backend; if it was nicdom, add --guest guest6
# no vif of nicdom waits for a new backend
`);
    const named = await world.vifd('recover', '7', '--guest', 'guest5', '--guest', '6');
    expect(named.stdout).toContain(`${ATTACH_5_1}\n`);
    expect(named.stdout).toContain('xl network-detach 6 0\n');
    expect(named.stdout).not.toContain('xl network-detach 5 0\n');
  });

  test('before vifd serves there nothing is detached; names that nobody has', async () => {
    const world = await restarted({ serving: false });
    const { code, stderr } = await world.vifd('recover', 'nicdom', '--yes', '--timeout', '0');
    expect(code).toBe(1);
    expect(stderr).toContain('does it run there?; nothing has been done\n');
    expect(world.calls.every(([command]) => command === 'list')).toBe(true);
    world.path = '/nowhere';
    expect(await world.vifd('recover', 'nicdom')).toMatchObject({
      code: 1,
      stderr: "vifd: xl is not in $PATH; it is part of Xen's tools in dom0\n",
    });
    expect(await world.vifd('recover', 'nicdom3')).toMatchObject({
      code: 1,
      stderr: 'vifd: there is no domain "nicdom3"; running are: Domain-0, guest5, guest6, nicdom\n',
    });
  });
});
