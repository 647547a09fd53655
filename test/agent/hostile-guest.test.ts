/** What a guest could do with all that is its own in xenstore: the directory of its half of the vif. Frames are guard's. */
import { expect, onTestFinished, test } from 'vitest';
import { hasCode } from '../../src/errors.js';
import { NICDOM } from '../../src/simulator/host.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { openSocket } from '../../src/xenstore/transport.js';
import { showLink } from '../netns/namespace.js';
import { measured } from '../support/measured.js';
import { useWorld } from './world.js';

const world = useWorld();
const FRONTEND = '/local/domain/5/device/vif/0';

/** With the rights of domain 5, beside its driver. */
async function asGuest(): Promise<XenstoreClient> {
  const guest = new XenstoreClient(await openSocket(world.host.socketOf(5)));
  onTestFinished(() => guest.close().catch(() => undefined));
  return guest;
}

/** Path and value of all that domain 1 has, but for the vif of domain 5. */
async function ownTree(): Promise<string[]> {
  const walk = async (path: string): Promise<string[]> => {
    const [value, children] = await Promise.all([world.host.dom0.read(path), world.host.dom0.directory(path)]);
    const below = await Promise.all(children.map((child) => walk(`${path}/${child}`)));
    return [`${path} = ${value}`, ...below.flat()];
  };
  return (await walk(`/local/domain/${NICDOM}`)).filter((line) => !line.includes('/vif/5')).sort();
}

const VALUES = [
  '',
  '0',
  '9',
  '-1',
  '67',
  '68',
  '65518',
  '4294967296',
  '\0',
  '\n',
  '\u001b[2J',
  'x'.repeat(2_000),
  '../../../1/data',
];
const NAMES = [
  'mtu',
  'mac',
  'bridge',
  'script',
  'vifname',
  'hotplug-status',
  'online',
  'backend-id',
  'handle',
  'event-channel',
  'feature-sg',
  'feature-gso-tcpv4',
  'feature-multicast-control',
  'request-multicast-control',
  'multi-queue-num-queues',
  'queue-0/tx-ring-ref',
  'queue-4294967295/tx-ring-ref',
  'xdp-headroom',
  'ctrl-ring-ref',
];

/** The node mtu is the driver domain's. */
function refused(error: unknown): void {
  if (!hasCode(error, 'EACCES')) throw error;
}

const linkOf = (ifname: string) => {
  const { ifindex, flags, mtu, txqlen, master, address } = showLink(ifname) ?? {};
  return { ifindex, flags, mtu, txqlen, master, address };
};

async function neighbours(): Promise<void> {
  await world.start();
  await world.host.createGuest(6, [{ bridge: 'br0' }]);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(6, 0, 'state', '4');
  await world.until(5, 0, 'state', '4');
}

/** Nothing is wrong with anybody, and the guest's vif can still be taken away. */
async function isWell(links: unknown, fault: string): Promise<void> {
  expect(linkOf('vif6.0')).toEqual(links);
  expect(await world.node(6, 0, 'hotplug-status')).toBe('connected');
  expect(world.agent.log.filter(({ level, domid }) => domid === 6 && level !== 'info' && level !== 'debug')).toEqual(
    [],
  );
  expect(world.agent.log.filter(({ msg }) => !/^[\x20-\x7e]*$/.test(msg))).toEqual([]);
  await measured(`${fault}: a new vif of another is connected`, 2_500, async () => {
    await world.host.attachVif(6, { bridge: 'br0', devid: 9 });
    await world.connected(6, 9, 1_000);
  });
}

test('any value under any name, also names that mean something on the other side: neither its vif nor another changes', async () => {
  await neighbours();
  const [before, own, links] = [await ownTree(), linkOf('vif5.0'), linkOf('vif6.0')];
  const guest = await asGuest();
  for (const name of NAMES) for (const value of VALUES) await guest.write(`${FRONTEND}/${name}`, value).catch(refused);
  for (const path of [
    '..',
    '../../../../1/data',
    '/local/domain/1/data/x',
    '/local/domain/1/backend/vif/5/0/hotplug-status',
  ])
    await expect(guest.write(path.startsWith('/') ? path : `${FRONTEND}/${path}`, 'x')).rejects.toThrow(
      /EINVAL|EACCES/,
    );
  await world.host.attachVif(6, { bridge: 'br0', devid: 7 });
  await world.connected(6, 7);
  await world.host.detachVif(6, 7);
  expect(await ownTree()).toEqual(before);
  expect(linkOf('vif5.0')).toEqual(own);
  await isWell(links, 'a guest has written all that it may');
});

test('thousands of nodes, up to its quota, which is its own', async () => {
  await neighbours();
  const links = linkOf('vif6.0');
  const guest = await asGuest();
  let made = 0;
  const full = async () => {
    for (; made < 5_000; made++) await guest.write(`${FRONTEND}/n${made}`, 'x');
  };
  await expect(full()).rejects.toThrow('ENOSPC');
  expect(made).toBeGreaterThan(300);
  await isWell(links, 'a guest has used up its quota');
  expect(await world.host.detachVif(5, 0)).toMatchObject({ ok: true, errors: [] });
});

test('a frontend that nobody else may read: netback takes its interface away, and the vif goes', async () => {
  await neighbours();
  const links = linkOf('vif6.0');
  const guest = await asGuest();
  for (const name of await guest.directory(FRONTEND))
    await guest.setPerms(`${FRONTEND}/${name}`, ['n5']).catch(() => undefined);
  await guest.setPerms(FRONTEND, ['n5']).catch(() => undefined);
  await world.gone(5, 0, 9_000);
  await isWell(links, 'a guest has hidden its directory');
});

test('states out of order and such as there are none, for ever: it hurts itself, and goes when dom0 says so', async () => {
  await neighbours();
  const links = linkOf('vif6.0');
  const guest = await asGuest();
  await world.host.netfront(5, 0).stop(); // the guest's decent driver
  let stop = false;
  const states = ['3', '1', '6', '4', '5', '2', '8', '0', '7', '9', '-1', '', 'x'.repeat(2_000)];
  let written = 0;
  const flapping = (async () => {
    for (; !stop; written++) await guest.write(`${FRONTEND}/state`, states[(written * 5) % states.length] as string);
  })();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await isWell(links, 'a guest flaps as fast as it can');
  stop = true;
  await flapping;
  await world.host.destroyGuest(5);
  expect(written).toBeGreaterThan(100);
  await world.gone(5, 0, 9_000);
});
