/** Settings of a vif that are one of many of their kind: offloads, and switches of a bridge port. Pure. */
import { parsePrefix } from '../network/prefix.js';
import { number, oneOf, oneOrMore, optional, setting, text, yesOrNo } from './types.js';

export const KEPT_UNTIL_REPLUGGED = 'Without it the port stays as it is.';

const offload = (what: string, word: string) =>
  setting({
    ...oneOf('off', 'on', 'keep'),
    default: 'keep',
    about: `${what}, ethtool's ${word}; "keep" leaves it as it is.`,
  });

/** Each is a group of features, see FEATURE_GROUPS in network/ethtool.ts. */
export const OFFLOADS = {
  tx_checksum: setting({
    ...oneOf('off', 'on', 'keep'),
    default: 'off',
    about:
      'Checksum offload towards the guest: "off" clears it, as pf firewalls (OPNsense, pfSense) need, and tso with it;\n"on" is netback\'s own default; "keep" leaves it as it is, so what was cleared stays so until the vif is plugged again.',
  }),
  rx_checksum: offload('Checksum offload from the guest', 'rx'),
  tso: offload('TCP segmentation offload towards the guest, never on without tx_checksum', 'tso'),
  gso: offload('Generic segmentation offload', 'gso'),
  sg: offload('Scatter-gather towards the guest', 'sg'),
  gro: offload('Generic receive offload', 'gro'),
} as const;

const ipv4 = text('an IPv4 address', (value) =>
  parsePrefix(value)?.family === 'ipv4' && !value.includes('/') ? value : undefined,
);

export const DHCP = {
  dhcp: setting({
    ...yesOrNo,
    default: false,
    about:
      'Whether the guest of a vif of mode "nat" or "routed" is given its first IPv4 address and its gateway by DHCP. Needs\ndnsmasq.',
  }),
  dns: optional({
    ...oneOrMore(ipv4),
    example: ['9.9.9.9'],
    about: 'The DNS servers that dhcp tells the guest; without it none.',
  }),
} as const;

export const MORE_PORT_SETTINGS = {
  bcast_flood: optional({
    ...yesOrNo,
    example: true,
    about: `Whether the port gets broadcasts. ${KEPT_UNTIL_REPLUGGED}`,
  }),
  mcast_to_unicast: optional({
    ...yesOrNo,
    example: false,
    about: `Whether multicast goes to each listener behind the port as unicast. ${KEPT_UNTIL_REPLUGGED}`,
  }),
  mcast_router: optional({
    ...number(0, 2),
    example: 1,
    about: `Whether there is a multicast router behind the port: 0 never, 1 as it is found out, 2 always.\n${KEPT_UNTIL_REPLUGGED}`,
  }),
} as const;
