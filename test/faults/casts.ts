/** Who takes part in a run: vifs of each mode, what they need, and what the admin's programs must have heard at its end. */
import { expect } from 'vitest';
import type { GuestVif } from '../../src/simulator/host.js';
import type { CrashWorld, Strike } from './crash-world.js';

export interface Cast {
  /** vifd.toml, of a world in this directory. */
  readonly config: (dir: string) => string;
  readonly hasSwitch: boolean;
  /** One of each mode. */
  readonly each: (domid: number) => GuestVif[];
  /** They come while vifd starts. */
  readonly early: (domid: number) => GuestVif[];
  /** Three: the first leaves while vifd starts, the others when it knows them. */
  readonly leaving: (domid: number) => GuestVif[];
  readonly drifting: (domid: number) => GuestVif[];
  /** What happens to those of guest 6. */
  readonly drift: (world: CrashWorld) => Promise<void>;
  /** A guest's own program, which asks for its address, and gets it. */
  readonly asks: (domid: number) => string | undefined;
  readonly expectCalls: (world: CrashWorld, strike: Strike) => Promise<void> | void;
  /** Of guests that have just been connected: what comes of it later would be blamed on the run. */
  readonly expectFirstCalls: (world: CrashWorld, domids: readonly number[]) => Promise<void> | void;
  /** When all that came has left; `wasStruck`: before that. */
  readonly expectLastCalls: (world: CrashWorld, wasStruck: boolean) => Promise<void> | void;
}

const PLAIN = { bridge: 'br0' };
const GUARDED = { bridge: 'br0', ip: '192.0.2.7' };
const routed = (domid: number) => ({ script: 'vif-route', ip: `198.51.100.${domid}` });
const SCRIPTED = { bridge: 'br0', script: '/etc/xen/scripts/vif-mine' };

/** What is done as vif-bridge and vif-route do it, and a script of the admin's. */
export const WITH_SCRIPT: Cast = {
  config: (dir) => `[script.vif-mine]\nfile = "${dir}/vif-mine"\n`,
  hasSwitch: false,
  each: (domid) => [PLAIN, GUARDED, routed(domid), SCRIPTED],
  early: (domid) => [GUARDED, routed(domid)],
  leaving: (domid) => [GUARDED, SCRIPTED, routed(domid)],
  drifting: () => [PLAIN],
  drift: (world) => world.ip('link set vif6.0 txqueuelen 32 nomaster\n'),
  asks: () => undefined,

  /** Online again after a kill, but never left so: `offline` is the last word to what leaves, and what stays never hears it. */
  expectCalls(world, { strike, at }) {
    expect(world.calls('vif5.3'), 'of a script whose vif was adopted').toEqual([]);
    expect(new Set(world.calls('vif9.3')), 'of a vif that came').toEqual(new Set(['online', 'online-ended']));
    expect(world.calls('vif7.1'), 'of a vif that left').not.toContain('online');
    // One that is killed has failed, and its failure to go offline is only logged, as libxl does.
    const isKilled = strike === 'child' && world.effects()[at - 1]?.includes('vif-mine offline');
    if (!isKilled) expect(world.calls('vif7.1').at(-1), 'of a vif that left').toBe('offline-ended');
  },
  expectFirstCalls: () => undefined,
  expectLastCalls: (world) => expect(world.calls('vif9.3').at(-1)).toBe('offline-ended'),
};

const renamed = (domid: number) => ({ bridge: 'br0', vifname: `wan${domid}`, ip: `192.0.2.${domid}` });
const NAT = { script: 'vif-nat' };
const SWITCHED = { bridge: 'ovs0.10:20', script: 'vif-openvswitch' };

const nameOf = (vif: string): string => `vif${vif.replace('/', '.')}`;

/** What is done by further programs: names, masquerading with DHCP, Open vSwitch, hooks. */
export const WITH_PROGRAMS: Cast = {
  config: (dir) => `[hooks]\ndirectory = "${dir}/hooks"\n[rule.nat]\nmatch.script = "vif-nat"\ndhcp = true\n`,
  hasSwitch: true,
  each: (domid) => [renamed(domid), NAT, SWITCHED],
  early: (domid) => [renamed(domid), NAT],
  leaving: (domid) => [SWITCHED, NAT, renamed(domid)],
  drifting: (domid) => [renamed(domid), NAT, SWITCHED],
  async drift(world) {
    await world.vsctl('set', 'Port', 'vif6.2', 'tag=11', 'trunks=[]', 'vlan_mode=[]');
    await world.run('nft', ['-f', '-'], 'delete element inet vifd_nat masqueraded { "vif6.1" }').catch(() => undefined);
    await world.ip(
      'link set wan6 txqueuelen 32 nomaster\nlink set vif6.1 txqueuelen 32\nlink set vif6.2 txqueuelen 32\n',
    );
  },
  asks: (domid) => `guest${domid}.1`,

  /** Hooks hear of each once, and again where vifd was ended before they were; one that is killed itself has heard. */
  expectCalls(world, { strike, at }) {
    const isHookKilled = strike === 'child' && world.effects()[at - 1]?.includes('/hooks/');
    const times = at === 0 ? [1] : isHookKilled ? [0, 1] : [1, 2];
    const expectEach = (vifs: readonly string[], event: string) => {
      const may = times.map((count) => Array(count).fill(event));
      for (const vif of vifs) expect(may, `of hooks: ${vif} ${event}`).toContainEqual(world.calls(nameOf(vif)));
    };
    for (const vif of ['5/0', '5/1', '5/2', '6/0', '6/1', '6/2'])
      expect(world.calls(nameOf(vif)), `of hooks: ${vif} runs`).toEqual([]);
    expectEach(['8/0', '8/1', '9/0', '9/1', '9/2'], 'connected');
    expectEach(['7/0', '7/1', '7/2'], 'left');
  },
  expectFirstCalls(world, domids) {
    for (const domid of domids)
      for (const devid of [0, 1, 2]) expect(world.calls(`vif${domid}.${devid}`).at(-1)).toBe('connected');
    // Else the next vifd, which gets the same numbers again, would take a new vif for an old one.
    expect(world.recorded()).toEqual(
      [5, 6, 7].flatMap((domid) => [0, 1, 2].map((devid) => nameOf(`${domid}/${devid}`))),
    );
  },
  expectLastCalls(world, wasStruck) {
    if (!wasStruck) return; // one whose hook was cut short may have left before it was run again
    for (const ifname of ['vif9.0', 'vif9.1', 'vif9.2']) expect(world.calls(ifname).at(-1)).toBe('left');
  },
};
