/**
 * One vif: looks at what dom0 asked for and at what is, and brings the one to the other.
 *
 * INVARIANTS
 * - A look reads the vif afresh. One exception: the nodes that dom0 writes once are kept from before `state` 2, to be
 *   quick then. An event on one of them or on the directory, a failure, or a status that is not ours drops them.
 * - `connected` is written only after everything asked for is in force, and never blanked; `state` and `online` never.
 * - A vif is connected, or waits for something with a deadline, or leaves, or has an error that says why.
 */
import type { Logger } from 'pino';
import type { Config } from '../config/schema.js';
import { AttachError, ConnectionError, hasCode, XenstoreError } from '../errors.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, frontendDir, keyText } from '../xenstore/paths.js';
import { type Attached, attach } from './attach.js';
import { parseBackend, parseLive, type RawNodes, type VifBackend, type VifLive, XenbusState } from './backend.js';
import { explainFailure, explainKernelError, type Failure } from './failure.js';
import { writeConnected, writeError } from './hotplug-status.js';
import { type FoundBridge, findBridge, findLink, mayServe } from './observe.js';
import { describeStep } from './plan.js';
import { type Attachment, resolveAttachment } from './policy.js';
import { readFixedNodes, readFrontendNode, readKernelError, readLiveNodes } from './reader.js';
import { GRACE_MAX_MS, GRACE_MS, GRACE_PER_VIF_MS, removeBackend, STUCK_GRACE_MS } from './removal.js';

export interface VifIo {
  readonly store: XenstoreClient;
  readonly kernel: KernelNetwork;
  readonly config: Config;
  readonly log: Logger;
  /** In dom0, whose writes xenstore never refuses. */
  readonly privileged: boolean;
}

/** What dom0 has on its hands with this guest. */
export interface GuestActivity {
  /** When `state` or `online` of any of its vifs last changed, by performance.now(); absent: not since vifd runs. */
  readonly changedAt?: number | undefined;
  readonly vifs: number;
}

export type Phase = 'new' | 'waiting' | 'connected' | 'failed' | 'leaving';

/** When to look again: when something happens; or also after a while; or never, for the vif is no more. */
export type Next = 'rest' | 'forget' | { readonly againMs: number };

/** How long netback may take to the next sign of life before that is an error. */
const PATIENCE_MS = 2_000;
const FIRST_POLL_MS = 25;
const LAST_POLL_MS = 400;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 30_000;
/** While a vif leaves: how often to check for what no event tells, such as a frontend that vanished. */
const LEAVING_POLL_MS = 1_000;

export class Vif {
  phase: Phase = 'new';
  private readonly firstSeen = performance.now();
  private backend: VifBackend | undefined;
  /** Kept when `backend` is dropped: it says which interfaces concern this vif. */
  private want: Attachment | undefined;
  private frontendMtu: string | undefined;
  /** Found before `state` 2. */
  private preparedBridge: FoundBridge | undefined;
  /** What it waits in, and since when: a new state gets new patience. */
  private waiting: { readonly state: number; readonly since: number } | undefined;
  /** The grace that runs before its directory goes. */
  private departure: { readonly delayMs: number; readonly state: number; readonly since: number } | undefined;
  /** The next poll's or retry's delay. */
  private delayMs = FIRST_POLL_MS;
  /** Sentences that the log has already. */
  private readonly said = new Set<string>();

  constructor(
    readonly key: BackendKey,
    private readonly io: VifIo,
    private readonly guest: () => GuestActivity,
  ) {}

  /**
   * How long after a change the vif is looked at: once, not once for each of the change's echoes. A vif that leaves has its
   * grace to wait for anyway, and dom0 and the kernel need xenstored for themselves then.
   */
  get settleMs(): number {
    if (this.phase === 'leaving') return 500;
    return this.phase === 'connected' && this.backend !== undefined ? 200 : 0;
  }

  /** What dom0 wrote once may have changed. */
  dropBackend(): void {
    this.backend = undefined;
    if (this.phase === 'leaving') this.phase = 'new'; // the directory went, or is being made anew
  }

  /** Whether a change of this interface may be one for this vif. */
  concerns(ifname: string): boolean {
    if (this.want === undefined) return false;
    if (this.want.kernelName === ifname || this.want.ifname === ifname) return true;
    return this.phase === 'failed' && mayServe(this.want.bridge, ifname);
  }

  /** Does whatever there is to do now. Never rejects. */
  async look(): Promise<Next> {
    try {
      return await this.reconcile();
    } catch (error) {
      return this.fail(error);
    }
  }

  private async reconcile(): Promise<Next> {
    if (this.departure !== undefined && performance.now() >= this.dueAt(this.departure)) {
      const { state } = this.departure;
      this.departure = undefined;
      if ((await removeBackend(this.io.store, this.key, state)) !== 'changed') return this.forget();
    }
    const [liveNodes, fixed] = await Promise.all([
      readLiveNodes(this.io.store, this.key),
      this.backend === undefined ? this.readFixed() : undefined,
    ]);
    const live = parseLive(liveNodes);
    if (live.state === undefined) return this.forget();
    // Before anything is judged: a vif that dom0 described badly must leave as well as any other.
    const departure = await this.depart(live, live.state);
    if (departure !== undefined) return departure;
    // Not the directory that was connected: made anew meanwhile, and the event is still to come or was lost.
    const stale = this.phase === 'connected' && live.hotplugStatus !== 'connected';
    const nodes = fixed ?? (stale ? await this.readFixed() : undefined);
    if (nodes !== undefined) this.backend = parseBackend(this.key, nodes);
    if (this.backend === undefined) return this.wait(live, live.state);
    if (live.state <= XenbusState.Initialising) return this.prepare(this.backend, live, live.state);
    if (isClosed(live.state)) await this.checkKernelError(live.state);
    return this.bringUp(this.backend, live, live.state);
  }

  private async readFixed(): Promise<RawNodes> {
    const { store } = this.io;
    const [nodes, mtu] = await Promise.all([readFixedNodes(store, this.key), readFrontendNode(store, this.key, 'mtu')]);
    this.frontendMtu = mtu;
    return nodes;
  }

  /** While netback gets ready: finds what will be needed. What is wrong may be right by then, so nothing is said yet. */
  private async prepare({ bridge }: VifBackend, live: VifLive, state: number): Promise<Next> {
    this.preparedBridge ??= await findBridge(bridge, this.io.kernel).catch(() => undefined);
    return this.wait(live, state);
  }

  private async bringUp(backend: VifBackend, live: VifLive, state: number): Promise<Next> {
    this.want = resolveAttachment(backend, this.io.config);
    const { preparedBridge: bridge } = this;
    this.preparedBridge = undefined; // good for one attempt
    const attached = await attach(this.want, this.io.kernel, { bridge, fresh: live.hotplugStatus !== 'connected' });
    if (attached === undefined) return this.wait(live, state);
    await this.tellGuestMtu(attached.mtu);
    if (!(await writeConnected(this.io.store, this.key, live, this.io.privileged))) return this.forget();
    this.reportConnected(backend, live, attached);
    this.waiting = undefined;
    this.enter('connected');
    return 'rest';
  }

  /** Best effort: before Xen 4.15 the node is missing or dom0's, and the guest may remove it at any time. */
  private async tellGuestMtu(mtu: number): Promise<void> {
    if (this.frontendMtu === undefined || this.frontendMtu === String(mtu)) return;
    this.frontendMtu = String(mtu); // tried once
    try {
      await this.io.store.write(`${frontendDir(this.key)}/mtu`, String(mtu));
    } catch (error) {
      if (!hasCode(error, 'EACCES', 'ENOENT')) throw error;
      this.log().debug(`the guest was not told its MTU of ${mtu}: its mtu node cannot be written`);
    }
  }

  private reportConnected(backend: VifBackend, live: VifLive, { bridge, steps, warnings }: Attached): void {
    for (const warning of warnings) this.sayOnce(warning, () => this.log({ bridge }).warn(warning));
    const did = steps.map(describeStep);
    const name = this.want?.ifname;
    if (this.phase === 'connected') {
      if (did.length > 0) this.log({ bridge, did }).warn(`repaired ${name} on ${bridge}: ${did.join(', ')}`);
      return;
    }
    const ms = Math.round(10 * (performance.now() - this.firstSeen)) / 10;
    const adopted = live.hotplugStatus === 'connected' && did.length === 0;
    const sentence = adopted
      ? `${name} is connected to ${bridge} already`
      : `connected ${name} to ${bridge} in ${ms} ms`;
    this.log({ bridge, did, ms }).info(sentence);
    if (backend.type === 'vif_ioemu') {
      this.log().debug("the guest's emulated card is QEMU's matter, where QEMU runs; nothing is done for it here");
    }
  }

  /** Nothing to do until netback moves; if it does not, that is the error. Polls too: the event may have been missed. */
  private async wait(live: VifLive, state: number): Promise<Next> {
    if (isClosed(state) && live.hotplugStatus === 'connected') {
      this.enter('connected'); // the guest let go and its interface with it; dom0 has the next word
      return 'rest';
    }
    if (this.waiting?.state !== state) {
      this.waiting = { state, since: performance.now() };
      if (this.phase !== 'failed') this.enter('waiting');
    }
    if (this.phase === 'failed' || performance.now() - this.waiting.since >= PATIENCE_MS)
      await this.blameNetback(state);
    return { againMs: this.nextDelay(LAST_POLL_MS) };
  }

  private async blameNetback(state: number): Promise<never> {
    if (state <= XenbusState.Initialising) {
      const what = `xen-netback has not taken this vif (state is still ${state})`;
      throw new AttachError('ENONETBACK', what, 'load its module in this domain: modprobe xen-netback');
    }
    await this.checkKernelError(state);
    const what = isClosed(state) ? gaveUp(state) : `xen-netback made no interface ${this.want?.kernelName}`;
    throw new AttachError('ENOLINK', what, 'see the kernel log of this domain: dmesg | grep vif');
  }

  /** A vif that netback closed for a fault of its own looks like one that the guest closed, but for this node. */
  private async checkKernelError(state: number): Promise<void> {
    const text = await readKernelError(this.io.store, this.key);
    if (text !== undefined) throw new AttachError('ENETBACK', gaveUp(state), explainKernelError(text));
  }

  /** What a vif on its way out needs; undefined for one that stays. */
  private async depart(live: VifLive, state: number): Promise<Next | undefined> {
    const delayMs = await this.departureDelay(live.online, state);
    if (delayMs === undefined) {
      this.departure = undefined;
      if (live.online) return undefined;
      this.enter('leaving');
      return { againMs: LEAVING_POLL_MS };
    }
    this.enter('leaving');
    if (this.departure?.delayMs !== delayMs || this.departure.state !== state) {
      this.departure = { delayMs, state, since: performance.now() };
    }
    return { againMs: Math.max(0, this.dueAt(this.departure) - performance.now()) };
  }

  private dueAt({ delayMs, since }: { delayMs: number; since: number }): number {
    if (delayMs !== GRACE_MS) return since + delayMs;
    const { changedAt = since, vifs } = this.guest();
    return Math.min(changedAt + GRACE_MS + (vifs - 1) * GRACE_PER_VIF_MS, since + GRACE_MAX_MS);
  }

  /** The grace that this condition is given; undefined: the directory stays. */
  private async departureDelay(online: boolean, state: number): Promise<number | undefined> {
    if (online && state !== XenbusState.Closed) return undefined;
    if (!online && state === XenbusState.Closed) return GRACE_MS;
    const [frontendState, link] = await Promise.all([
      readFrontendNode(this.io.store, this.key, 'state'),
      this.want === undefined ? undefined : findLink(this.want, this.io.kernel),
    ]);
    return frontendState === undefined && link === undefined ? STUCK_GRACE_MS : undefined;
  }

  private async fail(error: unknown): Promise<Next> {
    if (error instanceof ConnectionError) return 'rest'; // the agent connects anew and looks at everything
    if (hasCode(error, 'ENODEV') && this.mayBePassing()) return { againMs: FIRST_POLL_MS };
    const failure = explainFailure(error);
    if (error instanceof XenstoreError && error.code === 'ETIMEDOUT') {
      this.sayFailure(failure); // nothing is known to be wrong with the vif, and nobody would take the word
      return { againMs: LAST_POLL_MS };
    }
    this.backend = undefined;
    try {
      if (!(await this.tellError(failure.message))) return this.forget();
    } catch (secondary) {
      if (secondary instanceof ConnectionError) return 'rest';
      this.sayFailure(explainFailure(secondary));
    }
    this.enter('failed');
    this.sayFailure(failure);
    return { againMs: this.nextDelay(LAST_RETRY_MS) };
  }

  /** An interface that went between two steps: the guest left, or netback is late. The next look tells; unless it goes on. */
  private mayBePassing(): boolean {
    this.waiting ??= { state: -1, since: performance.now() };
    return this.phase !== 'failed' && performance.now() - this.waiting.since < PATIENCE_MS;
  }

  /** False when the directory is gone. A vif that leaves is told nothing any more. */
  private async tellError(message: string): Promise<boolean> {
    const nodes = await readLiveNodes(this.io.store, this.key);
    if (nodes.get('state') === undefined) return false;
    if (nodes.get('online') === '0') return true;
    const told = { hotplugStatus: nodes.get('hotplug-status'), hotplugError: nodes.get('hotplug-error') };
    return writeError(this.io.store, this.key, told, message);
  }

  private sayFailure({ code, message, hint }: Failure): void {
    const sentence = hint === '' ? message : `${message}; ${hint}`;
    const name = this.want?.ifname ?? `vif ${keyText(this.key)}`;
    this.sayOnce(sentence, () => this.log({ code }).error(`${name}: ${sentence}`));
  }

  private sayOnce(sentence: string, say: () => void): void {
    if (this.said.has(sentence)) return;
    this.said.add(sentence);
    say();
  }

  private enter(phase: Phase): void {
    if (this.phase === phase) return;
    this.phase = phase;
    this.delayMs = phase === 'failed' ? FIRST_RETRY_MS : FIRST_POLL_MS;
    if (phase === 'connected') this.said.clear();
  }

  private nextDelay(limitMs: number): number {
    const { delayMs } = this;
    this.delayMs = Math.min(2 * delayMs, limitMs);
    return delayMs;
  }

  private forget(): Next {
    if (this.want !== undefined) this.log().info(`${this.want.ifname} has left`);
    return 'forget';
  }

  private log(more: object = {}): Logger {
    return this.io.log.child({ ...this.key, ifname: this.want?.ifname, ...more });
  }
}

const isClosed = (state: number): boolean => state === XenbusState.Closing || state === XenbusState.Closed;

const gaveUp = (state: number): string => `xen-netback gave this vif up (state ${state})`;
