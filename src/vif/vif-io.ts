/** What a vif works with, and what it says of itself. */
import type { Logger } from 'pino';
import type { Config } from '../config/schema.js';
import type { Programs } from '../network/hotplug-script.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Prefix } from '../network/prefix.js';
import type { XenstoreClient } from '../xenstore/client.js';
import type { BackendKey } from '../xenstore/paths.js';
import type { AttachQueue } from './attach-queue.js';
import type { Attachment } from './attachment.js';
import type { Ifname } from './backend.js';
import type { Hooks } from './hooks.js';
import type { VifCounts } from './vif-log.js';

export interface VifIo {
  readonly store: XenstoreClient;
  readonly kernel: KernelNetwork;
  readonly config: Config;
  readonly log: Logger;
  /** In dom0, whose writes xenstore never refuses. */
  readonly privileged: boolean;
  /** How many vifs may talk to the kernel at once. */
  readonly attaching: AttachQueue;
  /** Runs the admin's scripts. */
  readonly programs: Programs;
  /** Absent: nobody is told what has become of a vif. */
  readonly hooks?: Hooks | undefined;
  /** Absent: no guest is given its address. */
  readonly dhcp?: Dhcp | undefined;
  /** Whether guards that belong to no vif it knows are nobody's. Not so for a script, which knows one vif. */
  readonly knowsAllVifs: boolean;
  /** For a vif for which dom0 names no bridge: what the caller of a vif script named. */
  readonly defaultBridge?: Ifname | undefined;
  readonly counts?: VifCounts | undefined;
}

/** Who gives guests their addresses; no vif waits for it. */
export interface Dhcp {
  /** The vif is connected so; said again whenever it has been looked at. */
  serve(key: BackendKey, want: Attachment, gateways: readonly Prefix[]): void;
  leave(key: BackendKey): void;
}

export type Phase = 'new' | 'waiting' | 'connected' | 'failed' | 'leaving';

/**
 * When to look again: when something happens; or also after a while; or never, for the vif is no more, or another has its
 * place: the directory was made anew, and the event that would have said so was lost.
 */
export type Next = 'rest' | 'forget' | 'replaced' | { readonly againMs: number };

/**
 * How long after a change the vif is looked at: once, not once for each of the change's echoes. A vif that leaves has its
 * grace to wait for anyway, and dom0 and the kernel need xenstored for themselves then.
 */
export const SETTLE_MS: Record<Phase, number> = { new: 0, waiting: 0, connected: 200, failed: 50, leaving: 500 };
