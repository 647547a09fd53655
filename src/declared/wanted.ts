/** What [bridge.NAME] asks for, in the kernel's terms. Pure. */
import type { DeclaredBridge } from '../config/schema.js';
import type { BridgeSettings } from '../network/bridge-settings.js';
import type { PortVlans } from '../network/bridge-vlan.js';
import { type Prefix, parsePrefix } from '../network/prefix.js';
import { defaultRoute } from '../network/route-text.js';
import { parseVlans } from '../vif/vlan.js';
import type { RouteOn } from './observed.js';

export interface WantedBridge {
  readonly ifname: string;
  readonly ports: readonly string[];
  readonly addresses: readonly Prefix[];
  readonly gateways: readonly string[];
  readonly routes: readonly RouteOn[];
  readonly mtu: number | undefined;
  readonly settings: BridgeSettings;
  /** Of the ports. */
  readonly vlans: PortVlans | undefined;
  /** How long a gateway may be silent; 0: for ever. */
  readonly rollbackMs: number;
}

/** The kernel's own delay, in seconds, with which a port of a bridge with STP waits twice. */
const FORWARD_DELAY = 15;

export function wantedBridge(declared: DeclaredBridge): WantedBridge {
  const { name, ports, addresses, gateway, metric, mtu, vlan, rollback } = declared;
  const { stp, forwardDelay, multicastSnooping, vlanFiltering } = declared;
  const gateways = listOf(gateway);
  const silent = stp === true ? 2 * (forwardDelay ?? FORWARD_DELAY) : 0;
  const settings = { stp, forwardDelay, multicastSnooping, vlanFiltering };
  return {
    ifname: name,
    ports: listOf(ports),
    addresses: prefixes(addresses),
    gateways,
    routes: gateways.map((one) => defaultRoute(one, metric)),
    mtu,
    settings: Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)),
    vlans: vlan === undefined ? undefined : parseVlans(vlan),
    rollbackMs: rollback === 0 ? 0 : (rollback + silent) * 1000,
  };
}

/** What the schema takes as one or several. */
export const listOf = <T>(value: T | readonly T[] | undefined): readonly T[] =>
  value === undefined ? [] : ([value].flat() as T[]);

/** They have been checked. */
export const prefixes = (texts: string | readonly string[] | undefined): Prefix[] =>
  listOf(texts).flatMap((text) => parsePrefix(text) ?? []);
