/** Plays the kernel's bus xen-backend: a uevent that a privileged process sends is told to all in its network namespace. */
import { RawNetlinkSocket } from 'netlink/dist/raw.js';
import type { LinkFactory } from '../../src/simulator/links.js';

const NETLINK_KOBJECT_UEVENT = 15;
const NLMSG_MIN_TYPE = 16;
const NLM_F_REQUEST = 1;

/** Sends `online@/devices/vif-5-0` with this environment; the kernel adds SEQNUM. */
export async function sendUevent(action: string, devpath: string, env: Record<string, string>): Promise<void> {
  const lines = Object.entries({ ACTION: action, DEVPATH: devpath, ...env }).map(([name, value]) => `${name}=${value}`);
  const text = Buffer.from(`${[`${action}@${devpath}`, ...lines].join('\0')}\0`);
  const header = Buffer.alloc(16);
  header.writeUInt32LE(header.length + text.length, 0);
  header.writeUInt16LE(NLMSG_MIN_TYPE, 4);
  header.writeUInt16LE(NLM_F_REQUEST, 6);
  const socket = new RawNetlinkSocket(NETLINK_KOBJECT_UEVENT, { recvBufferSize: 0, sendBufferSize: 0 });
  await new Promise<void>((resolve, reject) =>
    socket.send(Buffer.concat([header, text]), {}, (error) => (error === undefined ? resolve() : reject(error))),
  );
  socket.close();
}

/** As xenbus_uevent_backend and netback_uevent have it. */
export function vifUevent(action: string, domid: number, devid: number, ifname?: string): Promise<void> {
  return sendUevent(action, `/devices/vif-${domid}-${devid}`, {
    SUBSYSTEM: 'xen-backend',
    XENBUS_TYPE: 'vif',
    XENBUS_PATH: `backend/vif/${domid}/${devid}`,
    XENBUS_BASE_PATH: 'backend',
    MODALIAS: 'xen-backend:vif',
    script: '/etc/xen/scripts/vif-bridge',
    ...(ifname === undefined ? {} : { vif: ifname }),
  });
}

/** Interfaces with the events that xen-netback makes for them. */
export function withUevents(links: LinkFactory): LinkFactory {
  const keys = new Map<string, [number, number]>();
  return {
    async create(ifname, options) {
      keys.set(ifname, [options.domid, options.handle]);
      await vifUevent('add', options.domid, options.handle);
      await links.create(ifname, options);
      await vifUevent('online', options.domid, options.handle, ifname);
    },
    async remove(ifname) {
      const [domid, devid] = keys.get(ifname) ?? [0, 0];
      await vifUevent('offline', domid, devid, ifname);
      await links.remove(ifname);
      await vifUevent('remove', domid, devid);
    },
  };
}
