/** What vifs can be given beyond a port of a bridge: with real clients and their frames. */

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import {
  createClient,
  links,
  pingSequence,
  reaches,
  untilConnected,
  untilGone,
  untilPings,
  untilReaches,
  xl,
} from './guests.js';
import type { Lab } from './lab.js';

/** A bridge that filters VLANs, and behind its trunk port a network with 10.77.0.1 in VLAN 10 and 10.<vid>.0.1 in 20 and 30. */
const VLAN_NETWORK = `
ip link add br_v up type bridge stp_state 0 forward_delay 0 vlan_filtering 1
ip link add trunk up master br_v type veth peer name uplink
ip netns add lan
ip link set uplink netns lan
for vid in 10 20 30; do bridge vlan add dev trunk vid $vid; done
ip -n lan link set uplink up
for vid in 10 20 30; do ip -n lan link add link uplink name up$vid up type vlan id $vid; done
ip -n lan address add 10.77.0.1/24 dev up10
for vid in 20 30; do ip -n lan address add 10.$vid.0.1/24 dev up$vid; done`;

/** vifd has it as its configuration when this resolves. */
const configure = (lab: Lab, toml: string) =>
  lab.putFile('/etc/xen/vifd.toml', toml, 'nicdom').then(() => lab.mustNicdom('kill -HUP $(cat /run/lab-agent.pid)'));

const unconfigure = (lab: Lab) => lab.mustNicdom('rm /etc/xen/vifd.toml; kill -HUP $(cat /run/lab-agent.pid)');

/** Long enough for some of the client's pings, each of which waits a second for its answer. */
const SOME_PINGS_MS = 8_000;

/** The client of the other scenarios, 10.77.0.11 on br0, which has no route to anywhere else. */
async function alpha(lab: Lab): Promise<void> {
  if ((await lab.dom0('xl domid alpha')).code !== 0) await createClient(lab, { name: 'alpha', number: 11 });
  await untilPings(lab, 'alpha');
}

export function guardScenario(lab: () => Lab): void {
  test('guard and isolation: a forged address and an isolated neighbour are not reached, until they are allowed', async () => {
    const rule = (guard: string, isolated: boolean) =>
      `[rule.g]\nmatch.mac = ["00:16:3e:77:0b:*", "00:16:3e:77:45:*"]\nguard = "${guard}"\nisolated = ${isolated}\n`;
    const [forged, neighbour] = ['10.77.0.99>10.77.0.1', '10.77.0.69>10.77.0.11'];
    await configure(lab(), rule('auto', true));
    await alpha(lab());
    const words = 'backend=nicdom ip=10.77.0.69';
    const reach = [forged, neighbour];
    const domid = await createClient(lab(), {
      name: 'forger',
      number: 0x45,
      words,
      addresses: ['10.77.0.99/24'],
      reach,
    });
    await untilPings(lab(), 'forger');
    await sleep(SOME_PINGS_MS);
    expect([await reaches(lab(), 'forger', forged), await reaches(lab(), 'forger', neighbour)]).toEqual([false, false]);
    // The other way round: the next packets pass, so it was the guard, and the isolation.
    await configure(lab(), rule('auto', false));
    await untilReaches(lab(), 'forger', neighbour);
    await sleep(SOME_PINGS_MS);
    expect(await reaches(lab(), 'forger', forged)).toBe(false);
    expect(await lab().mustNicdom('nft list table bridge vifd')).toContain(`"vif${domid}.0" : jump`);
    await configure(lab(), rule('off', false));
    await untilReaches(lab(), 'forger', forged);
    await xl(lab(), 'destroy forger');
    await untilGone(lab(), domid, 0);
    await unconfigure(lab());
    await lab().agentComplaints(); // the changes
  }, 300_000);
}

export function vlanScenario(lab: () => Lab): void {
  const rule = (settings: string) => configure(lab(), `[rule.v]\nmatch.mac = "00:16:3e:77:33:*"\n${settings}\n`);
  const vlans = async (ifname: string) => {
    const [port] = JSON.parse(await lab().mustNicdom(`bridge -j vlan show dev ${ifname}`));
    return port.vlans;
  };

  test('VLANs: one untagged and two tagged through one vif; another VLAN, and no packet', async () => {
    await lab().mustNicdom(VLAN_NETWORK);
    await rule('vlan = "10p/20/30"');
    const domid = await createClient(lab(), { name: 'trunked', number: 0x33, bridge: 'br_v', vlans: [20, 30] });
    await untilConnected(lab(), domid, [0]);
    await untilPings(lab(), 'trunked');
    for (const vid of [20, 30])
      await lab().until(
        `VLAN ${vid}`,
        async () => (await lab().guestLog('trunked')).includes(`LAB vlan ${vid} ok`),
        60_000,
      );
    const ifname = `vif${domid}.0`;
    expect(await vlans(ifname)).toEqual([{ vlan: 10, flags: ['PVID', 'Egress Untagged'] }, { vlan: 20 }, { vlan: 30 }]);

    // Another VLAN on the running vif: the ping in VLAN 10 stops, and comes back with it.
    await rule('vlan = "20p/30"');
    const last = async () => (await pingSequence(lab(), 'trunked')).at(-1) ?? 0;
    let before = -1;
    await lab().until(
      'no packet in VLAN 10',
      async () => {
        const now = await last();
        const same = now === before;
        before = now;
        return same;
      },
      30_000,
    );
    // What dom0 writes counts less than a rule.
    await lab().must(`xenstore-write /local/domain/$(xl domid nicdom)/backend/vif/${domid}/0/vlan 10p`);
    expect(await vlans(ifname)).toEqual([{ vlan: 20, flags: ['PVID', 'Egress Untagged'] }, { vlan: 30 }]);
    await rule('');
    await lab().until('packets by the VLAN that dom0 named', async () => (await last()) > before, 30_000);
    expect(await vlans(ifname)).toEqual([{ vlan: 10, flags: ['PVID', 'Egress Untagged'] }]);

    await lab().mustNicdom(`bridge vlan add dev ${ifname} vid 99`);
    await lab().until('what drifted is repaired', async () => (await vlans(ifname)).length === 1, 30_000);
    await lab().agentComplaints(); // the repairs
    await xl(lab(), 'destroy trunked');
    await untilGone(lab(), domid, 0);
    await lab().mustNicdom('ip netns del lan; ip link del br_v');
    await unconfigure(lab());
  }, 240_000);
}

export function routedScenario(lab: () => Lab): void {
  test('routed: three addresses of both families through one vif; NAT: out to the bridge under this domain’s address', async () => {
    await alpha(lab());
    await lab().mustNicdom(
      'sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; ip address add fd77::1/64 dev br0 nodad',
    );
    await configure(lab(), '[rule.r]\nmatch.script = "vif-route"\ngateway = "10.98.0.1"\n');
    const routed = await createClient(lab(), {
      name: 'routed',
      number: 0x51,
      words: 'backend=nicdom script=vif-route ip=10.98.0.7+10.98.1.7+fd98::7',
      address: '10.98.0.7/32',
      addresses: ['10.98.1.7/32', 'fd98::7/128'],
      routes: ['default@10.98.0.1', 'default@fe80::1'],
      reach: ['10.98.1.7>10.77.0.1', 'fd98::7>fd77::1'],
    });
    const hidden = await createClient(lab(), {
      name: 'hidden',
      number: 0x52,
      words: 'backend=nicdom script=vif-nat ip=10.97.0.7',
      address: '10.97.0.7/32',
      routes: ['default@10.97.0.134'],
      reach: ['10.97.0.7>10.77.0.11', '10.97.0.7>10.98.0.7'],
    });
    for (const name of ['routed', 'hidden']) await untilPings(lab(), name);
    for (const pair of ['10.98.1.7>10.77.0.1', 'fd98::7>fd77::1']) await untilReaches(lab(), 'routed', pair);
    for (const pair of ['10.97.0.7>10.77.0.11', '10.97.0.7>10.98.0.7']) await untilReaches(lab(), 'hidden', pair);
    expect((await links(lab())).get(`vif${routed}.0`)).not.toHaveProperty('master');

    // Adopted without a change, and nothing is left of them.
    const kernel = () => lab().mustNicdom('ip -4 route; ip -6 route; ip rule; nft list ruleset');
    const before = await kernel();
    expect(before).toContain(`vif${hidden}.0`);
    await lab().killAgent();
    await lab().startAgent();
    expect(await kernel()).toBe(before);
    for (const [name, domid] of Object.entries({ routed, hidden })) {
      await xl(lab(), `destroy ${name}`);
      await untilGone(lab(), domid, 0);
    }
    await lab().until('nothing is left', async () => !/vif\d|10\.9[78]\.|fd98/.test(await kernel()), 30_000);
    await unconfigure(lab());
  }, 300_000);
}

const OBSERVE = `
[agent]
mode = "observe"
[bridge.xenbr0]
stp = false
forward_delay = 0
[bind.firewall]
when.bridge = "xenbr0"
addresses = "10.79.0.2/24"
gateway = "10.79.0.1"
probe = "10.79.0.1"
probe_every = 1
probe_tries = 600
run = [["/bin/sh", "-c", "ip route show default >/run/plugged"]]
gone.run = [["/bin/rm", "/run/plugged"]]
`;

/** The first of the five systems of README: dom0's only way out is a guest. */
export function observeScenario(lab: () => Lab): void {
  test('a binding in dom0: address and default route with the vif of the firewall, storage once that answers', async () => {
    await lab().must('modprobe -a xen-netback bridge');
    await lab().putFile('/etc/xen/observe.toml', OBSERVE);
    await lab().must(
      'setsid vifd run -c /etc/xen/observe.toml --log-format json >/run/observe.log 2>&1 </dev/null & echo $! >/run/observe.pid',
    );
    const log = async () => (await lab().dom0('cat /run/observe.log')).out;
    await lab().until('ready', async () => (await log()).includes('ready, observing'), 30_000);
    const plugged = async () => (await lab().dom0('cat /run/plugged 2>/dev/null')).out;
    const dom0 = () => lab().must('ip -4 address show dev xenbr0; ip route show default');
    expect(await dom0()).not.toContain('10.79.0');
    await createClient(lab(), {
      name: 'firewall',
      number: 0x61,
      bridge: 'xenbr0',
      words: 'script=vif-vifd',
      address: '10.79.0.1/24',
      reach: ['10.79.0.1>10.79.0.2'],
    });
    await untilReaches(lab(), 'firewall', '10.79.0.1>10.79.0.2', 90_000);
    await lab().until('what is to run once the gateway answers', async () => (await plugged()) !== '', 60_000);
    expect(await plugged()).toContain('default via 10.79.0.1 dev xenbr0');
    await lab().must('ip address del 10.79.0.2/24 dev xenbr0');
    await lab().until(
      'what drifted is repaired',
      async () => (await dom0()).includes('10.79.0.2/24') && (await dom0()).includes('default'),
      40_000,
    );
    await xl(lab(), 'destroy firewall');
    await lab().until('nothing of it is left', async () => !(await dom0()).includes('10.79'), 30_000);
    await lab().until('what is to run then', async () => (await plugged()) === '', 30_000);
    expect((await lab().dom0('xl domid firewall')).code).not.toBe(0);
    await lab().must('kill $(cat /run/observe.pid); sleep 1; ip link del xenbr0');
    expect((await log()).split('\n').filter((line) => line.includes('"level":"error"'))).toEqual([]);
  }, 300_000);
}

const SCRIPT = `#!/bin/sh
[ "$1" = offline ] || ip link set "$vif" master br0 up || exit 1
echo "$1 $vif $XENBUS_PATH" >>/run/mine`;

const HOOK = '#!/bin/sh\necho "$VIFD_EVENT $VIFD_VIF $VIFD_MAC" >>/run/told';

/** In /root, which only root may write. */
async function putProgram(lab: Lab, file: string, text: string): Promise<void> {
  await lab.putFile(file, text, 'nicdom');
  await lab.mustNicdom(`chmod 755 ${file}`);
}

export function userScriptScenario(lab: () => Lab): void {
  test('a script of the admin’s connects a vif, once and not again after a kill; hooks are told; both hear of the end', async () => {
    await lab().mustNicdom('mkdir -p /root/hooks');
    await putProgram(lab(), '/root/vif-mine', SCRIPT);
    await putProgram(lab(), '/root/hooks/10-told', HOOK);
    await configure(lab(), '[script.vif-mine]\nfile = "/root/vif-mine"\n[hooks]\ndirectory = "/root/hooks"\n');
    const domid = await createClient(lab(), {
      name: 'scripted',
      number: 0x57,
      words: 'backend=nicdom script=vif-mine',
    });
    await untilPings(lab(), 'scripted');
    await lab().killAgent();
    await lab().startAgent();
    const calls = () => lab().mustNicdom('cat /run/mine');
    const vif = `vif${domid}.0`;
    expect(await calls()).toBe(`online ${vif} backend/vif/${domid}/0`);
    expect((await links(lab())).get(vif)).toMatchObject({ master: 'br0', txqlen: 1000 });
    expect(await xl(lab(), 'network-detach scripted 0')).toBeLessThan(10_000);
    await untilGone(lab(), domid, 0);
    expect(await calls()).toBe(`online ${vif} backend/vif/${domid}/0\noffline ${vif} backend/vif/${domid}/0`);
    const told = async () => (await lab().nicdom('cat /run/told')).out.trim().split('\n');
    const mac = '00:16:3e:77:57:00';
    await lab().until('both hooks', async () => (await told()).length === 2, 10_000);
    expect(await told()).toEqual([`connected ${vif} ${mac}`, `left ${vif} ${mac}`]);
    await xl(lab(), 'destroy scripted');
    await unconfigure(lab());
    await lab().agentComplaints();
  }, 240_000);
}
