/** What is wanted for a vif: what dom0 wrote, completed by the configuration. Pure. */
import type { Config, VifSettings } from '../config/schema.js';
import { AttachError, NodeError } from '../errors.js';
import type { PortSettings } from '../network/bridge-port.js';
import type { Offloads } from '../network/ethtool.js';
import { formatPrefix } from '../network/prefix.js';
import type { Attachment, InterfaceWanted } from './attachment.js';
import { type Ifname, kernelName, type MacAddress, parseIfname, type VifBackend } from './backend.js';
import { checkGuardedName, guardOf, type VifGuard } from './guard.js';
import { chooseMode } from './mode.js';
import { checkOvsName, ovsPort } from './openvswitch.js';
import { routedWanted } from './routed.js';
import { type Policy, resolvePolicy } from './rules.js';
import { scriptCall } from './script-call.js';
import { parseVlans } from './vlan.js';

/** The address of every vif's host end (xenvif_alloc): the highest there is, so that a bridge never takes it as its own. */
const BACKEND_MAC = 'fe:ff:ff:ff:ff:ff';

/** Throws NodeError for what dom0 wrote and the configuration cannot go with, AttachError for what vifd cannot do. */
export function resolveAttachment(backend: VifBackend, config: Config): Attachment {
  const policy = resolvePolicy(backend, config);
  const { settings } = policy;
  const mode = chooseMode(backend, policy, config);
  switch (mode) {
    case 'bridge':
      return {
        mode,
        ...interfaceWanted(backend, policy),
        bridge: linuxBridge(settings.bridge),
        vlans: settings.vlan === undefined ? undefined : parseVlans(settings.vlan),
        port: portSettings(settings),
      };
    case 'routed':
    case 'nat': {
      const routed = routedWanted(backend, mode, settings);
      if (routed.masquerade !== undefined) checkGuardedName(backend.vifname ?? kernelName(backend));
      return { ...interfaceWanted(backend, policy, routed.addresses.map(formatPrefix)), ...routed };
    }
    case 'script':
      return { mode, ...interfaceWanted(backend, policy), script: scriptCall(backend, config) };
    case 'openvswitch':
      return openvswitchWanted(backend, policy);
    default:
      return mode satisfies never;
  }
}

/** Of Open vSwitch's frames nftables sees none. */
function openvswitchWanted(backend: VifBackend, policy: Policy): Attachment {
  const { guard } = policy.settings;
  if (guard === 'mac' || guard === 'ip')
    throw new AttachError(
      'ENOGUARD',
      'the vif cannot be guarded: it is a port of Open vSwitch, whose frames pass nftables by',
      'set guard = "off" for it, and let flows of Open vSwitch do it',
    );
  const settings = { ...policy.settings, guard: 'off' as const };
  const wanted = interfaceWanted(backend, { ...policy, settings });
  checkOvsName(wanted.ifname);
  const unguarded = guard === 'auto' ? backend.ip : [];
  return { mode: 'openvswitch', ...wanted, policy, port: ovsPort(backend, settings), unguarded };
}

/** Throws AttachError for a name with VLANs, as only Open vSwitch takes. */
function linuxBridge(name: string | undefined): Ifname | undefined {
  const bridge = name === undefined ? undefined : parseIfname(name);
  if (name === undefined || bridge !== undefined) return bridge;
  throw new AttachError(
    'ENOTBRIDGE',
    `"${name}" is a name for Open vSwitch, and no Linux bridge's`,
    'write script=vif-openvswitch into the guest\'s vif line, or give it a rule with mode = "openvswitch"',
  );
}

/** `routed`: what is routed to the vif, which is in no bridge then. */
function interfaceWanted(backend: VifBackend, policy: Policy, routed?: readonly string[]): InterfaceWanted {
  const name = kernelName(backend);
  const { settings } = policy;
  return {
    kernelName: name,
    ifname: backend.vifname ?? name,
    mtu: settings.mtu,
    txqlen: settings.qlen,
    offloads: offloads(settings),
    guard: guardFor(backend, settings, routed),
    guardRequired: settings.guard !== 'auto',
    address: BACKEND_MAC,
    parentDev: `vif-${backend.key.domid}-${backend.key.devid}`,
    policy,
  };
}

/** Throws NodeError when it is asked for and cannot be. */
function guardFor(backend: VifBackend, settings: VifSettings, routed?: readonly string[]): VifGuard | undefined {
  const { guard, guardMacs = [], guardIp = routed ?? settings.ip ?? [], vlan } = settings;
  const ip = typeof guardIp === 'string' ? [guardIp] : guardIp;
  const mode = guard === 'auto' ? (ip.length > 0 ? 'ip' : 'off') : guard;
  if (mode === 'off') return undefined;
  if (mode === 'ip' && ip.length === 0)
    throw backend.ipFault ?? new NodeError('ip', undefined, 'the addresses to which guard = "ip" holds the guest');
  if (backend.mac === undefined) throw new NodeError('mac', undefined, 'a MAC address, since the vif is guarded');
  checkGuardedName(backend.vifname ?? kernelName(backend));
  return guardOf({
    macs: [backend.mac, ...[guardMacs].flat().map((mac) => mac.toLowerCase() as MacAddress)],
    ip: mode === 'ip' ? ip : undefined,
    allowDhcp: settings.allowDhcp,
    allowRouter: settings.allowRouter,
    allowTags: vlan !== undefined,
    routed: routed !== undefined,
  });
}

function offloads({ txChecksum, rxChecksum, tso, gso, sg, gro }: VifSettings): Offloads {
  const all = Object.entries({ txChecksum, rxChecksum, tso, gso, sg, gro });
  return Object.fromEntries(all.filter(([, word]) => word !== 'keep').map(([name, word]) => [name, word === 'on']));
}

function portSettings(settings: VifSettings): PortSettings {
  const { isolated, hairpin, learning, flood, bcastFlood, mcastFlood, mcastToUnicast, mcastRouter, priority } =
    settings;
  const all = { isolated, hairpin, learning, flood, bcastFlood, mcastFlood, mcastToUnicast, mcastRouter, priority };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** `ethN` for `xenbrN`: xend renamed cards so, and vif-bridge still accepts it where there is no such bridge. */
export function oldBridgeName(bridge: Ifname): string | undefined {
  const number = /^xenbr([0-9]+)$/.exec(bridge)?.[1];
  return number === undefined ? undefined : `eth${number}`;
}

/** Whether an interface of this name could be the bridge that is wanted; undefined: any. */
export function mayServe(bridge: Ifname | undefined, ifname: string): boolean {
  return bridge === undefined || bridge === ifname || oldBridgeName(bridge) === ifname;
}
