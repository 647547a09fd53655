import { execaSync } from 'execa';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { featureChange, fixedOffloads, type Offloads } from '../../src/network/ethtool.js';
import { Kernel } from '../../src/network/kernel.js';
import { attach } from '../../src/vif/attach.js';
import { AttachQueue } from '../../src/vif/attach-queue.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { backend } from '../unit/vif-seen.js';
import { addVif, clearLinks, ip, showAddresses, showLink } from './namespace.js';

const kernel = new Kernel();
const need = async (ifname: string) => {
  const link = await kernel.getLink(ifname);
  if (link === undefined) throw new Error(`no ${ifname}`);
  return link;
};

beforeEach(clearLinks);
afterEach(() => kernel.close());

describe('links', () => {
  test('a link is read as ip reads it', async () => {
    ip('link', 'add', 'br0', 'type', 'bridge');
    ip('link', 'set', 'br0', 'mtu', '1400'); // by hand, or the bridge takes its first port's
    addVif('vif1.0');
    ip('link', 'set', 'vif1.0', 'txqueuelen', '32', 'master', 'br0', 'alias', 'hello');
    const [seen, shown, bridge] = [await need('vif1.0'), showLink('vif1.0'), await need('br0')];
    expect(seen).toMatchObject({
      ifindex: shown?.ifindex,
      ifname: 'vif1.0',
      up: false,
      address: 'fe:ff:ff:ff:ff:ff',
      mtu: 1500,
      txqlen: 32,
    });
    expect(seen).toMatchObject({ master: bridge.ifindex, kind: 'veth', alias: 'hello', parentDev: '', addrGenMode: 0 });
    expect(bridge).toMatchObject({ kind: 'bridge', mtu: 1400, master: 0 });
  });

  test('a missing link is undefined, and no error', async () => {
    expect(await kernel.getLink('nosuch')).toBeUndefined();
  });

  test('a link is found by its alternative name', async () => {
    addVif('vif1.0');
    ip('link', 'property', 'add', 'dev', 'vif1.0', 'altname', 'wan');
    expect((await need('wan')).ifname).toBe('vif1.0');
  });

  test('all links are listed, more than one datagram holds', async () => {
    for (let i = 0; i < 40; i++) ip('link', 'add', `br${i}`, 'type', 'bridge');
    const names = (await kernel.listLinks()).map(({ ifname }) => ifname);
    expect(names).toHaveLength(41);
    expect(new Set(names)).toEqual(new Set(['lo', ...Array.from({ length: 40 }, (_, i) => `br${i}`)]));
  });

  test('the settings of a port are in force by the word of bridge, and read back; others stay', async () => {
    ip('link', 'add', 'br0', 'type', 'bridge');
    addVif('vif1.0');
    ip('link', 'set', 'vif1.0', 'master', 'br0');
    const before = await need('vif1.0');
    expect(before.port).toEqual({
      isolated: false,
      hairpin: false,
      learning: true,
      flood: true,
      mcastFlood: true,
      bcastFlood: true,
      mcastToUnicast: false,
      mcastRouter: 1,
      priority: 32,
    });
    const more = { bcastFlood: false, mcastToUnicast: true, mcastRouter: 2 };
    const port = { isolated: true, learning: false, priority: 7, ...more };
    await kernel.setPort(before, port);
    expect((await need('vif1.0')).port).toEqual({ ...before.port, ...port });
    const [shown] = JSON.parse(execaSync('bridge', ['-d', '-j', 'link', 'show', 'dev', 'vif1.0']).stdout);
    expect(shown).toMatchObject({ isolated: true, learning: false, priority: 7, hairpin: false, mcast_flood: true });
    expect(shown).toMatchObject({ bcast_flood: false, mcast_to_unicast: true });
    const { stdout } = execaSync('ip', ['-j', '-d', 'link', 'show', 'dev', 'vif1.0']);
    expect(JSON.parse(stdout)[0].linkinfo.info_slave_data).toMatchObject({ multicast_router: 2 });
    expect((await need('br0')).port).toBeUndefined();
  });

  test('a link that is no port takes no settings of one', async () => {
    addVif('vif1.0');
    const link = await need('vif1.0');
    await expect(kernel.setPort(link, { isolated: true })).rejects.toMatchObject({
      code: 'ENOTSUP',
      message: expect.stringContaining('set isolated=true of port vif1.0'),
    });
  });

  test('every change is in force, by the word of ip', async () => {
    ip('link', 'add', 'br0', 'type', 'bridge');
    addVif('vif1.0');
    const link = await need('vif1.0');
    const master = (await need('br0')).ifindex;
    await kernel.setLink(link, { mtu: 1300, txqlen: 777, address: 'fe:ff:ff:ff:ff:fe', master, addrGenMode: 1 });
    await kernel.setLink(link, { ifname: 'wan', alias: 'vif1.0' });
    await kernel.setLink(link, { up: true });
    const shown = showLink('wan');
    expect(shown).toMatchObject({
      mtu: 1300,
      txqlen: 777,
      address: 'fe:ff:ff:ff:ff:fe',
      master: 'br0',
      ifalias: 'vif1.0',
      inet6_addr_gen_mode: 'none',
    });
    expect(shown?.flags).toContain('UP');
    await kernel.setLink(link, { up: false, master: 0 });
    expect(showLink('wan')?.flags).not.toContain('UP');
    expect(showLink('wan')?.master).toBeUndefined();
  });

  test.each([
    ['ENODEV', { ifindex: 9999, ifname: 'ghost' }, { mtu: 1400 }],
    ['ENOTSUP', { ifindex: 1, ifname: 'lo' }, { master: 1 }],
  ])('a refusal is a NetlinkError %s that names the interface', async (code, link, change) => {
    await expect(kernel.setLink(link, change)).rejects.toMatchObject({
      name: 'NetlinkError',
      code,
      ifname: link.ifname,
    });
  });

  test('a taken name is EEXIST', async () => {
    addVif('vif1.0');
    addVif('vif2.0');
    await expect(kernel.setLink(await need('vif1.0'), { ifname: 'vif2.0' })).rejects.toMatchObject({ code: 'EEXIST' });
  });
});

describe('addresses', () => {
  test('those of one link are listed and removed, IPv4 and IPv6', async () => {
    addVif('vif1.0');
    addVif('vif2.0');
    ip('addr', 'add', '192.0.2.1/24', 'dev', 'vif1.0');
    ip('addr', 'add', '2001:db8::1/64', 'dev', 'vif1.0');
    ip('addr', 'add', '192.0.2.9/24', 'dev', 'vif2.0');
    const link = await need('vif1.0');
    const addresses = await kernel.listAddresses(link.ifindex);
    expect(addresses).toHaveLength(2);
    for (const address of addresses) await kernel.deleteAddress(link, address);
    expect(showAddresses('vif1.0')).toEqual([]);
    expect(showAddresses('vif2.0')).toEqual(['192.0.2.9/24']);
    await kernel.deleteAddress(link, addresses[0] as (typeof addresses)[0]); // gone already: no error
  });
});

describe('features', () => {
  const txChecksum = (ifname: string) =>
    /tx-checksumming: (\w+)/.exec(execaSync('ethtool', ['-k', ifname]).stdout)?.[1];
  const haveEthtool = !execaSync('ethtool', ['--version'], { reject: false }).failed;

  test.skipIf(!haveEthtool)(
    'tx checksum offload is cleared, by the word of ethtool (needs the Debian package ethtool)',
    async () => {
      addVif('vif1.0');
      expect(txChecksum('vif1.0')).toBe('on');
      const link = await need('vif1.0');
      expect((await kernel.getFeatures(link)).wanted).toContain('tx-checksum-ip-generic');
      await kernel.setFeatures(link, featureChange({ txChecksum: false }, undefined));
      expect(txChecksum('vif1.0')).toBe('off');
      expect((await kernel.getFeatures(link)).wanted).not.toContain('tx-checksum-ip-generic');
    },
  );

  test.skipIf(!haveEthtool)(
    'a feature that is wanted counts, active or not: netback masks some until the guest has connected',
    async () => {
      addVif('vif1.0');
      execaSync('ethtool', ['-K', 'vif1.0', 'tx', 'off']); // now tso is wanted, but off for want of checksums
      expect(execaSync('ethtool', ['-k', 'vif1.0']).stdout).toMatch(/tx-tcp-segmentation: off \[requested on\]/);
      expect((await kernel.getFeatures(await need('vif1.0'))).wanted).toContain('tx-tcp-segmentation');
    },
  );

  const shown = (ifname: string, word: string) =>
    new RegExp(`^${word}: (.*)$`, 'm').exec(execaSync('ethtool', ['-k', ifname]).stdout)?.[1];

  test.skipIf(!haveEthtool).each<[string, Offloads]>([
    ['tx-checksumming', { txChecksum: true }],
    ['rx-checksumming', { rxChecksum: true }],
    ['tcp-segmentation-offload', { tso: true }],
    ['generic-segmentation-offload', { gso: true }],
    ['scatter-gather', { sg: true }],
    ['generic-receive-offload', { gro: true }],
  ])('%s is turned off, on, and not touched when it is so, by the word of ethtool', async (word, on) => {
    addVif('vif1.0');
    const link = await need('vif1.0');
    const off = Object.fromEntries(Object.keys(on).map((name) => [name, false]));
    for (const [want, is] of [
      [off, 'off'],
      [on, 'on'],
      [off, 'off'],
    ] as const) {
      expect(fixedOffloads(want, await kernel.getFeatures(link))).toEqual([]);
      await kernel.setFeatures(link, featureChange(want, await kernel.getFeatures(link)));
      expect(shown('vif1.0', word)).toBe(is);
      expect(featureChange(want, await kernel.getFeatures(link))).toEqual({});
    }
  });

  test.skipIf(!haveEthtool)('what the driver has fixed is told, and not asked for', async () => {
    expect(shown('lo', '\ttx-scatter-gather')).toBe('on [fixed]');
    const features = await kernel.getFeatures(await need('lo'));
    expect(fixedOffloads({ sg: false, tso: false, rxChecksum: true }, features)).toEqual(['sg']);
    expect(featureChange({ sg: false }, features)).toEqual({});
    expect(fixedOffloads({ sg: true }, features)).toEqual([]);
  });

  test.skipIf(!haveEthtool)('a vif whose driver has something fixed is attached, with a warning', async () => {
    ip('link', 'add', 'br0', 'type', 'bridge');
    ip('tuntap', 'add', 'vif5.0', 'mode', 'tap');
    expect(shown('vif5.0', 'rx-checksumming')).toBe('off [fixed]');
    const config = { vif: { rxChecksum: 'on', gro: 'off' }, rules: [] } as const;
    const attached = await attach(
      resolveAttachment(backend({}), config),
      { kernel, attaching: new AttachQueue(1) },
      { said: 'something', overdue: false },
    );
    expect(attached?.warnings).toContain('its driver does not let rx_checksum be on; it stays as it is');
    expect(shown('vif5.0', 'generic-receive-offload')).toBe('off');
  });

  test('a link that is gone is ENODEV', async () => {
    await expect(kernel.getFeatures({ ifindex: 9999, ifname: 'ghost' })).rejects.toMatchObject({
      code: 'ENODEV',
      ifname: 'ghost',
    });
  });
});

test('many requests at once are all answered, while the loop is busy', async () => {
  addVif('vif1.0');
  const asked = Array.from({ length: 400 }, () => kernel.getLink('vif1.0'));
  const until = performance.now() + 100;
  while (performance.now() < until); // node-netlink 0.3.0 aborts here with many requests in flight
  expect((await Promise.all(asked)).every((link) => link?.ifname === 'vif1.0')).toBe(true);
});

test('close rejects what waits, and the next request works again', async () => {
  const asked = Promise.allSettled([kernel.getLink('lo'), kernel.getLink('lo')]);
  kernel.close();
  expect((await asked).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect((await kernel.getLink('lo'))?.ifname).toBe('lo');
});
