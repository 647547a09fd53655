/** Guards, by frames that a guest forges: what of them comes out at its neighbour in the bridge. */
import { spawn } from 'node:child_process';
import { execaSync } from 'execa';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { Kernel } from '../../src/network/kernel.js';
import { type GuardPolicy, guardOf } from '../../src/vif/guard.js';
import { eventually } from '../agent/agent-process.js';
import { advertisement, arp, ethernet, hear, icmp6, send, tagged, udp, udp6 } from './frames.js';
import { addVif, clearLinks, ip } from './namespace.js';

const OWN = '00:16:3e:00:00:01';
const OTHER = '00:16:3e:00:00:02';
const IP = '192.0.2.7';
const LINK = 'fe80:0:0:0:0:0:0:1';
const GLOBAL = '2001:db8:0:0:0:0:0:7';

const policy = (more: Partial<GuardPolicy> = {}): GuardPolicy => ({
  macs: [OWN as GuardPolicy['macs'][number]],
  ip: [IP, '2001:db8::/64'],
  allowDhcp: false,
  allowRouter: false,
  allowTags: false,
  ...more,
});

let kernel: Kernel;
const nft = (...args: string[]) => execaSync('nft', args, { reject: false });
let heard: readonly string[] = [];

/** The guest is `g1.0`; its neighbour `g2.0`. */
beforeEach(async () => {
  kernel = new Kernel();
  clearLinks();
  nft('flush', 'ruleset');
  ip('link', 'add', 'br0', 'type', 'bridge', 'mcast_snooping', '0');
  for (const vif of ['vif1.0', 'vif2.0']) {
    addVif(vif);
    for (const end of [vif, `g${vif.slice(3)}`]) {
      ip('link', 'set', end, 'addrgenmode', 'none');
      ip('link', 'set', end, 'arp', 'off', 'up');
    }
    ip('link', 'set', vif, 'master', 'br0');
  }
  ip('link', 'set', 'br0', 'addrgenmode', 'none', 'up');
  heard = await hear('g2.0');
});
afterEach(() => kernel.close());

let notes = 0;
/** Whether the frame comes through: a frame that all may send follows it. */
async function passes(frame: string): Promise<boolean> {
  const note = (++notes).toString(16).padStart(8, '0');
  const last = udp(OWN, IP, 1000, 2000, `cafe${note}`);
  const before = heard.length;
  send('g1.0', frame, last);
  await eventually(() => heard.slice(before).includes(last));
  return heard.slice(before).includes(frame);
}

/** An answer of DHCPv6 behind a header of options (RFC 8200, 4.6). */
function behindOptions(): string {
  const frame = udp6(OWN, LINK, 547, 546);
  return `${frame.slice(0, 28)}6000000000103cff${frame.slice(44, 108)}1100010400000000${frame.slice(108)}`;
}

const FORGED: [string, string][] = [
  ['an answer of DHCP from another port', udp(OWN, IP, 1067, 68)],
  ['an answer of DHCPv6 from another port', udp6(OWN, LINK, 1547, 546)],
  ['an answer of DHCPv6 behind options', behindOptions()],
  ['another sender', ethernet(OTHER, 0x88b5, 'ab')],
  ['another sender of IP', udp(OTHER, IP, 1, 2)],
  ['ARP of another card', arp(OWN, { mac: OTHER, ip: IP })],
  ['ARP for the address of another', arp(OWN, { mac: OWN, ip: '192.0.2.8' })],
  ['IPv4 of another', udp(OWN, '192.0.2.8', 1, 2)],
  ['an answer of DHCP', udp(OWN, IP, 67, 68)],
  ['an answer of DHCPv6', udp6(OWN, LINK, 547, 546)],
  ['a router advertisement', icmp6(OWN, LINK, 134)],
  ['a redirect', icmp6(OWN, LINK, 137)],
  ['IPv6 of another', udp6(OWN, '2001:db8:0:1:0:0:0:7', 1, 2)],
  ['a neighbour advertisement for another', advertisement(OWN, LINK, '2001:db8:0:1:0:0:0:1')],
  ['IPv4 of another with a tag', tagged(udp(OWN, '192.0.2.8', 1, 2), 5)],
];
const HONEST: [string, string][] = [
  ['its own IPv4', udp(OWN, IP, 1, 2)],
  ['its own ARP', arp(OWN, { mac: OWN, ip: IP })],
  ['an ARP probe', arp(OWN, { mac: OWN, ip: '0.0.0.0' })],
  ['a question of DHCP', udp(OWN, '0.0.0.0', 68, 67)],
  ['a question of DHCPv6', udp6(OWN, LINK, 546, 547)],
  ['a router solicitation', icmp6(OWN, LINK, 133)],
  ['a search for a double of its address', icmp6(OWN, '0:0:0:0:0:0:0:0', 135)],
  ['its own IPv6', udp6(OWN, GLOBAL, 1, 2)],
  ['a neighbour advertisement for itself', advertisement(OWN, GLOBAL, GLOBAL)],
  ['one for its address on the link', advertisement(OWN, LINK, LINK)],
  ['another protocol', ethernet(OWN, 0x88b5, 'cd')],
];

describe('a guest that is held to its addresses', () => {
  test.each(FORGED)('cannot send %s, which passes without a guard', async (_, frame) => {
    expect(await passes(frame)).toBe(true);
    await kernel.setGuard('vif1.0', guardOf(policy()));
    expect(await passes(frame)).toBe(false);
  });

  test.each(HONEST)('may send %s', async (_, frame) => {
    await kernel.setGuard('vif1.0', guardOf(policy()));
    expect(await passes(frame)).toBe(true);
  });

  test('only its own vif is concerned', async () => {
    await kernel.setGuard('vif2.0', guardOf(policy()));
    expect(await passes(ethernet(OTHER, 0x88b5, 'ab'))).toBe(true);
  });
});

/** VLAN 0 is no VLAN to Linux. */
const HIDDEN: [string, Partial<GuardPolicy>, string][] = [
  ['mac: a router advertisement', { ip: undefined }, tagged(icmp6(OWN, LINK, 134), 0)],
  ['mac: a router advertisement', { ip: undefined }, tagged(icmp6(OWN, LINK, 134), 5)],
  ['mac: an answer of DHCP', { ip: undefined }, tagged(udp(OWN, IP, 67, 68), 0)],
  ['mac: ARP of another card', { ip: undefined }, tagged(arp(OWN, { mac: OTHER, ip: IP }), 0)],
  [
    'ip and VLANs: ARP for the address of another',
    { allowTags: true },
    tagged(arp(OWN, { mac: OWN, ip: '192.0.2.8' }), 5),
  ],
  ['ip and VLANs: IPv4 of another', { allowTags: true }, tagged(udp(OWN, '192.0.2.8', 1, 2), 5)],
  [
    'ip and VLANs: a neighbour advertisement for another',
    { allowTags: true },
    tagged(advertisement(OWN, LINK, '2001:db8:0:1:0:0:0:1'), 5),
  ],
  [
    'ip and VLANs: IPv4 of another behind two tags',
    { allowTags: true },
    tagged(tagged(udp(OWN, '192.0.2.8', 1, 2), 0), 5),
  ],
];

test.each(HIDDEN)('%s is not hidden by a tag', async (_, more, frame) => {
  expect(await passes(frame)).toBe(true);
  await kernel.setGuard('vif1.0', guardOf(policy(more)));
  expect(await passes(frame)).toBe(false);
});

describe('what may be allowed', () => {
  test.each<[Partial<GuardPolicy>, string]>([
    [{ allowDhcp: true }, udp(OWN, IP, 67, 68)],
    [{ allowDhcp: true }, udp6(OWN, LINK, 547, 546)],
    [{ allowDhcp: true }, udp(OWN, IP, 1067, 68)],
    [{ allowRouter: true }, icmp6(OWN, LINK, 134)],
    [{ allowTags: true }, tagged(udp(OWN, IP, 1, 2), 5)],
    [{ ip: undefined }, udp(OWN, '192.0.2.8', 1, 2)],
    [{ ip: [IP] }, udp6(OWN, '2001:db8:0:1:0:0:0:7', 1, 2)],
    [{ macs: [OWN, OTHER] as unknown as GuardPolicy['macs'] }, udp(OTHER, IP, 1, 2)],
  ])('%j', async (more, frame) => {
    await kernel.setGuard('vif1.0', guardOf(policy()));
    expect(await passes(frame)).toBe(false);
    await kernel.setGuard('vif1.0', guardOf(policy(more)));
    expect(await passes(frame)).toBe(true);
  });
});

describe('the table', () => {
  const chains = () =>
    [...nft('list', 'table', 'bridge', 'vifd').stdout.matchAll(/chain (guard_\w+)/g)].map(([, name]) => name);

  test('a guard may be there before its interface, and goes without a trace', async () => {
    await kernel.setGuard('vif9.0', guardOf(policy()));
    expect(await kernel.getGuard('vif9.0', 'now')).toBe(guardOf(policy()).chain);
    await kernel.setGuard('vif9.0', guardOf(policy({ allowDhcp: true })));
    expect(chains()).toEqual([guardOf(policy({ allowDhcp: true })).chain]);
    await kernel.setGuard('vif9.0', undefined);
    expect([chains(), await kernel.listGuarded()]).toEqual([[], []]);
    expect(nft('list', 'table', 'bridge', 'vifd').stdout).not.toContain('vif9.0');
  });

  test('two with the same rules share a chain, which stays for the other one', async () => {
    for (const name of ['vif1.0', 'vif9.0']) await kernel.setGuard(name, guardOf(policy()));
    await kernel.setGuard('vif9.0', undefined);
    expect(await passes(ethernet(OTHER, 0x88b5, 'ab'))).toBe(false);
  });

  test('a flush by another program is seen, and mended by the same call; rules of others stay', async () => {
    await kernel.setGuard('vif1.0', guardOf(policy()));
    nft('flush', 'ruleset');
    nft('add table bridge mine');
    expect(await kernel.getGuard('vif1.0', 'stale')).toBeDefined(); // as it was last
    expect(await kernel.getGuard('vif1.0', 'now')).toBeUndefined();
    await kernel.setGuard('vif1.0', guardOf(policy()));
    expect(await passes(ethernet(OTHER, 0x88b5, 'ab'))).toBe(false);
    expect(nft('list', 'tables').stdout).toContain('table bridge mine');
  });

  test('what another program did since it was read does not stop a change', async () => {
    await kernel.setGuard('vif1.0', guardOf(policy()));
    nft('delete', 'table', 'bridge', 'vifd');
    await kernel.setGuard('vif1.0', guardOf(policy({ allowDhcp: true })));
    expect(chains()).toEqual([guardOf(policy({ allowDhcp: true })).chain]);
  });

  test.each(['flush table bridge vifd', 'flush chain bridge vifd from_vifs'])(
    '%s is seen, and mended',
    async (command) => {
      await kernel.setGuard('vif1.0', guardOf(policy()));
      expect(nft(command).failed).toBe(false);
      expect(await kernel.getGuard('vif1.0', 'now')).toBeUndefined();
      await kernel.setGuard('vif1.0', guardOf(policy()));
      expect(await kernel.getGuard('vif1.0', 'now')).toBe(guardOf(policy()).chain);
      expect(await passes(ethernet(OTHER, 0x88b5, 'ab'))).toBe(false);
    },
  );

  test.each(['flush table bridge vifd', 'flush chain bridge vifd from_vifs'])(
    '%s unseen: the next guard is in force',
    async (command) => {
      await kernel.setGuard('vif7.0', guardOf(policy({ allowDhcp: true })));
      expect(nft(command).failed).toBe(false);
      await kernel.setGuard('vif1.0', guardOf(policy()));
      expect(await passes(ethernet(OTHER, 0x88b5, 'ab'))).toBe(false);
    },
  );

  test('flush table bridge vifd unseen: nor is a chain whole that an old guard has in common with the next', async () => {
    await kernel.setGuard('vif7.0', guardOf(policy()));
    expect(nft('flush table bridge vifd').failed).toBe(false);
    await kernel.setGuard('vif1.0', guardOf(policy()));
    expect(await passes(ethernet(OTHER, 0x88b5, 'ab'))).toBe(false);
  });

  test('what another program put into the map does no harm', async () => {
    await kernel.setGuard('vif1.0', guardOf(policy()));
    expect(nft('add element bridge vifd guards { "vif7.0" : drop }').failed).toBe(false);
    expect(await kernel.getGuard('vif1.0', 'now')).toBe(guardOf(policy()).chain);
    expect(await kernel.listGuarded()).toEqual(['vif1.0']);
  });

  test('a guard that is about to go is not taken for one that stays', async () => {
    await kernel.setGuard('vif1.0', guardOf(policy()));
    const going = kernel.setGuard('vif1.0', undefined);
    expect(await kernel.getGuard('vif1.0', 'stale')).toBeUndefined();
    await going;
  });

  test('one that nft refuses is told so, and those beside it are in force', async () => {
    const bad = { chain: 'guard_bad', rules: ['no such rule'] };
    const all = [
      kernel.setGuard('vif8.0', guardOf(policy())),
      kernel.setGuard('vif9.0', bad),
      kernel.setGuard('vif1.0', guardOf(policy())),
    ];
    const [, refused] = await Promise.allSettled(all);
    expect(refused).toMatchObject({
      status: 'rejected',
      reason: { code: 'ENFT', hint: expect.stringContaining('syntax error') },
    });
    expect((await kernel.listGuarded()).sort()).toEqual(['vif1.0', 'vif8.0']);
  });

  test('forty at once are two runs of nft', async () => {
    const events = spawn('nft', ['monitor'], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void events.kill());
    let text = '';
    events.stdout.setEncoding('utf8').on('data', (part) => {
      text += part;
    });
    const transactions = () => [...text.matchAll(/# new generation/g)].length;
    await eventually(() => {
      nft('add table bridge probe; delete table bridge probe');
      return transactions() > 0;
    });
    const before = transactions();
    const names = Array.from({ length: 40 }, (_, i) => `vif${i + 10}.0`);
    await Promise.all(names.map((name, i) => kernel.setGuard(name, guardOf(policy({ ip: [`192.0.2.${i}`] })))));
    await eventually(() => names.every((name) => text.includes(`"${name}"`)));
    expect(transactions() - before).toBeLessThanOrEqual(3); // a probe that was still on its way is one
    expect((await kernel.listGuarded()).length).toBe(40);
  });
});
