/** The life of a vif, with the real `vifd run`, real interfaces, and a simulated Xen around them. */
import { execaSync } from 'execa';
import { describe, expect, test } from 'vitest';
import { ip, showAddresses, showLink } from '../netns/namespace.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
const haveEthtool = !execaSync('ethtool', ['--version'], { reject: false }).failed;
const txChecksum = (ifname: string) => /tx-checksumming: (\w+)/.exec(execaSync('ethtool', ['-k', ifname]).stdout)?.[1];
const frontendMtu = (domid: number) => world.host.dom0.readOptional(`/local/domain/${domid}/device/vif/0/mtu`);

describe('attach', () => {
  test('a vif becomes a port of its bridge: qlen 1000, tx off, no address, up, and only then `connected`', async () => {
    await world.start();
    expect(await world.host.createGuest(5, [{ bridge: 'br0' }])).toMatchObject({ ok: true, errors: [] });
    await world.connected(5);
    const link = showLink('vif5.0');
    expect(link).toMatchObject({
      master: 'br0',
      txqlen: 1000,
      mtu: 1500,
      address: 'fe:ff:ff:ff:ff:ff',
      inet6_addr_gen_mode: 'none',
    });
    expect(link?.flags).toContain('UP');
    expect(showAddresses('vif5.0')).toEqual([]);
    if (haveEthtool) expect(txChecksum('vif5.0')).toBe('off');
    await world.until(5, 0, 'state', '4');
    const line = await world.agent.saw(({ msg }) => msg.startsWith('connected'));
    expect(line).toMatchObject({ level: 'info', domid: 5, devid: 0, ifname: 'vif5.0', bridge: 'br0' });
    expect(line.did?.at(-1)).toBe('up=true');
  });

  test('the interface may come long after state 2, or before it', async () => {
    await world.start({ netback: { linkDelayMs: 400 } });
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
    expect(showLink('vif5.0')?.master).toBe('br0');
    expect(world.agent.log.filter(({ level }) => level === 'error')).toEqual([]);
  });

  test('Linux up to 5.5: the interface comes first', async () => {
    await world.start({ netback: { linkFirst: true } });
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
  });

  test('libxl before 4.15 makes no hotplug-status and no mtu node', async () => {
    await world.start({ toolstack: { xenMinor: 14 } });
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
    expect(await frontendMtu(5)).toBeUndefined();
  });

  test('16 vifs at once are all connected', async () => {
    await world.start();
    expect(
      await world.host.createGuest(
        5,
        Array.from({ length: 16 }, () => ({ bridge: 'br0' })),
      ),
    ).toMatchObject({ ok: true });
    for (let devid = 0; devid < 16; devid++) await world.connected(5, devid);
    expect(JSON.parse(ip('-j', 'link', 'show', 'master', 'br0'))).toHaveLength(16);
  });

  test('the MTU of the bridge: the vif has it, and the guest is told', async () => {
    ip('link', 'set', 'br0', 'mtu', '9000');
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
    expect([showLink('vif5.0')?.mtu, showLink('br0')?.mtu, await frontendMtu(5)]).toEqual([9000, 9000, '9000']);
  });

  test('the MTU that dom0 wrote goes before that of the bridge', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0', mtu: 1400 }]);
    await world.connected(5);
    expect([showLink('vif5.0')?.mtu, await frontendMtu(5)]).toEqual([1400, '1400']);
  });

  test('no bridge named: the first there is, with a warning', async () => {
    ip('link', 'add', 'abr', 'type', 'bridge');
    await world.start();
    await world.host.createGuest(5, [{ nodes: { bridge: undefined } }]);
    await world.connected(5);
    expect(showLink('vif5.0')?.master).toBe('abr');
    await world.agent.saw(({ level, msg }) => level === 'warn' && msg.includes('using abr'));
  });

  test('xenbr0 that does not exist means eth0 if that is a bridge, with a warning', async () => {
    ip('link', 'add', 'eth0', 'type', 'bridge');
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'xenbr0' }]);
    await world.connected(5);
    expect(showLink('vif5.0')?.master).toBe('eth0');
    await world.agent.saw(({ level, msg }) => level === 'warn' && msg.includes('"xenbr0" does not exist; using eth0'));
  });

  test('vifname names the interface, and a rebooting guest gets the name again', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0', vifname: 'wan' }]);
    await world.connected(5);
    expect(showLink('wan')).toMatchObject({ master: 'br0', ifalias: 'vif5.0' });
    expect(showLink('vif5.0')).toBeUndefined();
    expect(await world.host.rebootGuest(5, 6)).toMatchObject({ ok: true });
    await world.connected(6);
    expect(showLink('wan')).toMatchObject({ master: 'br0', ifalias: 'vif6.0' });
  });

  test('a vifname that another vif holds: an error that says so, and the name when it is free', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0', vifname: 'wan' }]);
    await world.connected(5);
    await world.host.createGuest(6, [{ bridge: 'br0', vifname: 'wan' }]);
    await world.until(6, 0, 'hotplug-status', 'error');
    expect(await world.node(6, 0, 'hotplug-error')).toMatch(/EEXIST \(the name is taken\)/);
    expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
    await world.host.destroyGuest(5);
    await world.connected(6);
    expect(showLink('wan')?.ifalias).toBe('vif6.0');
  });

  test('an emulated card (vif_ioemu) has its PV vif; nothing is done for the tap, and the log says so', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0', type: 'vif_ioemu' }]);
    await world.connected(5);
    await world.agent.saw(({ level, msg }) => level === 'debug' && msg.includes('emulated card'));
  });

  test('other kinds of devices are left alone', async () => {
    await world.start();
    const dir = '/local/domain/1/backend/vbd/5/768';
    await world.host.dom0.write(`${dir}/state`, '6');
    await world.host.dom0.write(`${dir}/online`, '0');
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
    expect(await world.host.dom0.directory(dir)).toEqual(['state', 'online']);
    expect(world.agent.log.filter(({ msg }) => /vbd|768/.test(msg))).toEqual([]);
  });
});

describe('removal', () => {
  test('detach: the directory goes, xl prints no error, and not before dom0 could see state 6', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'state', '4');
    const outcome = await world.host.detachVif(5, 0);
    expect(outcome).toMatchObject({ ok: true, errors: [] });
    expect(outcome.waitedMs).toBeGreaterThan(900);
    expect(await world.node(5, 0, 'state')).toBeUndefined();
    await world.agent.saw(({ msg }) => msg === 'vif5.0 has left');
  });

  test('destroying a guest with 16 vifs, more than transactions are allowed at once, before a slow dom0: no error', async () => {
    await world.start({ toolstack: { eventMs: 15 } });
    await world.host.createGuest(
      5,
      Array.from({ length: 16 }, () => ({ bridge: 'br0' })),
    );
    for (let devid = 0; devid < 16; devid++) await world.connected(5, devid);
    expect(await world.host.destroyGuest(5)).toMatchObject({ ok: true, errors: [] });
    expect(await world.host.nicdom.directory('backend/vif').catch(() => [])).toEqual([]);
  });

  test('the same devid attached again at once, again and again', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    for (let round = 0; round < 3; round++) {
      await world.until(5, 0, 'state', '4');
      expect(await world.host.detachVif(5, 0)).toMatchObject({ ok: true, errors: [] });
      expect(await world.host.attachVif(5, { devid: 0, bridge: 'br0' })).toMatchObject({ ok: true, errors: [] });
      await world.connected(5);
    }
    expect(showLink('vif5.0')?.master).toBe('br0');
  });

  test('a directory that dom0 removed itself is forgotten, and made again works', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
    await world.host.dom0.rm('/local/domain/1/backend/vif/5');
    await world.agent.saw(({ msg }) => msg === 'vif5.0 has left');
    await world.host.dom0.rm('/local/domain/5/device/vif/0');
    await world.host.dom0.rm('/libxl/5/device/vif/0');
    expect(await world.host.attachVif(5, { devid: 0, bridge: 'br0' })).toMatchObject({ ok: true });
    await world.connected(5);
  });

  test('a guest reboots: the new vif is connected, the old directory is gone', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
    expect(await world.host.rebootGuest(5, 6)).toMatchObject({ ok: true, errors: [] });
    await world.connected(6);
    expect(await world.node(5, 0, 'state')).toBeUndefined();
  });

  test("the guest's driver is reloaded: `connected` and the directory stay", async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'state', '4');
    await world.host.netfront(5, 0).reload();
    await world.until(5, 0, 'state', '4');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
    expect(world.agent.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });

  test('a guest that flaps as fast as it can is still connected, and its neighbour does not notice', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
    const flapping = world.host.netfront(5, 0).flap(30);
    await world.host.createGuest(6, [{ bridge: 'br0' }]);
    await world.connected(6, 0, 1_000);
    await flapping;
    expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
  });

  test('a guest that removes its own directory: the backend directory goes after a grace, within dom0’s 10 s', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'state', '4');
    await world.host.netfront(5, 0).removeDirectory();
    await world.until(5, 0, 'state', '6');
    await world.gone(5, 0, 9_000);
  });

  test('a vif that dom0 described badly leaves as well as any other', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0', nodes: { mtu: 'nonsense' } }]);
    await world.until(5, 0, 'hotplug-status', 'error');
    expect(await world.host.detachVif(5, 0)).toMatchObject({ ok: true, errors: [] });
  });

  test('a vif that could never be attached leaves as well', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'nosuch' }]);
    await world.until(5, 0, 'hotplug-status', 'error');
    expect(await world.host.destroyGuest(5)).toMatchObject({ ok: true, errors: [] });
  });
});

test('SIGTERM and SIGINT end the agent at once, with the vifs in place', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.connected(5);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const before = performance.now();
    expect(await world.agent.kill(signal)).toEqual({ code: 0, signal: null });
    expect(performance.now() - before).toBeLessThan(1_000);
    await world.startAgent();
  }
  expect(await eventually(() => showLink('vif5.0')?.master)).toBe('br0');
});
