/** Bridges and neighbours of the real kernel, read back by ip; the neighbour is another namespace. */
import { execaSync } from 'execa';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HostKernel } from '../../src/network/host-kernel.js';
import { parsePrefix } from '../../src/network/prefix.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { clearLinks, ip, showLink } from './namespace.js';
import { addPeer, removePeers } from './peer.js';

const kernel = new HostKernel();
const need = async (ifname: string) => (await kernel.getLink(ifname)) as Link;

beforeEach(clearLinks);
afterEach(() => {
  removePeers();
  kernel.close();
});

test('a bridge is made with its settings, which ip reads, and changed', async () => {
  await kernel.createBridge('br9', { stp: true, forwardDelay: 4, multicastSnooping: false }, '02:00:00:00:00:09');
  const shown = () => showLink('br9') as unknown as { linkinfo: { info_data: object }; address: string };
  expect(shown()).toMatchObject({
    address: '02:00:00:00:00:09',
    linkinfo: { info_kind: 'bridge', info_data: { stp_state: 1, forward_delay: 400, mcast_snooping: 0 } },
  });
  expect((await need('br9')).bridge).toEqual({
    stp: true,
    forwardDelay: 4,
    multicastSnooping: false,
    vlanFiltering: false,
  });
  await kernel.setBridge(await need('br9'), { stp: false, multicastSnooping: true });
  expect(shown()).toMatchObject({ linkinfo: { info_data: { stp_state: 0, forward_delay: 400, mcast_snooping: 1 } } });
  await expect(kernel.createBridge('br9', {}, undefined)).rejects.toMatchObject({ code: 'EEXIST' });
});

test.each([
  ['192.0.2.1', '192.0.2.2', '192.0.2.3', 24],
  ['2001:db8::1', '2001:db8::2', '2001:db8::3', 64],
])('from %s: who answers and who does not', async (own, peer, nobody, length) => {
  addPeer('eth7', `${peer}/${length}`);
  const link = await need('eth7');
  const prefix = parsePrefix(`${own}/${length}`);
  if (prefix !== undefined) await kernel.addAddress(link, prefix);
  for (const [address, state] of [
    [peer, 'answers'],
    [nobody, 'silent'],
    [peer, 'answers'],
  ] as const) {
    await kernel.askNeighbour(link, address);
    await expect.poll(() => kernel.getNeighbour(link, address), { timeout: 8_000 }).toBe(state);
  }
});

test('an address says who added it', async () => {
  addPeer('eth7');
  await kernel.addAddress(await need('eth7'), { family: 'ipv4', address: '192.0.2.1', length: 24 });
  ip('addr', 'add', '192.0.2.9/24', 'dev', 'eth7');
  const found = await kernel.listAllAddresses();
  const { ifindex } = await need('eth7');
  expect(found.filter((one) => one.ifindex === ifindex && one.family === 2).map((one) => one.protocol)).toEqual([
    118, 0,
  ]);
  expect(execaSync('ip', ['addr', 'show', 'dev', 'eth7']).stdout).toContain('192.0.2.1/24');
});
