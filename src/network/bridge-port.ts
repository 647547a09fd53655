/** Settings of a bridge port (linux/if_link.h, IFLA_BRPORT_*), as RTM_NEWLINK carries them. Pure. */
import { type Attribute, type AttributeMap, attributeString, attributeU16, parseAttributes } from './attributes.js';

/** As `bridge link` names them. */
export interface PortSettings {
  readonly isolated?: boolean;
  readonly hairpin?: boolean;
  readonly learning?: boolean;
  readonly flood?: boolean;
  readonly mcastFlood?: boolean;
  readonly bcastFlood?: boolean;
  readonly mcastToUnicast?: boolean;
  /** 0 never, 1 by itself, 2 always. */
  readonly mcastRouter?: number;
  /** 0 to 63. */
  readonly priority?: number;
}

const IFLA_INFO_SLAVE_KIND = 4;
const IFLA_INFO_SLAVE_DATA = 5;
const IFLA_BRPORT_PRIORITY = 2;

const IFLA_BRPORT_MULTICAST_ROUTER = 25;

/** Each a u8. */
const FLAGS = [
  ['hairpin', 4], // IFLA_BRPORT_MODE
  ['learning', 8], // IFLA_BRPORT_LEARNING
  ['flood', 9], // IFLA_BRPORT_UNICAST_FLOOD
  ['mcastFlood', 27], // IFLA_BRPORT_MCAST_FLOOD
  ['mcastToUnicast', 28], // IFLA_BRPORT_MCAST_TO_UCAST
  ['bcastFlood', 30], // IFLA_BRPORT_BCAST_FLOOD
  ['isolated', 33], // IFLA_BRPORT_ISOLATED
] as const;

/** What stands within IFLA_LINKINFO. */
export function encodePortSettings(port: PortSettings): Attribute[] {
  const data: Attribute[] = FLAGS.flatMap(([name, type]) => {
    const value = port[name];
    return value === undefined ? [] : [[type, Uint8Array.of(value ? 1 : 0)] as const];
  });
  if (port.mcastRouter !== undefined) data.push([IFLA_BRPORT_MULTICAST_ROUTER, Uint8Array.of(port.mcastRouter)]);
  if (port.priority !== undefined)
    data.push([IFLA_BRPORT_PRIORITY, new Uint8Array(new Uint16Array([port.priority]).buffer)]);
  return [
    [IFLA_INFO_SLAVE_KIND, 'bridge'],
    [IFLA_INFO_SLAVE_DATA, data],
  ];
}

/** Undefined when the link is no port of a bridge. */
export function parsePortSettings(linkInfo: AttributeMap): PortSettings | undefined {
  const data = linkInfo.get(IFLA_INFO_SLAVE_DATA);
  if (data === undefined || attributeString(linkInfo, IFLA_INFO_SLAVE_KIND) !== 'bridge') return undefined;
  const attributes = parseAttributes(data);
  const flags = FLAGS.flatMap(([name, type]) => {
    const value = attributes.get(type)?.[0];
    return value === undefined ? [] : [[name, value !== 0] as const];
  });
  const mcastRouter = attributes.get(IFLA_BRPORT_MULTICAST_ROUTER)?.[0];
  const priority = attributeU16(attributes, IFLA_BRPORT_PRIORITY);
  return {
    ...Object.fromEntries(flags),
    ...(mcastRouter !== undefined && { mcastRouter }),
    ...(priority !== undefined && { priority }),
  };
}

/** `isolated=true priority=7`, for people. */
export const describePort = (port: PortSettings): string =>
  Object.entries(port)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');

/** What of `want` is not so. */
export function portChange(want: PortSettings, seen: PortSettings | undefined): PortSettings {
  const differs = ([name, value]: [string, unknown]) => seen?.[name as keyof PortSettings] !== value;
  return Object.fromEntries(Object.entries(want).filter(differs));
}
