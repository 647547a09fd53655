/** What vifs can be given beyond a port of a bridge: with real clients and their frames. */
import { expect, test } from 'vitest';
import { createClient, pingSequence, untilConnected, untilGone, untilPings, xl } from './guests.js';
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

export function vlanScenario(lab: () => Lab): void {
  const configure = (rule: string) =>
    lab().mustNicdom(
      `mkdir -p /etc/xen; printf '[rule.v]\\nmatch.mac = "00:16:3e:77:33:*"\\n${rule}\\n' >/etc/xen/vifd.toml; kill -HUP $(cat /run/lab-agent.pid)`,
    );
  const vlans = async (ifname: string) => {
    const [port] = JSON.parse(await lab().mustNicdom(`bridge -j vlan show dev ${ifname}`));
    return port.vlans;
  };

  test('VLANs: one untagged and two tagged through one vif; another VLAN, and no packet', async () => {
    await lab().mustNicdom(VLAN_NETWORK);
    await configure('vlan = "10p/20/30"');
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
    await configure('vlan = "20p/30"');
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
    await configure('');
    await lab().until('packets by the VLAN that dom0 named', async () => (await last()) > before, 30_000);
    expect(await vlans(ifname)).toEqual([{ vlan: 10, flags: ['PVID', 'Egress Untagged'] }]);

    await lab().mustNicdom(`bridge vlan add dev ${ifname} vid 99`);
    await lab().until('what drifted is repaired', async () => (await vlans(ifname)).length === 1, 30_000);
    await lab().agentComplaints(); // the repairs
    await xl(lab(), 'destroy trunked');
    await untilGone(lab(), domid, 0);
    await lab().mustNicdom(
      'ip netns del lan; ip link del br_v; rm /etc/xen/vifd.toml; kill -HUP $(cat /run/lab-agent.pid)',
    );
  }, 240_000);
}
