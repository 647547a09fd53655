/** Settings of a bridge (linux/if_link.h, IFLA_BR_*), as RTM_NEWLINK carries them. Pure. */
import { type Attribute, type AttributeMap, attributeU32 } from './attributes.js';

export interface BridgeSettings {
  readonly stp?: boolean;
  /** Seconds. */
  readonly forwardDelay?: number;
  readonly multicastSnooping?: boolean;
  readonly vlanFiltering?: boolean;
}

const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_BR_FORWARD_DELAY = 1;
const IFLA_BR_STP_STATE = 5;
const IFLA_BR_VLAN_FILTERING = 7;
const IFLA_BR_MCAST_SNOOPING = 23;
/** The kernel's USER_HZ. */
const TICKS = 100;

/** What stands within IFLA_LINKINFO. */
export function encodeBridgeSettings(settings: BridgeSettings): Attribute[] {
  const { stp, forwardDelay, multicastSnooping, vlanFiltering } = settings;
  const data: Attribute[] = [
    ...(forwardDelay === undefined ? [] : [[IFLA_BR_FORWARD_DELAY, forwardDelay * TICKS] as const]),
    ...(stp === undefined ? [] : [[IFLA_BR_STP_STATE, stp ? 1 : 0] as const]),
    ...(vlanFiltering === undefined ? [] : [[IFLA_BR_VLAN_FILTERING, flag(vlanFiltering)] as const]),
    ...(multicastSnooping === undefined ? [] : [[IFLA_BR_MCAST_SNOOPING, flag(multicastSnooping)] as const]),
  ];
  return [
    [IFLA_INFO_KIND, 'bridge'],
    [IFLA_INFO_DATA, data],
  ];
}

const flag = (value: boolean): Uint8Array => Uint8Array.of(value ? 1 : 0);

/** What stands within IFLA_INFO_DATA of a bridge. */
export function parseBridgeSettings(data: AttributeMap): BridgeSettings {
  const stp = attributeU32(data, IFLA_BR_STP_STATE);
  const ticks = attributeU32(data, IFLA_BR_FORWARD_DELAY);
  const snooping = data.get(IFLA_BR_MCAST_SNOOPING)?.[0];
  return {
    ...(stp !== undefined && { stp: stp !== 0 }), // 2: a daemon in user space does it
    ...(ticks !== undefined && { forwardDelay: ticks / TICKS }),
    vlanFiltering: data.get(IFLA_BR_VLAN_FILTERING)?.[0] === 1,
    ...(snooping !== undefined && { multicastSnooping: snooping !== 0 }),
  };
}

/** What of `want` is not so. */
export function bridgeChange(want: BridgeSettings, seen: BridgeSettings | undefined): BridgeSettings {
  const asked = Object.entries(want).filter(([, value]) => value !== undefined);
  return Object.fromEntries(asked.filter(([name, value]) => seen?.[name as keyof BridgeSettings] !== value));
}
