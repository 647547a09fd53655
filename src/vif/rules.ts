/**
 * Which settings count for a vif. From the weakest: the defaults; [vif]; what dom0 wrote; the rules that match, in their
 * order. Pure.
 */
import { type Config, VIF_DEFAULTS, type VifMatch, type VifSettings } from '../config/schema.js';
import type { VifBackend } from './backend.js';
import { parseAddressPattern, parsePattern } from './pattern.js';

export interface Policy {
  readonly settings: VifSettings;
  /** Who gave a value that is not the default: `[vif]`, `dom0`, `[rule.firewall]`. By the setting's name in the code. */
  readonly origins: ReadonlyMap<string, string>;
}

export const PROFILES: Record<NonNullable<VifSettings['profile']>, Partial<VifSettings>> = {
  pf: { txChecksum: 'off' },
  speed: { txChecksum: 'on' },
};

/** A layer without what it does not say. */
type Layer = Readonly<Record<string, unknown>>;

export function resolvePolicy(backend: VifBackend, { vif, rules }: Config): Policy {
  const layers: [origin: string, settings: Layer][] = [
    ['[vif]', vif],
    ['dom0', saidByDom0(backend)],
    ...rules.filter((rule) => matches(rule, backend)).map((rule): [string, Layer] => [`[rule.${rule.name}]`, rule]),
  ];
  const settings: Record<string, unknown> = { ...VIF_DEFAULTS };
  const origins = new Map<string, string>();
  for (const [origin, layer] of layers) {
    const { profile } = layer as Partial<VifSettings>;
    for (const [name, value] of Object.entries({ ...(profile && PROFILES[profile]), ...layer })) {
      if (!(name in VIF_DEFAULTS)) continue; // what a rule matches
      settings[name] = value;
      origins.set(name, origin);
    }
  }
  return { settings: settings as unknown as VifSettings, origins };
}

/** The names `vif-bridge_qlen` and `vif-bridge_TxOff` in a guest's configuration mean what they say. */
function saidByDom0(backend: VifBackend): Layer {
  const script = scriptName(backend);
  return {
    ...(backend.bridge !== undefined && { bridge: backend.bridge }),
    ...(backend.mtu !== undefined && { mtu: backend.mtu }),
    ...(backend.vlan !== undefined && { vlan: backend.vlan }),
    ...(backend.ip.length > 0 && { ip: backend.ip }),
    ...(backend.gatewaydev !== undefined && { gatewaydev: backend.gatewaydev }),
    ...(script === 'vif-bridge_qlen' && { qlen: 1000 }),
    ...(script === 'vif-bridge_TxOff' && { txChecksum: 'off' }),
  };
}

export const scriptName = ({ script }: VifBackend): string => script.slice(script.lastIndexOf('/') + 1);

export function matches(rule: VifMatch, backend: VifBackend): boolean {
  const { key, ip } = backend;
  return (
    some(rule.matchDomid, (domid) => domid === key.domid) &&
    some(rule.matchDevid, (devid) => devid === key.devid) &&
    some(rule.matchType, (type) => type === backend.type) &&
    some(rule.matchBridge, like(backend.bridge)) &&
    some(rule.matchMac, like(backend.mac)) &&
    some(rule.matchVifname, like(backend.vifname)) &&
    some(rule.matchScript, like(scriptName(backend))) &&
    some(rule.matchIp, (pattern) => ip.some(parseAddressPattern(pattern) ?? (() => false)))
  );
}

/** What a rule does not name holds for every vif. */
function some<T>(wanted: T | readonly T[] | undefined, holds: (one: T) => boolean): boolean {
  if (wanted === undefined) return true;
  return Array.isArray(wanted) ? wanted.some(holds) : holds(wanted as T);
}

const like =
  (text: string | undefined) =>
  (pattern: string): boolean =>
    text !== undefined && (parsePattern(pattern)?.(text) ?? false);
