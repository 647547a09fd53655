/** What no value is at fault for by itself: settings that cannot both be meant, or without which another does nothing. Pure. */
import { PROFILES } from '../vif/rules.js';
import { type Binding, type DeclaredBridge, type Rule, vifMatch, type WholeConfig } from './schema.js';

export interface Contradiction {
  readonly table: string;
  readonly name: string | undefined;
  /** The setting that is named, `when.bridge`; undefined: the table itself. */
  readonly setting: string | undefined;
  /** Of a table; a setting has the value that it was given. */
  readonly value?: string;
  readonly expected: string;
}

type Told = Omit<Contradiction, 'table' | 'name'>;

export function contradictions({ vif, rules, bridges, bindings }: WholeConfig): Contradiction[] {
  const of = (table: string, name: string | undefined, told: readonly Told[]) =>
    told.map((one) => ({ table, name, ...one }));
  return [
    ...(rules.some(({ mode }) => mode !== undefined) ? [] : of('vif', undefined, ofVifs(vif))), // meant for those of a rule
    ...of('vif', undefined, ofOffloads(vif, rules)),
    ...rules.flatMap((rule) => of('rule', rule.name, [...ofVifs(rule), ...ofOffloads(rule, [vif, ...rules])])),
    ...bridges.flatMap((bridge, i) => of('bridge', bridge.name, ofBridge(bridge, bridges.slice(0, i)))),
    ...bindings.flatMap((binding) => of('bind', binding.name, ofBinding(binding))),
  ];
}

/** Within one table only: another may refine it. */
function ofVifs({ mode, guard, dhcp }: Partial<Rule>): Told[] {
  return told({
    guard:
      mode === 'openvswitch' &&
      (guard === 'mac' || guard === 'ip') &&
      'none or "off" where mode is "openvswitch": its frames pass nftables by, flows of Open vSwitch could do it',
    dhcp: dhcp && mode !== undefined && mode !== 'routed' && mode !== 'nat' && 'mode = "routed" or "nat" beside it',
  });
}

/** Another table may leave the checksums on, for the same vif; if none does, the default has turned them off. */
function ofOffloads(table: Partial<Rule>, others: readonly Partial<Rule>[]): Told[] {
  const left = others.some((other) => (checksums(other) ?? 'off') !== 'off');
  const off = (checksums(table) ?? (left ? 'on' : 'off')) === 'off';
  return told({
    tso: table.tso === 'on' && off && 'tx_checksum = "on" beside it: the kernel turns TSO off where checksums are off',
  });
}

const checksums = ({ txChecksum, profile }: Partial<Rule>) => txChecksum ?? (profile && PROFILES[profile].txChecksum);

function ofBridge(bridge: DeclaredBridge, before: readonly DeclaredBridge[]): Told[] {
  const { ports = [], stp, forwardDelay, vlan, vlanFiltering, metric, gateway } = bridge;
  const taken = before.find((other) => [other.ports ?? []].flat().some((port) => [ports].flat().includes(port)));
  return told({
    ports: taken && `cards of which none is a port of [bridge.${taken.name}] as well`,
    forward_delay: stp && forwardDelay !== undefined && forwardDelay < 2 && '2 or more with stp = true',
    vlan: vlan !== undefined && vlanFiltering === false && 'vlan_filtering = true beside it',
    metric: metric !== undefined && gateway === undefined && 'a gateway beside it',
  });
}

function ofBinding(binding: Binding): Told[] {
  const { whenInterface, whenBridge, addresses, routes, gateway, metric } = binding;
  const { forwarding, masquerade, probe, run, units, goneRun } = binding;
  const aims = [whenInterface, whenBridge, vifMatch(binding)].filter((one) => one !== undefined);
  const gives = [addresses, routes, gateway, probe, run, units, goneRun].some((one) => one !== undefined);
  const table = (value: string, expected: string): Told => ({ setting: undefined, value, expected });
  return [
    ...(aims.length === 1
      ? []
      : [
          table(
            `a table with ${aims.length === 0 ? 'none' : 'several'} of them`,
            'when.interface, when.bridge or when.vif',
          ),
        ]),
    ...(gives || forwarding || masquerade
      ? []
      : [
          table(
            'a table that gives nothing',
            'addresses, routes, gateway, forwarding, masquerade, probe, run, units or gone.run in it',
          ),
        ]),
    ...told({
      metric: metric !== undefined && gateway === undefined && 'a gateway beside it',
    }),
  ];
}

/** Those of the settings that have an expectation. */
function told(expected: Readonly<Record<string, string | false | undefined>>): Told[] {
  return Object.entries(expected).flatMap(([setting, one]) => (one ? [{ setting, expected: one }] : []));
}
