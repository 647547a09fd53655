/** EDGE: takes the interface of a vif out of its bridge, for a script that is told `offline`. */
import { hasCode } from '../errors.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Attachment } from './attachment.js';
import { findLink } from './observe.js';

/** An interface that is gone, or goes meanwhile, is detached. Rejects with NetlinkError. */
export async function detach(want: Attachment, kernel: KernelNetwork): Promise<void> {
  if (want.mode === 'script') return; // its own `offline` does that
  if (want.mode === 'openvswitch') await kernel.openVSwitch.removePort(want.ifname);
  try {
    const link = await findLink(want, kernel, true);
    if (link?.up) await kernel.setLink(link, { up: false });
    if (link !== undefined && link.master !== 0) await kernel.setLink(link, { master: 0 });
  } catch (error) {
    if (!hasCode(error, 'ENODEV')) throw error;
  }
}
