/** Checks of this domain's network: bridges, what drops their packets, and who else lays hands on vifs. Pure. */

import type { Family } from '../network/prefix.js';
import type { Link } from '../network/rtnetlink.js';
import { plainWord } from '../text.js';
import { isRouted, type RoutedAttachment } from '../vif/attachment.js';
import type { Place } from '../vif/plan.js';
import { familiesOf } from '../vif/routed.js';
import { FORWARDING } from '../vif/routed-words.js';
import { isVifLink } from '../vif/seen.js';
import { type Check, error, type Judgement, ok, warning } from './finding.js';
import { type DroppingChain, inTrouble, type Machine } from './machine.js';
import { matchesVif, sectionsOf, valuesOf } from './unit-file.js';

export const NETWORK_CHECKS: readonly Check[] = [
  { code: 'netlink', judge: judgeNetlink },
  { code: 'ethtool', judge: judgeEthtool },
  { code: 'iproute2', judge: judgeIproute },
  { code: 'bridge', judge: judgeBridges },
  { code: 'uplink', judge: judgeUplinks },
  { code: 'vlan', judge: judgeVlans },
  { code: 'mtu', judge: judgeMtus },
  { code: 'br-netfilter', judge: judgeBridgeFilter },
  { code: 'forwarding', judge: judgeForwarding },
  { code: 'dhcp', judge: judgeDhcp },
  { code: 'networkmanager', judge: judgeNetworkManager },
  { code: 'networkd', judge: judgeNetworkd },
];

function judgeNetlink({ netlinkFault }: Machine): Judgement[] {
  if (netlinkFault === undefined) return [];
  return [error(`the kernel cannot be asked over netlink: ${netlinkFault}`, 'see the README for what vifd needs')];
}

function judgeEthtool({ ethtoolFault, netlinkFault, observes }: Machine): Judgement[] {
  if (netlinkFault !== undefined || observes) return [];
  if (ethtoolFault === undefined) return [ok('the kernel speaks ethtool over netlink')];
  return [error(ethtoolFault, 'use Linux 5.6 or later, or tx_checksum = "keep" in the configuration')];
}

function judgeIproute({ hasIp }: Machine): Judgement[] {
  if (hasIp) return [ok('iproute2 is here')];
  return [
    warning(
      'the program ip is missing, or not iproute2: vifd hears of changes by its periodic look only',
      'install iproute2',
    ),
  ];
}

interface Bridge {
  readonly link: Link;
  readonly ports: readonly Link[];
}

function bridgesOf({ links }: Machine): Bridge[] {
  return links
    .filter(({ kind }) => kind === 'bridge')
    .map((link) => ({ link, ports: links.filter(({ master }) => master === link.ifindex) }));
}

const namesOf = (links: readonly Link[]): string => links.map(({ ifname }) => plainWord(ifname)).join(', ');

function judgeBridges(machine: Machine): Judgement[] {
  if (machine.netlinkFault !== undefined) return [];
  const { vifs, observes } = machine;
  const bridges = bridgesOf(machine);
  if (bridges.length === 0 && vifs.some(({ want }) => want !== undefined && want.mode !== 'bridge')) return [];
  if (bridges.length === 0 && observes) return [];
  if (bridges.length === 0)
    return [
      warning(
        'there is no bridge here for vifs to join',
        'ip link add br_lan type bridge && ip link set br_lan up && ip link set NIC master br_lan',
      ),
    ];
  return bridges.map(({ link, ports }) => {
    const says = `${link.ifname} has ${ports.length === 0 ? 'no ports' : `the ports ${namesOf(ports)}`}`;
    if (link.up) return ok(says);
    const judge = ports.some(isVifLink) ? error : warning;
    return judge(`${says}, but is down: no packet passes`, `ip link set ${link.ifname} up`);
  });
}

/** Where others attach vifs one of them may well be the uplink: the firewall's, which owns the cards. */
function judgeUplinks(machine: Machine): Judgement[] {
  if (machine.observes) return [];
  return bridgesOf(machine)
    .filter(({ ports }) => ports.every(isVifLink))
    .map(({ link }) =>
      warning(
        `${link.ifname} has no uplink: its guests reach each other and this domain only`,
        `if they are to reach further: ip link set NIC master ${link.ifname}`,
      ),
    );
}

/** The kernel hands a tagged packet to the VLAN device before the bridge sees it; very old ones did the opposite. */
function judgeVlans({ links }: Machine): Judgement[] {
  return links
    .filter(({ kind }) => kind === 'vlan')
    .flatMap((vlan) => {
      const card = links.find(({ ifindex }) => ifindex === vlan.lower);
      const bridge = links.find(({ ifindex, kind }) => ifindex === card?.master && kind === 'bridge');
      if (card === undefined || bridge === undefined) return [];
      const [name, port, of] = [vlan, card, bridge].map(({ ifname }) => plainWord(ifname));
      return [
        warning(
          `${name} is a VLAN on ${port}, which is a port of ${of}: the packets of this VLAN do not reach the guests of ${of}`,
          `make the VLAN on the bridge: ip link add link ${of} name NAME type vlan id N, and move the addresses of ${name} there`,
        ),
      ];
    });
}

function judgeMtus(machine: Machine): Judgement[] {
  return bridgesOf(machine).flatMap(({ link, ports }) => {
    const mtus = [...new Set(ports.map(({ mtu }) => mtu))].sort((a, b) => a - b);
    if (mtus.length < 2) return [];
    const groups = mtus.map((mtu) => `${mtu} on ${namesOf(ports.filter((port) => port.mtu === mtu))}`);
    return [
      warning(
        `the ports of ${link.ifname} have different MTUs (${groups.join('; ')}): larger packets are lost between them`,
        "give all the same: ip link set NIC mtu N, and mtu=N in the guest's vif line",
      ),
    ];
  });
}

function judgeBridgeFilter({ bridgeFilter }: Machine): Judgement[] {
  const { iptables, ip6tables, dropping } = bridgeFilter;
  if (dropping === undefined && (iptables || ip6tables))
    return [
      warning(
        'br_netfilter hands bridged packets to iptables, whose FORWARD policy cannot be read',
        'run vifd doctor as root, with nft and iptables installed',
      ),
    ];
  const hit = (dropping ?? []).filter((chain) => concernsBridges(chain, bridgeFilter));
  if (hit.length === 0) return [ok('no policy was found that drops bridged packets')];
  const chains = hit
    .map(({ family, table, chain }) => [family, table, chain].map((word) => plainWord(word)).join(' '))
    .join(', ');
  return [
    warning(
      `policy DROP in ${chains} also meets bridged packets: guests' packets are lost unless a rule accepts them (Docker sets such a policy)`,
      'sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0, or accept them by a rule',
    ),
  ];
}

function concernsBridges({ family }: DroppingChain, { iptables, ip6tables }: Machine['bridgeFilter']): boolean {
  if (family === 'bridge') return true;
  if (family === 'ip') return iptables === true;
  if (family === 'ip6') return ip6tables === true;
  return family === 'inet' && (iptables === true || ip6tables === true);
}

/** Only where vifs need it: for a bridge this domain passes nothing on itself. */
function judgeForwarding({ vifs, forwards, observes }: Machine): Judgement[] {
  if (observes) return [];
  const routed = vifs.flatMap(({ want, place }) => (isRouted(want) ? [{ want, place }] : []));
  const needing = (family: Family) => routed.filter(({ want }) => familiesOf(want).includes(family));
  const passes = ({ place }: Routed, family: Family) => (isRouted(place) ? place.forwards : forwards)[family];
  const stuck = (['ipv4', 'ipv6'] as const).flatMap((family) => {
    const without = needing(family).filter((one) => !passes(one, family));
    const says = `this domain passes no ${family === 'ipv4' ? 'IPv4' : 'IPv6'} packets on`;
    return without.length === 0 ? [] : [error(`${says}, which ${namesFor(without)} needs`, FORWARDING[family])];
  });
  const found = [...stuck, ...(stuck.length === 0 ? judgeUplinkForwarding(needing('ipv4')) : [])];
  return routed.length > 0 && found.length === 0 ? [ok('this domain passes on what routed vifs send')] : found;
}

interface Routed {
  readonly want: RoutedAttachment;
  readonly place: Place | undefined;
}

const namesFor = (routed: readonly Routed[]): string => routed.map(({ want }) => plainWord(want.ifname)).join(', ');

/** IPv4 asks the interface that a packet came in by: answers come in by the uplink. That all are set to 1 is no help then. */
function judgeUplinkForwarding(routed: readonly Routed[]): Judgement[] {
  const uplinkOf = ({ place }: Routed) => (isRouted(place) ? place.uplink : undefined);
  const uplinks = new Map(routed.map((one) => [uplinkOf(one)?.ifname, uplinkOf(one)]));
  return [...uplinks].flatMap(([name = '', link]) => {
    if (link?.ipv4?.forwarding !== false) return [];
    const behind = routed.filter((one) => uplinkOf(one)?.ifname === name);
    return [
      error(
        `${plainWord(name)} passes no IPv4 packets on, so no answers reach ${namesFor(behind)}`,
        `sysctl -w net.ipv4.conf.${plainWord(name).replaceAll('.', '/')}.forwarding=1`,
      ),
    ];
  });
}

/** Only where a guest is to have it. */
function judgeDhcp({ vifs, hasDnsmasq, running, programs }: Machine): Judgement[] {
  const served = vifs.flatMap(({ want }) =>
    isRouted(want) && want.dhcp !== undefined ? [plainWord(want.ifname)] : [],
  );
  if (served.length === 0) return [];
  const nothing = `so the guests of ${served.join(', ')} get no address by DHCP`;
  if (!hasDnsmasq) return [warning(`dnsmasq is missing, ${nothing}`, 'install dnsmasq-base (Debian) or dnsmasq')];
  if (running.has('dnsmasq') || !programs.some(({ command }) => command === 'vifd run'))
    return [ok('dnsmasq is here for DHCP')];
  return [
    warning(
      `dnsmasq does not run, ${nothing}`,
      'the log of vifd run says why; under systemd it needs the drop-in vifd-dhcp.conf',
    ),
  ];
}

function judgeNetworkManager({ running, files }: Machine): Judgement[] {
  if (!running.has('NetworkManager')) return [];
  if (files.networkManager.some(({ text }) => leavesVifs(text))) return [ok('NetworkManager leaves vifs alone')];
  return [
    warning(
      'NetworkManager runs, and nothing tells it to leave vifs alone: it may detach them from their bridge',
      'in /etc/NetworkManager/conf.d/vif.conf: [keyfile] and unmanaged-devices=interface-name:vif*; nmcli general reload',
    ),
  ];
}

/** By a list of unmanaged devices, or by a section for such devices. */
function leavesVifs(text: string): boolean {
  return sectionsOf(text).some(({ name, entries }) => {
    if (name === 'keyfile') return valuesOf(entries, 'unmanaged-devices').some(coversVifs);
    return (
      name.startsWith('device') &&
      valuesOf(entries, 'match-device').some(coversVifs) &&
      valuesOf(entries, 'managed').some((value) => /^(0|no|false)$/i.test(value))
    );
  });
}

/** A device list of NetworkManager.conf(5). */
const coversVifs = (list: string): boolean =>
  list.split(/[,;]/).some((spec) => /^(\*|(interface-name:)?[=~]?\^?vif.*|driver:vif)$/.test(spec.trim()));

function judgeNetworkd({ running, files, xenstore }: Machine): Judgement[] {
  if (!running.has('systemd-network')) return []; // comm is clipped to 15 characters
  const first = files.networkd.find(({ text }) => matchesVif(text));
  if (first === undefined) return inTrouble(xenstore) ? [] : [ok('systemd-networkd has no file for vifs')];
  const links = sectionsOf(first.text).filter(({ name }) => name === 'Link');
  const unmanaged = links.flatMap(({ entries }) => valuesOf(entries, 'Unmanaged'));
  if (unmanaged.some((value) => /^(yes|true|on|1)$/i.test(value))) return [ok(`${first.path} keeps networkd off vifs`)];
  return [
    warning(
      `${first.path} makes systemd-networkd configure vifs: it may detach them from their bridge`,
      'in /etc/systemd/network/05-vif.network: [Match] Name=vif* and [Link] Unmanaged=yes; networkctl reload',
    ),
  ];
}
