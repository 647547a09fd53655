/** The settings of what is this domain's own: bridges, addresses, and what happens when an interface appears. Pure. */
import { parseTarget, TARGET_RULE } from '../binding/target.js';
import { parsePrefix } from '../network/prefix.js';
import { METRIC_MAX, parseAddress, parseRouteText, ROUTE_RULE } from '../network/route-text.js';
import { parseIfname, parseMtu } from '../vif/backend.js';
import { parseVlans, VLANS_RULE } from '../vif/vlan.js';
import { NAME_PATTERN, pattern, WHEN_VIF } from './match-settings.js';
import { count, number, oneOf, oneOrMore, optional, setting, type Type, type Typed, text, yesOrNo } from './types.js';

/** A key in TOML and an interface in Linux. */
export const BRIDGE_NAME: Type<string> = text(
  'a name for a bridge: at most 15 letters, digits, "_" and "-", the first a letter',
  (name) => (/^[A-Za-z][\w-]{0,14}$/.test(name) ? name : undefined),
).type;

/** Linux would take a "*" in it, but whoever writes one means a pattern. */
const ifname = text('the name of one interface, of at most 15 characters, without *', (value) =>
  value.includes('*') ? undefined : parseIfname(value),
);
const addresses = oneOrMore(
  text('an IPv4 or IPv6 address with its prefix length, such as 192.168.1.4/24', (value) =>
    value.includes('/') ? parsePrefix(value) : undefined,
  ),
);
const address = text('an IPv4 or IPv6 address', parseAddress).type;
const gateway: Typed<string | readonly string[]> & { readonly example: string } = {
  type: {
    expected: `${address.expected}, or an array with one of each`,
    each: address,
    accepts: (value): value is string | readonly string[] => {
      const families = [value].flat().map((one) => typeof one === 'string' && parseAddress(one)?.family);
      return families.length > 0 && families.every((one) => one) && new Set(families).size === families.length;
    },
  },
  example: '192.168.1.1',
};
const metric = {
  ...number(1, METRIC_MAX),
  example: 100,
  about: "Of the default route; the lowest counts. Without it the kernel's: 0, and 1024 for IPv6.",
};

/** As exec takes it: no shell has a part in it. */
const command: Type<readonly string[]> = {
  expected: 'a command, an array of words that begins with an absolute path: ["/bin/echo", "here"]',
  accepts: (value): value is readonly string[] =>
    Array.isArray(value) &&
    value.every((word) => typeof word === 'string' && !word.includes('\0')) &&
    /^\/./.test(String(value[0])),
};
const commands: Typed<readonly (readonly string[])[]> = {
  type: {
    expected: 'commands, each an array of words that begins with an absolute path: [["/bin/echo", "here"]]',
    each: command,
    accepts: (value): value is readonly (readonly string[])[] =>
      Array.isArray(value) && value.length > 0 && value.every(command.accepts),
  },
};

const UNIT = /^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.(service|mount|automount|target|socket|timer|path|swap)$/;

export const AGENT = {
  mode: setting({
    ...oneOf('attach', 'observe'),
    default: 'attach',
    about:
      '"attach": vifs, and what [bridge] and [bind] say. "observe": [bridge] and [bind] only, as in dom0, where the toolstack\nattaches the vifs; it needs no xenstore but for when.vif. A change counts from the next start.',
  }),
} as const;

export const BRIDGE = {
  ports: optional({
    ...oneOrMore(ifname),
    example: 'eth0',
    about:
      'Cards that are ports of the bridge. The addresses and routes of one move to the bridge when it joins. One that is not\nthere joins when it appears.',
  }),
  addresses: optional({ ...addresses, example: ['192.168.1.4/24'], about: 'Addresses of this domain on the bridge.' }),
  gateway: optional({ ...gateway, about: 'Where the default route leads.' }),
  metric: optional(metric),
  rollback: setting({
    ...count('seconds', 0, 3600),
    default: 30,
    about:
      'So long a gateway that answered before may be silent after the addresses of a card have moved to the bridge. Then all\nis put back until the next start or reload. 0: it is never put back.',
  }),
  mtu: optional({
    type: {
      expected: 'a whole number of bytes from 68 to 65517',
      accepts: (value): value is number => typeof value === 'number' && parseMtu(String(value)) !== undefined,
    },
    unit: 'bytes',
    example: 1500,
    about: 'MTU of the bridge and of its cards.',
  }),
  stp: optional({ ...yesOrNo, example: false, about: 'Whether the bridge takes part in the spanning tree protocol.' }),
  forward_delay: optional({
    ...count('seconds', 0, 30),
    example: 0,
    about: 'How long STP listens, and then learns, before a port forwards; 2 or more with stp.',
  }),
  multicast_snooping: optional({
    ...yesOrNo,
    example: true,
    about: 'Whether multicast goes only to ports that asked for it.',
  }),
  vlan_filtering: optional({ ...yesOrNo, example: true, about: 'Whether ports have VLANs of their own.' }),
  vlan: optional({
    ...text(VLANS_RULE, parseVlans),
    example: '1p/10-29',
    about: "The VLANs of the cards, as a vif's. The bridge must filter VLANs.",
  }),
} as const;

export const BIND = {
  'when.interface': optional({
    ...pattern('an interface name of at most 15 characters', NAME_PATTERN),
    example: 'vif0.0',
    about: 'Each interface of such a name that appears, or is there.',
  }),
  'when.bridge': optional({
    ...ifname,
    example: 'xenbr0',
    about: 'A bridge, as long as it has a port.',
  }),
  ...WHEN_VIF,
  on: optional({
    ...ifname,
    example: 'xenbr0',
    about: 'The interface that gets what follows. Without it the one that appeared.',
  }),
  addresses: optional({ ...addresses, example: ['10.0.0.1/24'], about: 'Addresses of this domain on it.' }),
  routes: optional({
    ...oneOrMore(text(ROUTE_RULE, parseRouteText)),
    example: ['10.0.0.0/8 via 10.0.0.2 metric 5'],
    about: 'Routes through it.',
  }),
  gateway: optional({ ...gateway, about: 'Where the default route leads.' }),
  metric: optional(metric),
  forwarding: setting({
    ...yesOrNo,
    default: false,
    about:
      'Whether this domain shall forward packets, of IPv4 and IPv6 as far as addresses of them stand here. For all its\ninterfaces; vifd never turns it off again.',
  }),
  masquerade: setting({
    ...yesOrNo,
    default: false,
    about:
      "Whether what comes in by it leaves by other interfaces with this domain's address, of the families of\nforwarding, which is turned on as well. It needs nft.",
  }),
  keep: setting({
    ...yesOrNo,
    default: false,
    about: 'Whether what was put on another interface than the one that appeared stays when that is gone.',
  }),
  probe: optional({
    ...text(TARGET_RULE, parseTarget),
    example: '192.168.1.1',
    about: 'What must answer before commands and units are started. Without it nothing is waited for.',
  }),
  probe_every: setting({ ...count('seconds', 1, 3600), default: 5, about: 'From one try to the next.' }),
  probe_tries: setting({
    ...number(1, 1_000_000),
    default: 30,
    about: 'So often without an answer, and nothing is started until the interface appears anew.',
  }),
  run: optional({
    ...commands,
    example: [['/usr/local/bin/plug-storage', 'nfs']],
    about:
      'Commands, one after the other, once for each time the interface appears; a start of vifd is such a time. One that\nfails keeps none from being run. In the environment: VIFD_BIND, VIFD_EVENT (appeared, gone) and VIFD_INTERFACE.',
  }),
  units: optional({
    ...oneOrMore(
      text('the name of a systemd unit with its kind, such as "nfs.mount"', (value) =>
        UNIT.test(value) ? value : undefined,
      ),
    ),
    example: 'srv-nfs.mount',
    about: 'Units that systemctl starts after the commands.',
  }),
  'gone.run': optional({
    ...commands,
    example: [['/usr/local/bin/unplug-storage']],
    about: 'Commands when it has disappeared.',
  }),
  time_limit: setting({
    ...count('seconds', 1, 86_400),
    default: 60,
    about: 'Of each command and unit; then all that the command has started is ended.',
  }),
} as const;
