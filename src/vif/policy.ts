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
  /** Bytes; undefined: as the bridge when the vif joins it. */
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

/**
 * The names `vif-bridge_qlen` and `vif-bridge_TxOff` in a guest's configuration mean what they say: dom0 asked for it, so
 * the vif has it whatever the configuration is.
 */
export function resolveAttachment(backend: VifBackend, config: Config): Attachment {
  const name = kernelName(backend);
  const script = backend.script.slice(backend.script.lastIndexOf('/') + 1);
  return {
    mode: 'bridge',
    kernelName: name,
    ifname: backend.vifname ?? name,
    bridge: backend.bridge,
    mtu: backend.mtu,
    txqlen: script === 'vif-bridge_qlen' ? 1000 : config.vif.qlen,
    clearTxChecksum: script === 'vif-bridge_TxOff' || config.vif.txChecksum === 'off',
    address: BACKEND_MAC,
    parentDev: `vif-${backend.key.domid}-${backend.key.devid}`,
  };
}

/** `ethN` for `xenbrN`: xend renamed cards so, and vif-bridge still accepts it where there is no such bridge. */
export function oldBridgeName(bridge: Ifname): string | undefined {
  const number = /^xenbr([0-9]+)$/.exec(bridge)?.[1];
  return number === undefined ? undefined : `eth${number}`;
}

/** Whether an interface of this name could be the bridge that is wanted; undefined: any. */
export function mayServe(bridge: Ifname | undefined, ifname: string): boolean {
  return bridge === undefined || bridge === ifname || oldBridgeName(bridge) === ifname;
}
