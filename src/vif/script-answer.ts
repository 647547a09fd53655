/** What vif scripts ask for, and the outcome. Pure. */
import type { BackendKey } from '../xenstore/paths.js';

export type ScriptCommand = 'online' | 'offline';

export interface ScriptTask {
  readonly command: ScriptCommand;
  readonly key: BackendKey;
}

/** How a vif is connected, for hooks. */
export interface Whereabouts {
  readonly ifname: string;
  readonly bridge: string;
  readonly ip: readonly string[];
}

export type ScriptAnswer =
  /** `place` undefined: not known, as of a vif that was never connected. */
  | { readonly is: 'done'; readonly place: Whereabouts | undefined }
  /** One printable line. */
  | { readonly is: 'failed'; readonly sentence: string }
  /** Nobody here can do it now; the script does it itself. */
  | { readonly is: 'unavailable' };
