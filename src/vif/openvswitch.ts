/** What a vif wants of Open vSwitch: vif-openvswitch's way to name a bridge with VLANs, and xl's `vlan`. Pure. */
import type { VifSettings } from '../config/schema.js';
import { AttachError, NodeError } from '../errors.js';
import type { PortVlans } from '../network/bridge-vlan.js';
import { OVS_MARK, type OvsPort, type OvsVlans } from '../network/ovs-port.js';
import { keyText } from '../xenstore/paths.js';
import type { VifBackend } from './backend.js';
import { formatVlans, parseVlans } from './vlan.js';

export interface OvsBridge extends OvsVlans {
  readonly bridge: string;
}

const VID_MAX = 4094;

export const OVS_BRIDGE_RULE =
  'a bridge of Open vSwitch, NAME[.VLAN][:TRUNK:TRUNK...], such as ovs0, ovs0.10 or ovs0.10:20:30';

/**
 * `NAME[.VLAN][:TRUNK:TRUNK...]`, as vif-openvswitch takes it. Undefined for what is none: NAME has nothing in it that
 * ovs-vsctl or the grammar would take apart.
 */
export function parseOvsBridge(text: string): OvsBridge | undefined {
  const [, bridge, tagText, trunkText = ''] =
    /^([A-Za-z0-9_][\w-]{0,14})(?:\.(\d{1,4}))?((?::\d{1,4})*)$/.exec(text) ?? [];
  if (bridge === undefined || text.endsWith('\n')) return undefined;
  const tag = tagText === undefined ? undefined : Number(tagText);
  const trunks = [...new Set(trunkText.split(':').slice(1).map(Number))].sort((a, b) => a - b);
  const vids = [...trunks, ...(tag === undefined ? [] : [tag])];
  return vids.every((vid) => vid >= 1 && vid <= VID_MAX) ? { bridge, tag, trunks } : undefined;
}

/** Throws AttachError or NodeError. `vlan` counts more than VLANs in the bridge's name. */
export function ovsPort(backend: VifBackend, settings: VifSettings): OvsPort {
  const { bridge: text, vlan, mtu, isolated = false } = settings;
  if (text === undefined)
    throw new AttachError(
      'ENOBRIDGE',
      'dom0 named no bridge of Open vSwitch',
      "write bridge=NAME into the guest's vif line, or a bridge into the rule",
    );
  const named = parseOvsBridge(text);
  if (named === undefined) throw new NodeError('bridge', text, OVS_BRIDGE_RULE);
  const { bridge, ...ofName } = named;
  const vlans = vlan === undefined ? ofName : ovsVlans(parseVlans(vlan) as PortVlans);
  const ids = {
    ...(backend.mac !== undefined && { 'attached-mac': backend.mac }),
    'xen-vif': keyText(backend.key),
    [OVS_MARK]: '1',
  };
  return { bridge, vlans, protected: isolated, ids, mtu };
}

/** Throws AttachError for what a port of Open vSwitch cannot be. */
export function ovsVlans(vlans: PortVlans): OvsVlans {
  const { pvid: tag, untagged } = vlans;
  const others = [...untagged].filter(([vid]) => vid !== tag);
  if (others.some(([, bare]) => bare))
    throw new AttachError(
      'EVLAN',
      `Open vSwitch cannot do vlan ${formatVlans(vlans)}: only one VLAN can go without a tag`,
      'leave u out of vlan',
    );
  return { tag, trunks: others.map(([vid]) => vid).sort((a, b) => a - b) };
}

/** ovs-vsctl takes a word apart at "=" and ",", and one that begins with "-" may be an option. Throws NodeError. */
export function checkOvsName(ifname: string): void {
  if (/^[A-Za-z0-9_][\w.-]*$/.test(ifname)) return;
  throw new NodeError('vifname', ifname, 'letters, digits, ".", "_" and "-", since Open vSwitch gets it');
}
