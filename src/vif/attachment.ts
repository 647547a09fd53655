/** What can be wanted for a vif: a closed union by mode. Pure. */
import type { PortSettings } from '../network/bridge-port.js';
import type { PortVlans } from '../network/bridge-vlan.js';
import type { Offloads } from '../network/ethtool.js';
import type { Guard, TableName } from '../network/guard-table.js';
import type { OvsPort } from '../network/ovs-port.js';
import type { Prefix } from '../network/prefix.js';
import type { Ifname, MacAddress } from './backend.js';
import type { VifGuard } from './guard.js';
import type { Policy } from './rules.js';

/** What the interface itself shall be like, whatever it is connected to. */
export interface InterfaceWanted {
  /** The name that netback gives. */
  readonly kernelName: Ifname;
  /** The name it shall have: vifname, or netback's. */
  readonly ifname: Ifname;
  /** Bytes; undefined: as the place's that it is connected to. */
  readonly mtu: number | undefined;
  /** Packets. */
  readonly txqlen: number;
  readonly offloads: Offloads;
  /** Undefined: the guest may send what it likes. */
  readonly guard: VifGuard | undefined;
  /** Without it the vif is not connected. */
  readonly guardRequired: boolean;
  readonly address: string;
  /** `vif-5-0`: the device that must stand behind the interface. */
  readonly parentDev: string;
  /** What this was made of. For people. */
  readonly policy: Policy;
}

/** A vif as a port of a Linux bridge. */
export interface BridgeAttachment extends InterfaceWanted {
  readonly mode: 'bridge';
  /** Undefined: vif-bridge's default, the first bridge there is. */
  readonly bridge: Ifname | undefined;
  /** Undefined: what the bridge gives its ports. */
  readonly vlans: PortVlans | undefined;
  /** What is not named stays as it is. */
  readonly port: PortSettings;
}

/** That the guest is given its address by DHCP. */
export interface DhcpWanted {
  readonly mac: MacAddress;
  /** The DNS servers that it is told. */
  readonly dns: readonly string[];
}

/** A vif to which addresses are routed; `nat`: behind the addresses of this domain. */
export interface RoutedAttachment extends InterfaceWanted {
  readonly mode: 'routed' | 'nat';
  /** The guest's, in the order in which they were named. */
  readonly addresses: readonly Prefix[];
  /** The guest's gateways, which this domain has on the vif. Of a family that is not named: see findGateways. */
  readonly gateways: readonly string[];
  /** The way to the network: its address serves as gateway, and there this domain answers for the guest. */
  readonly gatewaydev: Ifname | undefined;
  /** What comes from the guest is looked up in this table instead of main's default route. */
  readonly sourceTable: number | undefined;
  /** Hides the guest's addresses; undefined where they are to be seen. */
  readonly masquerade: Guard | undefined;
  readonly dhcp: DhcpWanted | undefined;
}

/** How a script of the admin's is run. */
export interface ScriptCall {
  /** `script vif-mine`. */
  readonly name: string;
  readonly file: string;
  /** Behind `online` or `offline`. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/** A vif that a script of the admin's connects: but for what every vif has, what it does is left alone. */
export interface ScriptAttachment extends InterfaceWanted {
  readonly mode: 'script';
  readonly script: ScriptCall;
}

/** A vif as a port of Open vSwitch. */
export interface OpenvswitchAttachment extends InterfaceWanted {
  readonly mode: 'openvswitch';
  readonly port: OvsPort;
  /** Addresses that dom0 gave, and to which nothing holds the guest: its frames pass nftables by. */
  readonly unguarded: readonly string[];
}

export type Attachment = BridgeAttachment | RoutedAttachment | ScriptAttachment | OpenvswitchAttachment;

/** The interface that it is to be a port of, where one is named. */
export const bridgeOf = (want: Attachment | undefined): Ifname | undefined =>
  want?.mode === 'bridge' ? want.bridge : want?.mode === 'openvswitch' ? (want.port.bridge as Ifname) : undefined;

/** Also for what was seen of the place: the mode says it of both. */
export const isRouted = <T extends { readonly mode: Attachment['mode'] }>(
  one: T | undefined,
): one is Extract<T, { mode: 'routed' | 'nat' }> => one?.mode === 'routed' || one?.mode === 'nat';

/** Where the guard of a vif in this mode stands. */
export const guardTable = (want: Attachment): TableName => (isRouted(want) ? 'inet' : 'bridge');

/** For people: `bridge`, or `script vif-mine`. */
export const modeText = (want: Attachment): string => (want.mode === 'script' ? want.script.name : want.mode);

/** Or none for both. */
export const sameScript = (a: Attachment, b: Attachment): boolean =>
  (a.mode !== 'script' && b.mode !== 'script') || modeText(a) === modeText(b);
