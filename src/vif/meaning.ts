/** What the nodes of a vif mean, in words for `vifd monitor`. Pure. */
import { printable } from '../errors.js';

const BACKEND_STATES = [
  'Unknown: no such state is written here',
  'Initialising: dom0 has described the vif; the kernel (xen-netback) has not taken it yet',
  'InitWait: kernel ready, waiting for hotplug',
  'Initialised',
  'Connected: kernel and guest exchange packets',
  'Closing: dom0 or the guest ends it',
  'Closed: the kernel has let go; with online 0 the directory goes next',
  'Reconfiguring',
  'Reconfigured',
];

const FRONTEND_STATES = [
  'Unknown',
  "Initialising: the guest's driver has not come yet",
  'InitWait',
  "Initialised: the guest's driver has set its rings up",
  "Connected: the guest's driver is working",
  "Closing: the guest's driver lets go, or was asked to",
  "Closed: the guest's driver has let go",
  'Reconfiguring',
  'Reconfigured',
];

const NODES = new Map(
  Object.entries({
    frontend: "the guest's directory",
    'frontend-id': "the guest's domain id",
    script: 'what dom0 would have run; vifd never runs it',
    mac: "the guest's MAC address",
    bridge: 'the bridge the vif belongs to',
    handle: 'the number in the name of the interface',
    type: 'vif: paravirtual; vif_ioemu: an emulated card beside it',
    vifname: 'the name the interface shall get',
    mtu: 'bytes; dom0 writes it when it is not 1500',
    ip: "the guest's addresses",
    rate: "netback's own limit: bytes, microseconds",
    vlan: "the guest's VLANs",
    gatewaydev: 'the interface whose address serves as gateway',
    'hotplug-error': 'why the vif is not connected',
  }),
);

/** `undefined` stands for a node that is gone. */
export function meaningOf(side: 'backend' | 'frontend', node: string, value: string | undefined): string {
  if (value === undefined) return node === '' ? 'the directory is gone: the vif has left' : 'removed';
  if (node === 'state')
    return (
      (side === 'backend' ? BACKEND_STATES : FRONTEND_STATES)[Number(value)] ?? `${printable(value)} is no XenbusState`
    );
  if (side === 'frontend') return '';
  if (node === 'online') return value === '0' ? 'dom0 wants the vif gone' : 'dom0 wants the vif';
  if (node === 'hotplug-status') return hotplugMeaning(value);
  if (node === '') return 'the directory is there';
  if (node.startsWith('feature-') || node.startsWith('multi-queue-')) return 'offered by the kernel to the guest';
  return NODES.get(node) ?? '';
}

function hotplugMeaning(value: string): string {
  if (value === 'connected') return 'the interface is in place: the kernel may let the guest connect';
  if (value === 'error') return 'the interface could not be attached; hotplug-error says why';
  return value === ''
    ? 'nobody has attached the interface yet; the guest hangs until then'
    : `${printable(value)} means nothing to the kernel`;
}
