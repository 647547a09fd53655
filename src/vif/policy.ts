/** What is wanted for a vif: what dom0 wrote, completed by the configuration. Pure. */
import type { Config } from '../config/schema.js';
import { type Ifname, kernelName, type VifBackend } from './backend.js';

/** A vif as a port of a Linux bridge. */
export interface BridgeAttachment {
  readonly mode: 'bridge';
  /** The name that netback gives. */
  readonly kernelName: Ifname;
  /** The name it shall have: vifname, or netback's. */
  readonly ifname: Ifname;
  /** Undefined: vif-bridge's default, the first bridge there is. */
  readonly bridge: Ifname | undefined;
  /** Bytes; undefined: as the bridge. */
  readonly mtu: number | undefined;
  /** Packets. */
  readonly txqlen: number;
  readonly clearTxChecksum: boolean;
  readonly address: string;
  /** `vif-5-0`: the device that must stand behind the interface. */
  readonly parentDev: string;
}

export type Attachment = BridgeAttachment;

/** The address of every vif's host end (xenvif_alloc): the highest there is, so that a bridge never takes it as its own. */
const BACKEND_MAC = 'fe:ff:ff:ff:ff:ff';

export function resolveAttachment(backend: VifBackend, config: Config): Attachment {
  const name = kernelName(backend);
  return {
    mode: 'bridge',
    kernelName: name,
    ifname: backend.vifname ?? name,
    bridge: backend.bridge,
    mtu: backend.mtu,
    txqlen: config.vif.qlen,
    clearTxChecksum: config.vif.txChecksum === 'off',
    address: BACKEND_MAC,
    parentDev: `vif-${backend.key.domid}-${backend.key.devid}`,
  };
}
