/**
 * What libxl writes for one vif (tools/libs/light/libxl_nic.c, libxl__set_xenstore_nic; shared/contract.md 2.1). Pure.
 */

/** libxl_device_nic: one entry of `vif=[...]`. Values go into xenstore as they are; libxl checks none of them. */
export interface Vif {
  readonly domid: number;
  readonly devid: number;
  readonly backendDomid: number;
  readonly mac?: string;
  readonly bridge?: string;
  readonly script?: string;
  readonly vifname?: string;
  readonly ip?: string;
  readonly gatewaydev?: string;
  /** `<bytes>,<usec>`. */
  readonly rate?: string;
  /** Bytes; 1500 unless told. */
  readonly mtu?: number;
  readonly vlan?: string;
  readonly type?: 'vif' | 'vif_ioemu';
  readonly trusted?: boolean;
  /** Backend nodes as no libxl writes them: replaced, added at the end, or left out where undefined. */
  readonly nodes?: Readonly<Record<string, string | undefined>>;
}

/** Names and values in the order in which they are written. */
export type Nodes = readonly (readonly [string, string])[];

const SCRIPT_DIR = '/etc/xen/scripts';

/** A domain's home. */
export const domainDir = (domid: number): string => `/local/domain/${domid}`;
/** libxl__device_libxl_path: dom0's own copy, the only one that it trusts. */
export const libxlDir = ({ domid, devid }: Vif): string => `/libxl/${domid}/device/vif/${devid}`;
/** libxl__device_frontend_path. */
export const frontendDir = ({ domid, devid }: Vif): string => `${domainDir(domid)}/device/vif/${devid}`;
/** libxl__device_backend_path. */
export const backendDir = ({ backendDomid, domid, devid }: Vif): string =>
  `${domainDir(backendDomid)}/backend/vif/${domid}/${devid}`;

/** The MAC of a vif whose configuration names none. */
export const defaultMac = ({ domid, devid }: Vif): string =>
  ['00', '16', '3e', ...[domid >> 8, domid, devid].map((byte) => (byte & 0xff).toString(16).padStart(2, '0'))].join(
    ':',
  );

/** libxl__set_xenstore_nic, the guest's side. */
export function frontendNodes(vif: Vif, xenMinor: number): Nodes {
  const nodes: [string, string][] = [
    ['backend-id', String(vif.backendDomid)],
    ['state', '1'],
    ['handle', String(vif.devid)],
    ['mac', vif.mac ?? defaultMac(vif)],
  ];
  if (xenMinor >= 17) nodes.push(['trusted', vif.trusted === false ? '0' : '1']);
  return nodes;
}

/** libxl__set_xenstore_nic, the driver domain's side. */
export function backendNodes(vif: Vif, xenMinor: number): Nodes {
  const script = vif.script ?? 'vif-bridge';
  const mtu = vif.mtu === undefined || vif.mtu === 1500 ? undefined : String(vif.mtu);
  const pairs: [string, string | undefined][] = [
    ['frontend-id', String(vif.domid)],
    ['online', '1'],
    ['state', '1'],
    ['script', script.startsWith('/') ? script : `${SCRIPT_DIR}/${script}`],
    ['vifname', vif.vifname],
    ['mac', vif.mac ?? defaultMac(vif)],
    ['ip', vif.ip],
    ['gatewaydev', vif.gatewaydev],
    ['rate', vif.rate],
    ['mtu', xenMinor >= 15 ? mtu : undefined],
    ['vlan', xenMinor >= 19 ? vif.vlan : undefined],
    ['bridge', vif.bridge ?? 'xenbr0'],
    ['handle', String(vif.devid)],
    ['type', vif.type ?? 'vif'],
    ['hotplug-status', xenMinor >= 17 ? '' : undefined],
  ];
  const nodes = new Map([...pairs, ...Object.entries(vif.nodes ?? {})]);
  return [...nodes].flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]));
}
