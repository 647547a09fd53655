/** The guard of a routed vif, by frames that a guest forges: which of them the kernel hands on to routing. */
import { execaSync } from 'execa';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Kernel } from '../../src/network/kernel.js';
import { type GuardPolicy, guardOf } from '../../src/vif/guard.js';
import { eventually } from '../agent/agent-process.js';
import { advertisement, icmp6, send, tagged, udp, udp6 } from './frames.js';
import { addVif, clearLinks, ip } from './namespace.js';

const OWN = '00:16:3e:00:00:01';
const OTHER = '00:16:3e:00:00:02';
const IP = '192.0.2.7';
const LINK = 'fe80:0:0:0:0:0:0:1';
const GLOBAL = '2001:db8:0:0:0:0:0:7';

const policy = (more: Partial<GuardPolicy> = {}): GuardPolicy => ({
  macs: [OWN as GuardPolicy['macs'][number]],
  ip: [IP, '2001:db8::7/128'],
  allowDhcp: false,
  allowRouter: false,
  allowTags: false,
  routed: true,
  ...more,
});

let kernel: Kernel;
const nft = (...args: string[]) => execaSync('nft', args).stdout;

/** `g1.0` is the guest's end. Behind the guard the packets are counted. */
beforeEach(() => {
  kernel = new Kernel();
  clearLinks();
  nft('flush', 'ruleset');
  addVif('vif1.0');
  for (const end of ['vif1.0', 'g1.0']) {
    ip('link', 'set', end, 'addrgenmode', 'none');
    ip('link', 'set', end, 'arp', 'off', 'up');
  }
  nft(
    'add table inet probe; add counter inet probe passed; add counter inet probe ended; ' +
      'add chain inet probe behind { type filter hook prerouting priority -299; }; ' +
      'add rule inet probe behind iifname "vif1.0" counter name passed; ' +
      'add rule inet probe behind iifname "vif1.0" udp dport 67 counter name ended',
  );
});
afterEach(() => kernel.close());

const counted = (name: string): number =>
  Number(/packets (\d+)/.exec(nft('list', 'counter', 'inet', 'probe', name))?.[1]);
/** Every guest may ask for an address. */
const LAST = udp(OWN, '0.0.0.0', 68, 67);

/** Whether the frame gets to routing: one that all may send follows it. */
async function passes(frame: string): Promise<boolean> {
  const [all, last] = [counted('passed'), counted('ended')];
  send('g1.0', frame, LAST);
  await eventually(() => counted('ended') > last);
  return counted('passed') - all === 2;
}

const FORGED: [string, string][] = [
  ['another sender', udp(OTHER, IP, 1, 2)],
  ['IPv4 of another', udp(OWN, '192.0.2.8', 1, 2)],
  ['IPv4 of another with a tag that is none', tagged(udp(OWN, '192.0.2.8', 1, 2), 0)],
  ['IPv6 of another', udp6(OWN, '2001:db8:0:0:0:0:0:8', 1, 2)],
  ['an answer of DHCP', udp(OWN, IP, 67, 68)],
  ['an answer of DHCP from another port', udp(OWN, IP, 1067, 68)],
  ['an answer of DHCPv6', udp6(OWN, LINK, 547, 546)],
  ['a router advertisement', icmp6(OWN, LINK, 134)],
  ['a redirect', icmp6(OWN, LINK, 137)],
];
const HONEST: [string, string][] = [
  ['its own IPv4', udp(OWN, IP, 1, 2)],
  ['its own IPv6', udp6(OWN, GLOBAL, 1, 2)],
  ['a question of DHCP', udp(OWN, '0.0.0.0', 68, 67)],
  ['a search for a double of its address', icmp6(OWN, '0:0:0:0:0:0:0:0', 135)],
  ['a neighbour advertisement from the link', advertisement(OWN, LINK, GLOBAL)],
];

describe('a routed guest that is held to its addresses', () => {
  test.each(FORGED)('cannot send %s, which passes without a guard', async (_, frame) => {
    expect(await passes(frame)).toBe(true);
    await kernel.setGuard('vif1.0', guardOf(policy()), 'inet');
    expect(await passes(frame)).toBe(false);
  });
  test.each(HONEST)('may send %s', async (_, frame) => {
    await kernel.setGuard('vif1.0', guardOf(policy()), 'inet');
    expect(await passes(frame)).toBe(true);
  });
  test('a guest with IPv4 only has no IPv6, and the other way round', async () => {
    await kernel.setGuard('vif1.0', guardOf(policy({ ip: [IP] })), 'inet');
    expect([await passes(udp6(OWN, GLOBAL, 1, 2)), await passes(udp(OWN, IP, 1, 2))]).toEqual([false, true]);
    await kernel.setGuard('vif1.0', guardOf(policy({ ip: ['2001:db8::7'] })), 'inet');
    expect([await passes(udp6(OWN, GLOBAL, 1, 2)), await passes(udp(OWN, IP, 1, 2))]).toEqual([true, false]);
  });
  test('what is allowed passes: DHCP, router advertisements, any address', async () => {
    const loose = policy({ allowDhcp: true, allowRouter: true, ip: undefined });
    await kernel.setGuard('vif1.0', guardOf(loose), 'inet');
    for (const frame of [udp(OWN, '192.0.2.8', 67, 68), icmp6(OWN, LINK, 134)]) expect(await passes(frame)).toBe(true);
    expect(await passes(udp(OTHER, IP, 1, 2))).toBe(false);
  });
  test('the three tables do not know each other', async () => {
    await kernel.setGuard('vif1.0', guardOf(policy()), 'inet');
    await kernel.setGuard('vif1.0', { chain: 'masquerade_1', rules: ['masquerade'] }, 'nat');
    expect(await kernel.getGuard('vif1.0', 'now')).toBeUndefined();
    expect(await kernel.getGuard('vif1.0', 'now', 'inet')).toBe(guardOf(policy()).chain);
    await kernel.setGuard('vif1.0', undefined, 'inet');
    expect([await kernel.listGuarded('inet'), await kernel.listGuarded('nat')]).toEqual([[], ['vif1.0']]);
    expect(nft('list', 'tables')).not.toContain('bridge');
  });
});
