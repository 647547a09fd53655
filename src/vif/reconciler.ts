/**
 * Keeps every vif as dom0 asked for it. Events, scans, retries and link changes all end in a kick: look at this vif.
 *
 * INVARIANTS
 * - A run reads the vif afresh. One exception: the nodes that dom0 writes once are kept from before `state` 2, to be
 *   quick then. An event on one of them or on the directory, a failure, or a status that is not ours drops them.
 * - `connected` is written only after everything asked for is in force, and never blanked; `state` and `online` never.
 * - A vif is connected, or waits for something with a deadline, or leaves, or has an error that says why.
 */
import type { Logger } from 'pino';
import type { Config } from '../config/schema.js';
import { AttachError, ConnectionError, hasCode } from '../errors.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { XenstoreClient } from '../xenstore/client.js';
import {
  BACKEND_ROOT,
  type BackendKey,
  frontendDir,
  type KeyText,
  keyText,
  parseBackendPath,
  parseKeyText,
} from '../xenstore/paths.js';
import { type Attached, attach } from './attach.js';
import {
  isFixedNode,
  isLiveNode,
  parseBackend,
  parseLive,
  type RawNodes,
  type VifBackend,
  type VifLive,
  XenbusState,
} from './backend.js';
import { explainFailure, type Failure } from './failure.js';
import { writeConnected, writeError } from './hotplug-status.js';
import { KeyedLoop } from './keyed-loop.js';
import { findLink, mayServe } from './observe.js';
import { describeStep } from './plan.js';
import { type Attachment, resolveAttachment } from './policy.js';
import { listBackends, readFixedNodes, readFrontendNode, readKernelError, readLiveNodes } from './reader.js';
import { GRACE_MS, removeBackend, STUCK_GRACE_MS } from './removal.js';

export interface ReconcilerIo {
  readonly store: XenstoreClient;
  readonly kernel: KernelNetwork;
  readonly config: Config;
  readonly log: Logger;
  /** In dom0, whose writes xenstore never refuses. */
  readonly privileged: boolean;
}

export type Phase = 'new' | 'waiting' | 'connected' | 'failed' | 'leaving';

/** A connected vif is looked at this long after a change: once, not once for each of the change's echoes. */
const SETTLE_MS = 50;
/** How long netback may take to the next sign of life before that is an error. */
const PATIENCE_MS = 2_000;
const FIRST_POLL_MS = 25;
const LAST_POLL_MS = 400;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 30_000;
/** While a vif leaves: how often to check for what no event tells, such as a frontend that vanished. */
const LEAVING_POLL_MS = 1_000;

/** What is remembered of a vif between runs: what dom0 wrote once, when things began, what was said already. */
interface Vif {
  readonly key: BackendKey;
  phase: Phase;
  /** performance.now() when vifd first saw it. */
  readonly firstSeen: number;
  backend: VifBackend | undefined;
  /** Kept after `backend` was dropped: which interfaces concern this vif. */
  want: Attachment | undefined;
  frontendMtu: string | undefined;
  /** What it waits in, and since when: a new state gets new patience. */
  waiting: { readonly state: number; readonly since: number } | undefined;
  /** The grace that runs before its directory goes. */
  departure: { readonly delayMs: number; readonly since: number } | undefined;
  /** The next poll's or retry's delay. */
  delayMs: number;
  /** Sentences that the log has already. */
  readonly said: Set<string>;
}

export class Reconciler {
  private readonly vifs = new Map<KeyText, Vif>();
  private readonly loop = new KeyedLoop<KeyText>((text) => this.run(text));
  constructor(private readonly io: ReconcilerIo) {}

  /** Looks at every vif that is or was there; resolves when that is done. Rejects when xenstore cannot be listed. */
  async scan(): Promise<void> {
    const listed = (await listBackends(this.io.store)).map(keyText);
    await Promise.all([...new Set([...listed, ...this.vifs.keys()])].map((text) => this.loop.kick(text)));
  }

  /** A watch event at or below `backend/vif`. Only the place counts. */
  onStoreEvent(path: string): void {
    const place = parseBackendPath(path);
    if (place === undefined) return this.onParentEvent(path);
    const { key, node } = place;
    if (!isLiveNode(node) && !isFixedNode(node) && node !== '') return; // one of netback's feature nodes
    const vif = this.vifs.get(keyText(key));
    if (vif !== undefined && !isLiveNode(node)) vif.backend = undefined;
    this.kick(keyText(key));
  }

  /** The directories above the vifs come with the first vif of a guest and go with the last. */
  private onParentEvent(path: string): void {
    const domid = path.slice(path.indexOf(BACKEND_ROOT) + BACKEND_ROOT.length + 1);
    for (const [text, { key }] of this.vifs) {
      if (domid === '' || domid === String(key.domid)) this.kick(text);
    }
  }

  /** An interface of this name appeared, changed or went. */
  onLinkEvent(ifname: string): void {
    for (const [text, { phase, want }] of this.vifs) {
      const own = want?.kernelName === ifname || want?.ifname === ifname;
      const awaited = phase === 'failed' && want !== undefined && mayServe(want.bridge, ifname);
      if (own || awaited) this.kick(text);
    }
  }

  /** Events may have been missed: looks at every vif that is known. */
  kickAll(): void {
    for (const text of this.vifs.keys()) this.kick(text);
  }

  /** How many vifs are in each phase. */
  counts(): Record<Phase, number> {
    const counts = { new: 0, waiting: 0, connected: 0, failed: 0, leaving: 0 };
    for (const { phase } of this.vifs.values()) counts[phase]++;
    return counts;
  }

  /** Resolves when no run is under way. Leaves every vif as it is. */
  stop(): Promise<void> {
    return this.loop.stop();
  }

  private kick(text: KeyText): void {
    const vif = this.vifs.get(text);
    if (vif?.phase === 'connected' && vif.backend !== undefined) this.loop.kickLater(text, SETTLE_MS);
    else void this.loop.kick(text);
  }

  private async run(text: KeyText): Promise<void> {
    const vif = this.vifs.get(text) ?? newVif(parseKeyText(text));
    this.vifs.set(text, vif);
    try {
      await this.look(vif);
    } catch (error) {
      await this.fail(vif, error);
    }
  }

  private async look(vif: Vif): Promise<void> {
    const { store } = this.io;
    const [liveNodes, fixed] = await Promise.all([
      readLiveNodes(store, vif.key),
      vif.backend === undefined ? this.readFixed(vif) : undefined,
    ]);
    const live = parseLive(liveNodes);
    if (live.state === undefined) return this.forget(vif);
    // Before anything is judged: a vif that dom0 described badly must leave as well as any other.
    if (await this.depart(vif, live, live.state)) return;
    // Not the directory that was connected: made anew meanwhile, and the event is still to come or was lost.
    const stale = vif.phase === 'connected' && live.hotplugStatus !== 'connected';
    const nodes = fixed ?? (stale ? await this.readFixed(vif) : undefined);
    if (nodes !== undefined) this.accept(vif, parseBackend(vif.key, nodes));
    if (live.state <= XenbusState.Initialising) return this.wait(vif, live, live.state);
    await this.bringUp(vif, live, live.state);
  }

  private async readFixed(vif: Vif): Promise<RawNodes> {
    const [nodes, mtu] = await Promise.all([
      readFixedNodes(this.io.store, vif.key),
      readFrontendNode(this.io.store, vif.key, 'mtu'),
    ]);
    vif.frontendMtu = mtu;
    return nodes;
  }

  private accept(vif: Vif, backend: VifBackend): void {
    vif.backend = backend;
    vif.want = resolveAttachment(backend, this.io.config);
  }

  private async bringUp(vif: Vif, live: VifLive, state: number): Promise<void> {
    if (vif.want === undefined) return;
    const attached = await attach(vif.want, this.io.kernel);
    if (attached === undefined) return this.wait(vif, live, state);
    await this.tellGuestMtu(vif, attached.mtu);
    if (!(await writeConnected(this.io.store, vif.key, live, this.io.privileged))) return this.forget(vif);
    this.reportConnected(vif, live, attached);
    vif.waiting = undefined;
    this.enter(vif, 'connected');
  }

  /** Best effort: before Xen 4.15 the node is missing or dom0's, and the guest may remove it at any time. */
  private async tellGuestMtu(vif: Vif, mtu: number): Promise<void> {
    if (vif.frontendMtu === undefined || vif.frontendMtu === String(mtu)) return;
    vif.frontendMtu = String(mtu); // tried once
    try {
      await this.io.store.write(`${frontendDir(vif.key)}/mtu`, String(mtu));
    } catch (error) {
      if (!hasCode(error, 'EACCES', 'ENOENT')) throw error;
      this.logOf(vif).debug(`the guest was not told its MTU of ${mtu}: its mtu node cannot be written`);
    }
  }

  private reportConnected(vif: Vif, live: VifLive, { bridge, steps, warnings }: Attached): void {
    const log = this.logOf(vif, { bridge });
    for (const warning of warnings) this.sayOnce(vif, () => log.warn(warning), warning);
    const did = steps.map(describeStep);
    const name = vif.want?.ifname;
    if (vif.phase === 'connected') {
      if (did.length > 0) log.warn({ did }, `repaired ${name} on ${bridge}: ${did.join(', ')}`);
      return;
    }
    const ms = Math.round(10 * (performance.now() - vif.firstSeen)) / 10;
    const adopted = live.hotplugStatus === 'connected' && did.length === 0;
    log.info(
      { did, ms },
      adopted ? `${name} is connected to ${bridge} already` : `connected ${name} to ${bridge} in ${ms} ms`,
    );
    if (vif.backend?.type === 'vif_ioemu') {
      log.debug(
        "the guest's emulated card is QEMU's matter, in the domain where QEMU runs; nothing is done for it here",
      );
    }
  }

  /** Nothing to do until netback moves; if it does not, that is the error. Polls too: the event may have been missed. */
  private async wait(vif: Vif, live: VifLive, state: number): Promise<void> {
    const closed = state === XenbusState.Closing || state === XenbusState.Closed;
    if (closed && live.hotplugStatus === 'connected') return this.enter(vif, 'connected'); // the guest let go; dom0 has the next word
    if (vif.waiting?.state !== state) {
      vif.waiting = { state, since: performance.now() };
      if (vif.phase !== 'failed') this.enter(vif, 'waiting');
    }
    if (vif.phase === 'failed' || performance.now() - vif.waiting.since >= PATIENCE_MS)
      return this.netbackFailed(vif, state);
    this.loop.kickLater(keyText(vif.key), this.nextDelay(vif, LAST_POLL_MS));
  }

  private async netbackFailed(vif: Vif, state: number): Promise<never> {
    if (state <= XenbusState.Initialising) {
      throw new AttachError(
        'ENONETBACK',
        `xen-netback has not taken this vif (state is still ${state})`,
        'load its module in this domain: modprobe xen-netback',
      );
    }
    const closed = state === XenbusState.Closing || state === XenbusState.Closed;
    const what = closed
      ? `xen-netback gave this vif up (state ${state})`
      : `xen-netback made no interface ${vif.want?.kernelName}`;
    const reason = await readKernelError(this.io.store, vif.key);
    throw new AttachError(
      'ENOLINK',
      what,
      reason === undefined ? 'see the kernel log of this domain: dmesg | grep vif' : `the kernel says: ${reason}`,
    );
  }

  /** Whether the vif is on its way out. Removes its directory when the time has come. */
  private async depart(vif: Vif, live: VifLive, state: number): Promise<boolean> {
    const delayMs = await this.departureDelay(vif, live.online, state);
    if (delayMs === undefined) {
      vif.departure = undefined;
      if (!live.online) this.loop.kickLater(keyText(vif.key), LEAVING_POLL_MS);
    } else {
      if (vif.departure?.delayMs !== delayMs) vif.departure = { delayMs, since: performance.now() };
      const restMs = vif.departure.since + delayMs - performance.now();
      if (restMs > 0) this.loop.kickLater(keyText(vif.key), restMs);
      else await this.remove(vif, live.online, state);
    }
    const leaving = !live.online || delayMs !== undefined;
    if (leaving) this.enter(vif, 'leaving');
    return leaving;
  }

  private async departureDelay(vif: Vif, online: boolean, state: number): Promise<number | undefined> {
    if (online && state !== XenbusState.Closed) return undefined;
    if (!online && state === XenbusState.Closed) return GRACE_MS;
    const [frontendState, link] = await Promise.all([
      readFrontendNode(this.io.store, vif.key, 'state'),
      vif.want === undefined ? undefined : findLink(vif.want, this.io.kernel),
    ]);
    return frontendState === undefined && link === undefined ? STUCK_GRACE_MS : undefined;
  }

  private async remove(vif: Vif, online: boolean, state: number): Promise<void> {
    const result = await removeBackend(this.io.store, vif.key, { state, online });
    if (result === 'changed') return void this.loop.kick(keyText(vif.key));
    this.forget(vif);
  }

  private async fail(vif: Vif, error: unknown): Promise<void> {
    if (error instanceof ConnectionError) return; // the agent connects anew and looks at everything
    if (hasCode(error, 'ENODEV') && this.mayBePassing(vif)) return;
    const failure = explainFailure(error);
    vif.backend = undefined;
    try {
      if (!(await this.tellError(vif, failure.message))) return this.forget(vif);
    } catch (secondary) {
      if (secondary instanceof ConnectionError) return;
      this.sayFailure(vif, explainFailure(secondary));
    }
    this.enter(vif, 'failed');
    this.sayFailure(vif, failure);
    this.loop.kickLater(keyText(vif.key), this.nextDelay(vif, LAST_RETRY_MS));
  }

  /** An interface that went between two steps: the guest left, or netback is late. The next look tells; unless it goes on. */
  private mayBePassing(vif: Vif): boolean {
    vif.waiting ??= { state: -1, since: performance.now() };
    if (vif.phase === 'failed' || performance.now() - vif.waiting.since >= PATIENCE_MS) return false;
    this.loop.kickLater(keyText(vif.key), FIRST_POLL_MS);
    return true;
  }

  /** False when the directory is gone. A vif that leaves is told nothing any more. */
  private async tellError(vif: Vif, message: string): Promise<boolean> {
    const nodes = await readLiveNodes(this.io.store, vif.key);
    if (nodes.get('state') === undefined) return false;
    if (nodes.get('online') === '0') return true;
    return writeError(
      this.io.store,
      vif.key,
      { hotplugStatus: nodes.get('hotplug-status'), hotplugError: nodes.get('hotplug-error') },
      message,
    );
  }

  private sayFailure(vif: Vif, { code, message, hint }: Failure): void {
    const sentence = hint === '' ? message : `${message}; ${hint}`;
    this.sayOnce(
      vif,
      () => this.logOf(vif).error({ code }, `${vif.want?.ifname ?? `vif ${keyText(vif.key)}`}: ${sentence}`),
      sentence,
    );
  }

  private sayOnce(vif: Vif, say: () => void, sentence: string): void {
    if (vif.said.has(sentence)) return;
    vif.said.add(sentence);
    say();
  }

  private enter(vif: Vif, phase: Phase): void {
    if (vif.phase === phase) return;
    vif.phase = phase;
    vif.delayMs = phase === 'failed' ? FIRST_RETRY_MS : FIRST_POLL_MS;
    if (phase === 'connected') vif.said.clear();
  }

  private nextDelay(vif: Vif, limitMs: number): number {
    const delayMs = vif.delayMs;
    vif.delayMs = Math.min(2 * delayMs, limitMs);
    return delayMs;
  }

  private forget(vif: Vif): void {
    this.vifs.delete(keyText(vif.key));
    if (vif.want !== undefined) this.logOf(vif).info(`${vif.want.ifname} has left`);
  }

  private logOf({ key, want }: Vif, more: object = {}): Logger {
    return this.io.log.child({ domid: key.domid, devid: key.devid, ifname: want?.ifname, ...more });
  }
}

function newVif(key: BackendKey): Vif {
  return {
    key,
    phase: 'new',
    firstSeen: performance.now(),
    backend: undefined,
    want: undefined,
    frontendMtu: undefined,
    waiting: undefined,
    departure: undefined,
    delayMs: FIRST_POLL_MS,
    said: new Set(),
  };
}
