/**
 * Every setting there is: its type, unit, default and meaning. The one source of the typed Config, of validation, of
 * `vifd config show` and of the sample file. Pure.
 */
import { parsePrefix } from '../network/prefix.js';
import { parseIfname, parseMac, parseMtu } from '../vif/backend.js';
import { parseNatNetwork } from '../vif/nat.js';
import { parseOvsBridge } from '../vif/openvswitch.js';
import { parseVlans, VLANS_RULE } from '../vif/vlan.js';
import { ifname, MATCH } from './match-settings.js';
import { AGENT, BIND, BRIDGE, BRIDGE_NAME } from './network-tables.js';
import { HOOKS, SCRIPT } from './script-settings.js';
import { count, number, oneOf, oneOrMore, optional, type Setting, setting, type Type, text, yesOrNo } from './types.js';
import { DHCP, KEPT_UNTIL_REPLUGGED, MORE_PORT_SETTINGS, OFFLOADS } from './vif-settings.js';

export type { Setting } from './types.js';

export interface Table {
  readonly about: string;
  /** Such tables have names: `[rule.firewall]`. What those may be. */
  readonly named?: Type<string>;
  /** A name with a dot is that of a table within: `match.mac`. */
  readonly settings: Readonly<Record<string, Setting>>;
}

const bridge = text(
  'an interface name of at most 15 characters',
  (value) => parseIfname(value) ?? parseOvsBridge(value),
);

const VIF = {
  mode: optional({
    ...oneOf('bridge', 'routed', 'nat', 'openvswitch', 'script'),
    example: 'bridge',
    about:
      "How the vif is connected. Without it the name of dom0's script says it (vif-bridge: bridge; vif-route: routed;\nvif-nat: nat; vif-openvswitch: openvswitch; one that has a [script.NAME]: script), and one that is not\nknown is an error.",
  }),
  profile: optional({
    ...oneOf('pf', 'speed'),
    example: 'pf',
    about:
      'Settings for a purpose; those beside it refine them. "pf": tx_checksum off, as OPNsense and pfSense need.\n"speed": tx_checksum on.',
  }),
  bridge: optional({
    ...bridge,
    example: 'br_lan',
    about: 'The bridge, where dom0 names none; for Open vSwitch also with VLANs, NAME[.VLAN][:TRUNK:TRUNK...].',
  }),
  mtu: optional({
    type: {
      expected: 'a whole number of bytes from 68 to 65517',
      accepts: (value): value is number => typeof value === 'number' && parseMtu(String(value)) !== undefined,
    },
    unit: 'bytes',
    example: 1500,
    about: "MTU of the host end and of the guest, where dom0 names none; without it the bridge's.",
  }),
  qlen: setting({
    ...count('packets', 1, 1_000_000),
    default: 1000,
    about: 'Transmit queue length of the host end of the vif.',
  }),
  ...OFFLOADS,
  vlan: optional({
    ...text(VLANS_RULE, parseVlans),
    example: '10p/20-29',
    about:
      'The VLANs of the port, as in xl: "10" without tags, "10p/20-29" also with the tags 20 to 29, "20/30" only with tags.\nThe bridge must filter VLANs. Without it a new port has what the bridge gives it, VLAN 1, and one that had others\nkeeps them until the vif is plugged again.',
  }),
  ip: optional({
    ...oneOrMore(text('an IPv4 or IPv6 address or prefix', parsePrefix)),
    example: ['192.0.2.7', '2001:db8:7::/64'],
    about:
      'The guest\'s addresses, where dom0 gives no ip=: what is routed to a vif of mode "routed" or "nat", and what guard\nholds it to. 192.0.2.7/24 is that one host, and 192.0.2.0/24 the network, in every mode.',
  }),
  gateway: optional({
    ...oneOrMore(text('an IPv4 or IPv6 address', (value) => (value.includes('/') ? undefined : parsePrefix(value)))),
    example: ['192.0.2.1', 'fe80::1'],
    about:
      'The gateways of a routed vif\'s guest, which this domain has on the vif. Without it: the first IPv4 address of\ngatewaydev ("nat": the guest\'s address with 127 more in its last number), and fe80::1.',
  }),
  gatewaydev: optional({
    ...ifname,
    example: 'eth0',
    about:
      "The way to the network of routed vifs, where dom0 names none; eth0 without it. Guests' addresses that lie in its\nnetworks are answered for there.",
  }),
  source_table: optional({
    ...number(1, 4_294_967_295),
    example: 100,
    about:
      'What a routed guest sends is looked up in this routing table instead of following the default route; its own routes\nare yours to make: ip route add default via 198.51.100.1 table 100.',
  }),
  nat_network: setting({
    ...oneOrMore(text('a prefix, of IPv4 up to /16, of IPv6 up to /96', parseNatNetwork)),
    default: '10.0.0.0/8',
    about:
      'Where the address of a guest in mode "nat" comes from that has none given: in 10.0.0.0/8 vif 5/0 is 10.0.5.1, as by\nvif-nat.',
  }),
  ...DHCP,
  guard: setting({
    ...oneOf('auto', 'off', 'mac', 'ip'),
    default: 'auto',
    about:
      'What the guest may not feign: "mac" holds it to its MAC address, "ip" also to its addresses, ip; both let it\nneither answer DHCP nor be a router. "auto": "ip" where there is an ip, and in the modes routed and nat, else "off".',
  }),
  guard_macs: optional({
    ...oneOrMore(text('a MAC address', parseMac)),
    example: '00:00:5e:00:01:01',
    about: "Further MAC addresses that a guarded guest may use, such as a firewall's of CARP or VRRP.",
  }),
  guard_ip: optional({
    ...oneOrMore(text('an IPv4 or IPv6 address or prefix', parsePrefix)),
    example: ['192.0.2.7', '2001:db8:7::/64'],
    about: "The guest's addresses for guard, instead of those in ip.",
  }),
  allow_dhcp: setting({ ...yesOrNo, default: false, about: 'Whether a guarded guest may answer DHCP.' }),
  allow_router: setting({
    ...yesOrNo,
    default: false,
    about: 'Whether a guarded guest may send IPv6 router advertisements and redirects.',
  }),
  isolated: optional({
    ...yesOrNo,
    example: true,
    about: `Whether the port exchanges no packets with other isolated ports. ${KEPT_UNTIL_REPLUGGED}`,
  }),
  hairpin: optional({
    ...yesOrNo,
    example: false,
    about: `Whether packets may leave by the port they came from. ${KEPT_UNTIL_REPLUGGED}`,
  }),
  learning: optional({
    ...yesOrNo,
    example: true,
    about: `Whether the bridge learns MAC addresses behind the port. ${KEPT_UNTIL_REPLUGGED}`,
  }),
  flood: optional({
    ...yesOrNo,
    example: true,
    about: `Whether the port gets packets for unknown MAC addresses. ${KEPT_UNTIL_REPLUGGED}`,
  }),
  mcast_flood: optional({
    ...yesOrNo,
    example: true,
    about: `Whether the port gets multicast for which there is no known listener. ${KEPT_UNTIL_REPLUGGED}`,
  }),
  ...MORE_PORT_SETTINGS,
  priority: optional({ ...number(0, 63), example: 32, about: `Priority of the port in STP. ${KEPT_UNTIL_REPLUGGED}` }),
} as const;

/** What a rule may say is what [vif] may say. */
type Optional<S> = { readonly [K in keyof S]: Omit<S[K], 'default'> & { readonly default: undefined } };
const withoutDefaults = <S extends Record<string, Setting>>(settings: S) =>
  Object.fromEntries(
    Object.entries(settings).map(([name, one]) => [
      name,
      { ...one, default: undefined, example: one.example ?? one.default },
    ]),
  ) as Optional<S>;

/** One that begins with a digit would lose its place in the order of the file. */
const NAME: Type<string> = text('a name of letters, digits, "_" and "-" that begins with a letter', (value) =>
  /^[A-Za-z][\w-]{0,63}$/.test(value) ? value : undefined,
).type;

export const TABLES = {
  vif: {
    about: 'Every vif. What dom0 names counts more. A change is brought to those that are connected, too.',
    settings: VIF,
  },
  rule: {
    about:
      'Some vifs: those for which all that is given under "match" holds. It counts more than what dom0 names, and a later\nrule more than an earlier one; one without "match" is for all. Every setting of [vif] may stand here.',
    named: NAME,
    settings: { ...MATCH, ...withoutDefaults(VIF) },
  },
  agent: { about: 'vifd itself.', settings: AGENT },
  bridge: {
    about:
      'A bridge of this domain, named here. It is made when vifd starts if it is not there, kept as it is declared, and\nnever taken down. What is not given stays as it is.',
    named: BRIDGE_NAME,
    settings: BRIDGE,
  },
  bind: {
    about:
      'What this domain gets when an interface appears: addresses, routes, and then, once the probe is answered, commands\nand systemd units. One of when.interface, when.bridge and when.vif must be given.',
    named: NAME,
    settings: BIND,
  },
  hooks: {
    about: 'Programs of yours that are run after a vif has been connected or has left.',
    settings: HOOKS,
  },
  script: {
    about:
      "A program that connects vifs. NAME is the script's name without its directory, as dom0 writes it; it is run as xl devd\nwould run it.",
    named: NAME,
    settings: SCRIPT,
  },
} as const satisfies Record<string, Table>;

/** TOML says tx_checksum and match.mac where the code says txChecksum and matchMac. */
type Camel<S extends string> = S extends `${infer Head}${'_' | '.'}${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : S;
type Values<S> = {
  readonly [K in keyof S & string as Camel<K>]: S[K] extends Setting<infer T>
    ? S[K] extends { default: undefined }
      ? T | undefined
      : T
    : never;
};

/** Of a vif; all of it is checked. */
export type VifSettings = Values<typeof VIF>;
/** A program that may connect vifs. */
export type AllowedScript = Partial<Values<typeof SCRIPT>> & { readonly name: string };
/** For whom a rule is, by what dom0 wrote. */
export type VifMatch = Partial<Values<typeof MATCH>>;
export type Rule = VifMatch & Partial<VifSettings> & { readonly name: string };

/** What the agent works by: what the files give. */
export interface Config {
  readonly vif: Partial<VifSettings>;
  /** In the order in which they are named first. */
  readonly rules: readonly Rule[];
  readonly scripts?: readonly AllowedScript[];
  readonly hooks?: Partial<Values<typeof HOOKS>>;
}

/** A bridge of this domain. */
export type DeclaredBridge = Values<typeof BRIDGE> & { readonly name: string };
export type Binding = Values<typeof BIND> & { readonly name: string };

/** With what is this domain's own. */
export interface WholeConfig extends Config {
  readonly agent: Values<typeof AGENT>;
  readonly bridges: readonly DeclaredBridge[];
  readonly bindings: readonly Binding[];
}

/** The vifs that a binding is for; undefined: it is not for vifs. */
export function vifMatch(binding: Binding): VifMatch | undefined {
  const said = Object.entries(binding).filter(([name, value]) => name.startsWith('whenVif') && value !== undefined);
  if (said.length === 0) return undefined;
  return Object.fromEntries(said.map(([name, value]) => [name.replace('whenVif', 'match'), value]));
}

/** Where hooks are. */
export const hooksDirectory = ({ hooks }: Config): string => hooks?.directory ?? HOOKS.directory.default;

/** Without any file. */
export const DEFAULTS: Config = { vif: {}, rules: [] };

/** What nobody says otherwise: 1000 packets, and no checksum offload. */
export const VIF_DEFAULTS = defaultsOf(VIF) as unknown as VifSettings;

/** Where a value belongs: `vif.qlen`, or `rule.firewall.match.mac`. */
export interface Place {
  readonly table: string;
  /** Undefined in a table that has none. */
  readonly name: string | undefined;
  /** `qlen`, `match.mac`. */
  readonly setting: string;
}

export function tableAt(table: string): Table | undefined {
  const tables: Readonly<Record<string, Table>> = TABLES;
  return Object.hasOwn(tables, table) ? tables[table] : undefined;
}

export function settingAt({ table, setting: name }: Place): Setting | undefined {
  const settings = tableAt(table)?.settings;
  return settings !== undefined && Object.hasOwn(settings, name) ? settings[name] : undefined;
}

/** `vif.qlen`, `rule.firewall.match.mac`. */
export const fullKey = ({ table, name, setting: key }: Place): string =>
  [table, ...(name === undefined ? [] : [name]), key].join('.');

/** The configuration that these values make. They must have been checked. */
export function configOf(values: readonly (Place & { readonly value: unknown })[]): WholeConfig {
  const agent: Record<string, unknown> = defaultsOf(AGENT);
  const vif: Record<string, unknown> = {};
  const hooks: Record<string, unknown> = {};
  const named = { rule: new Map(), bridge: new Map(), bind: new Map(), script: new Map() };
  const fresh = { rule: {}, bridge: defaultsOf(BRIDGE), bind: defaultsOf(BIND), script: {} };
  const single: Readonly<Record<string, Record<string, unknown>>> = { vif, agent, hooks };
  for (const { table, name = '', setting: key, value } of values) {
    const alone = single[table];
    if (alone !== undefined) alone[camel(key)] = value;
    else {
      const kind = table as keyof typeof named;
      named[kind].set(name, { ...(named[kind].get(name) ?? { name, ...fresh[kind] }), [camel(key)]: value });
    }
  }
  const [rules, bridges, bindings] = [named.rule, named.bridge, named.bind].map((all) => [...all.values()]);
  return {
    vif,
    rules,
    agent,
    bridges,
    bindings,
    ...(Object.keys(hooks).length > 0 && { hooks }),
    ...(named.script.size > 0 && { scripts: [...named.script.values()] }),
  } as unknown as WholeConfig;
}

function defaultsOf(settings: Readonly<Record<string, Setting>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(settings).map(([name, one]) => [camel(name), one.default]));
}

/** `tx_checksum` for `txChecksum`. */
export const tomlName = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function camel(name: string): string {
  return name.replace(/[_.](.)/g, (_, letter: string) => letter.toUpperCase());
}
