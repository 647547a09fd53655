/** What the nodes of a vif mean, in words for `vifd monitor`. Pure. */
import { printable } from '../errors.js';

/** By XenbusState (xen/include/public/io/xenbus.h). */
const BACKEND_STATES = [
  'Unknown: nobody should write this here',
  'Initialising: dom0 has described the vif; the kernel (xen-netback) has not taken it yet',
  'InitWait: the kernel has taken the vif; it waits for the interface to be attached (hotplug-status) and for the guest',
  'Initialised: not used by vif backends',
  'Connected: kernel and guest exchange packets',
  'Closing: dom0 or the guest ends it',
  'Closed: the kernel has let go; with online 0 the directory goes next',
  'Reconfiguring: not used by vif backends',
  'Reconfigured: not used by vif backends',
];

const FRONTEND_STATES = [
  'Unknown: nobody should write this here',
  "Initialising: the guest's driver has not come yet",
  "InitWait: the guest's driver waits for the kernel",
  "Initialised: the guest's driver has set its rings up",
  "Connected: the guest's driver is working",
  "Closing: the guest's driver lets go, or was asked to",
  "Closed: the guest's driver has let go",
  "Reconfiguring: the guest's driver changes its settings",
  "Reconfigured: the guest's driver has changed its settings",
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
  if (value === undefined) return goneMeaning(side, node);
  if (node === 'state') {
    const states = side === 'backend' ? BACKEND_STATES : FRONTEND_STATES;
    return (/^[0-8]$/.test(value) && states[Number(value)]) || `${printable(value)} is no XenbusState`;
  }
  if (side === 'frontend') return '';
  if (node === 'online') return value === '0' ? 'dom0 wants the vif gone' : 'dom0 wants the vif';
  if (node === 'hotplug-status') return hotplugMeaning(value);
  if (node === '') return 'the directory is there';
  if (node.startsWith('feature-') || node.startsWith('multi-queue-')) return 'offered by the kernel to the guest';
  return NODES.get(node) ?? '';
}

/** The kernel's events of the device `vif-5-0` on its bus xen-backend (drivers/xen/xenbus/xenbus_probe.c, xen-netback). */
export function ueventMeaning(action: string, ifname: string | undefined): string {
  switch (action) {
    case 'add':
      return 'the kernel has seen the vif; its driver, xen-netback, is next';
    case 'bind':
      return 'xen-netback has taken the vif';
    case 'online':
      return `the interface ${ifname ?? ''} is there: a hotplug script would begin here`.replace('  ', ' ');
    case 'offline':
      return 'xen-netback lets the interface go';
    case 'unbind':
      return 'xen-netback has left the vif';
    case 'remove':
      return 'the kernel has forgotten the vif';
    case 'change':
      return 'somebody asked the kernel to tell of the vif again';
    default:
      return '';
  }
}

function goneMeaning(side: 'backend' | 'frontend', node: string): string {
  if (side === 'frontend') return 'gone: the guest has ended, or dom0 has removed the vif';
  if (node === '') return 'the directory is gone: the vif has left';
  if (node === 'hotplug-status') return 'removed: the kernel has let go of the interface';
  if (node === 'hotplug-error') return 'removed: what was wrong is no more';
  return 'removed';
}

function hotplugMeaning(value: string): string {
  if (value === 'connected') return 'the interface is in place: the kernel may let the guest connect';
  if (value === 'error') return 'the interface could not be attached; hotplug-error says why';
  return value === ''
    ? 'the interface is not attached yet; the guest has no network until then'
    : `${printable(value)} means nothing to the kernel`;
}
