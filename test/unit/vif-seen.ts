/** A vif in perfect order, to be spoilt by one test each. */
import { DEFAULTS } from '../../src/config/schema.js';
import { NO_VLANS } from '../../src/network/bridge-vlan.js';
import { NO_FEATURES } from '../../src/network/ethtool.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { parseBackend, parseLive } from '../../src/vif/backend.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import type { BridgeSeen, VifSeen } from '../../src/vif/seen.js';

export const KEY = { domid: 5, devid: 0 };

export const aLink = (ifname: string, more: Partial<Link> = {}): Link => ({
  ifindex: 7,
  ifname,
  up: true,
  address: 'fe:ff:ff:ff:ff:ff',
  mtu: 1500,
  txqlen: 1000,
  master: 0,
  kind: '',
  alias: '',
  port: undefined,
  lower: 0,
  vlanFiltering: false,
  parentDev: '',
  addrGenMode: 1,
  ...more,
});

export const BRIDGE: BridgeSeen = {
  link: aLink('br0', { ifindex: 3, kind: 'bridge' }),
  ports: [aLink('vif5.0', { parentDev: 'vif-5-0' }), aLink('eth0')],
};

/** The nodes that dom0 writes once. */
export const NODES = {
  frontend: '/local/domain/5/device/vif/0',
  'frontend-id': '5',
  script: '/etc/xen/scripts/vif-bridge',
  handle: '0',
  type: 'vif',
  mac: '00:16:3e:01:02:03',
  bridge: 'br0',
};

export const live = (nodes: Record<string, string>): VifSeen['live'] =>
  parseLive(new Map(Object.entries({ state: '4', online: '1', 'hotplug-status': 'connected', ...nodes })));

export const backend = (nodes: Record<string, string>) =>
  parseBackend(KEY, new Map(Object.entries({ ...NODES, ...nodes })));

export function seen(more: Partial<VifSeen> = {}): VifSeen {
  const { backend: described = backend({}) } = more;
  return {
    key: KEY,
    backend: described,
    live: live({}),
    nodeFault: undefined,
    kernelError: undefined,
    frontend: { state: '4', mtu: undefined },
    want: resolveAttachment(described, DEFAULTS),
    link: aLink('vif5.0', { ifindex: 8, master: 3, parentDev: 'vif-5-0' }),
    placeFault: undefined,
    place: { mode: 'bridge', bridge: BRIDGE.link, vlans: NO_VLANS },
    bridge: BRIDGE,
    addresses: [],
    guard: undefined,
    features: NO_FEATURES,
    statistics: {
      carrier: true,
      bridgePortState: 'forwarding',
      rx: { packets: 12, dropped: 0 },
      tx: { packets: 34, dropped: 5 },
    },
    around: { programs: [{ pid: 77, command: 'vifd run' }], netback: 'loaded' },
    ...more,
  };
}
