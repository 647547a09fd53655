/**
 * One vif: looks at what dom0 asked for and at what is, and brings the one to the other.
 *
 * INVARIANTS
 * - A look reads the vif afresh. One exception: the nodes that dom0 writes once are kept from look to look. An event on one
 *   of them, the periodic scan, a failure, or a status that is not ours drops them; a directory made anew gets a new Vif.
 * - `connected` is written only after everything asked for is in force, and never blanked; only an error that says why
 *   takes its place. `state` and `online` are never written.
 * - A vif is connected, or waits for something with a deadline, or leaves, or has an error that says why.
 */
import { ConnectionError, hasCode, XenstoreError } from '../errors.js';
import type { BackendKey } from '../xenstore/paths.js';
import { type Attached, attach } from './attach.js';
import { type Attachment, bridgeOf, isRouted } from './attachment.js';
import {
  type Ifname,
  parseBackend,
  parseLive,
  type RawNodes,
  type VifBackend,
  type VifLive,
  XenbusState,
} from './backend.js';
import { Departure, type GuestActivity, type LeavingReason } from './departure.js';
import { explainFailure } from './failure.js';
import { GuestMtu, readFrontendNode } from './frontend.js';
import { factsOf } from './hooks.js';
import { tellError, writeConnected } from './hotplug-status.js';
import type { Wanted } from './leftovers.js';
import { blameNetback, checkKernelError, closeKernelError, isClosed } from './netback-fault.js';
import { findLink } from './observe.js';
import { Patience } from './patience.js';
import { mayServe, resolveAttachment } from './policy.js';
import { readAllNodes, readLiveNodes } from './reader.js';
import { removeBackend, removeKernelError } from './removal.js';
import type { Whereabouts } from './script-answer.js';
import { UserScript } from './user-script.js';
import { type Next, type Phase, SETTLE_MS, type VifIo } from './vif-io.js';
import { VifLog } from './vif-log.js';

export type { Next, Phase, VifIo } from './vif-io.js';

/** Answers that pass: the interface went, or down, between steps; several appear at once (contract 10.6); a name is still held. */
const PASSING = ['ENODEV', 'ENETDOWN', 'EBUSY', 'EEXIST'];
/** While a vif leaves: how often to check for what no event tells, such as a frontend that vanished. */
const LEAVING_POLL_MS = 1_000;
export class Vif {
  phase: Phase = 'new';
  /** Where it was connected last. */
  place: Whereabouts | undefined;
  /** Why it failed last: the sentence in hotplug-error. */
  failure = '';
  private backend: VifBackend | undefined;
  /** Whether the directory has been read once. Events of its making may come until then. */
  hasRead = false;
  private retired = false;
  /** To be called when it is known what the vif needs. */
  private expected = () => {};
  /** Counts the calls of dropBackend(): what was read before one must not be kept, and a look that it came upon is not the last. */
  drops = 0;
  /** Kept when `backend` is dropped: it says which interfaces concern this vif. */
  private want: Attachment | undefined;
  private inForce: Attachment | undefined;
  private readonly guestMtu: GuestMtu;
  /** Bytes; in force since the guest's driver has been connected. Neither a refusal nor the bridge changes it then. */
  private settledMtu: number | undefined;
  private readonly patience = new Patience();
  private readonly departure: Departure;
  readonly log: VifLog;
  readonly script: UserScript;
  /** By this vifd or the one before, since this directory has been there. */
  private wasConnected = false;

  /** `wake` has it looked at. */
  constructor(
    readonly key: BackendKey,
    private readonly io: VifIo,
    guest: () => GuestActivity,
    wake: () => void,
  ) {
    this.departure = new Departure(guest);
    this.log = new VifLog(key, io.log, io.counts);
    this.guestMtu = new GuestMtu(key, io);
    this.script = new UserScript(io.programs, this.log, wake);
  }

  /** Milliseconds that a kick may wait. */
  get settleMs(): number {
    return SETTLE_MS[this.phase];
  }

  /** The one it is a port of, or should be. */
  get bridge(): string | undefined {
    return this.phase === 'connected' ? this.place?.bridge : (bridgeOf(this.want) ?? this.place?.bridge);
  }

  /** As settleMs, for a change of its interface: dom0 and the guest do not wait for a fight with another program. */
  get linkSettleMs(): number {
    return this.phase === 'connected' ? Math.max(this.settleMs, this.patience.untilRepair()) : this.settleMs;
  }

  /** What dom0 wrote once may have changed. */
  dropBackend(): void {
    this.backend = undefined;
    this.drops++;
  }

  /** The directory went, or was made anew, after this one had been read: another Vif takes over, this one writes no more. */
  retire(): void {
    this.retired = true;
    this.script.isOffline(this.want); // its successor's `online` comes after it
    this.sayLeft();
  }

  /** Whether a change of this interface may be one for this vif. */
  concerns(ifname: string): boolean {
    if (this.want === undefined) return false;
    if (this.want.kernelName === ifname || this.want.ifname === ifname) return true;
    if (this.phase !== 'failed') return false;
    return isRouted(this.want) || mayServe(bridgeOf(this.want), ifname);
  }

  /** Undefined while its nodes have not been read, or cannot be accepted. */
  get wanted(): Wanted | undefined {
    return this.want && { ...this.want, inForce: this.want === this.inForce };
  }

  /** Does whatever there is to do now. Never rejects. */
  async look(): Promise<Next> {
    this.expected = this.io.attaching.expect();
    try {
      return await this.reconcile();
    } catch (error) {
      return this.fail(error);
    } finally {
      this.expected();
    }
  }

  /** `xl devd` removes the directory itself, and as soon as its script ends. */
  leaveRemoval(): void {
    this.departure.leaveToAnother();
  }

  /** It has left but for its directory. */
  get mayGo(): boolean {
    return this.departure.mayGo && !this.script.isRunning;
  }

  private async reconcile(): Promise<Next> {
    if (this.departure.isOver() && !this.script.isRunning && (await this.removed(XenbusState.Closed, false)))
      return this.forget();
    const { drops, backend: known } = this;
    const { store } = this.io;
    const nodes = await (known === undefined ? readAllNodes(store, this.key) : readLiveNodes(store, this.key));
    this.hasRead = true;
    const live = parseLive(nodes);
    if (live.state === undefined) return this.vanished();
    // Before anything is judged: a vif that dom0 described badly must leave as well as any other.
    const departure = await this.depart(live, live.state, nodes);
    if (departure !== undefined) return departure;
    if (!live.hotplugStatus && live.state <= XenbusState.InitWait) {
      // vifd has had its say, whatever came after; this directory knows of none. (It is the old one still only where the guest
      // of a Linux 5.16, see bringUp, lets go before vifd has said it again.)
      if (this.wasConnected) return 'replaced';
      this.io.hooks?.left(this.key); // one that was here before the connection to xenstore was lost
    }
    // Not the directory that was connected: made anew meanwhile, and the event is still to come or was lost.
    const stale = known !== undefined && this.phase === 'connected' && live.hotplugStatus !== 'connected';
    const backend =
      known === undefined || stale ? this.parse(stale ? await readAllNodes(store, this.key) : nodes) : known;
    if (drops === this.drops) this.backend = backend; // else it may be old already, and another look is asked for
    if (live.state <= XenbusState.Initialising) return this.wait(live, live.state);
    this.log.taken();
    if (isClosed(live.state)) await checkKernelError(store, this.key, live.state);
    return this.bringUp(backend, live, live.state);
  }

  private parse(nodes: RawNodes): VifBackend {
    const backend = parseBackend(this.key, nodes);
    return { ...backend, bridge: backend.bridge ?? this.io.defaultBridge };
  }

  private async bringUp(backend: VifBackend, live: VifLive, state: number): Promise<Next> {
    const asked = resolveAttachment(backend, this.io.config);
    const want = this.wasConnected ? this.script.asPlugged(asked, this.inForce) : asked;
    const { mode, mtu } = want;
    const same = mode === this.want?.mode && mtu === this.want.mtu && bridgeOf(want) === bridgeOf(this.want);
    if (!same || state !== XenbusState.Connected) this.settledMtu = undefined; // else another driver may be coming
    this.want = want;
    this.log.ifname = want.ifname;
    const fresh = live.hotplugStatus !== 'connected' || this.script.isActive; // it may have written it itself
    this.expected();
    // Linux 5.16 removes the status whenever a guest connects.
    const unsaid = !live.hotplugStatus && state !== XenbusState.Connected;
    const said = unsaid ? 'nothing' : fresh ? 'something' : 'connected';
    const spared = { said, overdue: this.isOverdue() } as const;
    const attached = await attach({ ...want, mtu: this.settledMtu ?? want.mtu }, this.io, spared);
    if (attached === undefined) return this.wait(live, state);
    this.inForce = want;
    this.settledMtu = attached.mtu;
    this.place = { ifname: want.ifname, bridge: attached.bridge ?? '-', ip: backend.ip };
    if (!this.script.isOnline(want, fresh)) {
      if (this.phase !== 'failed') this.enter('waiting');
      return 'rest'; // its end wakes the vif
    }
    if (!(await this.guestMtu.tell(attached.mtu, want.mtu)))
      this.log.debug(`the guest was not told its MTU of ${attached.mtu}: its mtu node cannot be written`);
    if (this.retired) return 'rest';
    if (!(await writeConnected(this.io.store, this.key, live, this.io.privileged))) return this.forget();
    if (this.retired) return 'rest';
    this.io.dhcp?.serve(this.key, want, attached.gateways);
    this.patience.end();
    this.script.settle();
    this.io.hooks?.connected(factsOf(backend, want, attached.bridge), fresh);
    if (fresh && !this.wasConnected) this.log.attached();
    this.wasConnected = true;
    if (this.phase !== 'connected') this.enterConnected(backend, fresh, attached);
    else if (attached.steps.length > 0) this.log.repaired(attached, this.patience.repaired());
    for (const warning of [...attached.warnings, ...backend.complaints]) this.log.warn(warning);
    if (state === XenbusState.Connected)
      await closeKernelError(this.io.store, this.key, (sentence) => this.log.warn(sentence));
    return 'rest';
  }

  private enterConnected(backend: VifBackend, fresh: boolean, attached: Attached): void {
    this.enter('connected');
    this.log.clear();
    this.log.connected(attached, !fresh);
    if (backend.type === 'vif_ioemu')
      this.log.debug("the guest's emulated card is QEMU's matter, where QEMU runs; nothing is done for it here");
  }

  /** Nothing to do until netback moves; if it does not, that is the error. Polls too: the event may have been missed. */
  private async wait(live: VifLive, state: number): Promise<Next> {
    if (isClosed(state) && live.hotplugStatus === 'connected') {
      this.enter('connected'); // the guest let go and its interface with it; dom0 has the next word
      return 'rest';
    }
    this.patience.waitIn(state);
    if (this.phase !== 'failed') this.enter('waiting');
    if (this.isOverdue()) await blameNetback(this.io.store, this.key, state, this.want?.kernelName ?? this.likelyName);
    return { againMs: this.patience.nextPoll() };
  }

  private isOverdue(): boolean {
    return this.phase === 'failed' || this.patience.isOver();
  }

  /** What a vif on its way out needs; undefined for one that stays. */
  private async depart({ online }: VifLive, state: number, nodes: RawNodes): Promise<Next | undefined> {
    const reason = await this.reasonToLeave(online, state);
    if (reason === undefined) {
      this.departure.cancel();
      this.script.stay();
      if (online) return undefined;
      this.enter('leaving');
      return { againMs: LEAVING_POLL_MS };
    }
    this.enter('leaving');
    const againMs = this.departure.begin(reason, state);
    if (!this.script.isOffline(this.want ?? this.wantedBefore(nodes))) return 'rest';
    return againMs === 0 && (await this.removed(state, online)) ? this.forget() : { againMs };
  }

  /** By a vifd before this one; undefined for a vif that can never have been connected. */
  private wantedBefore(nodes: RawNodes): Attachment | undefined {
    try {
      return resolveAttachment(this.parse(nodes), this.io.config);
    } catch {
      return undefined;
    }
  }

  /** Why the directory has to go; undefined: it stays. */
  private async reasonToLeave(online: boolean, state: number): Promise<LeavingReason | undefined> {
    if (online && state !== XenbusState.Closed) return undefined;
    if (!online && state === XenbusState.Closed) return 'closed';
    const [frontendState, link] = await Promise.all([
      readFrontendNode(this.io.store, this.key, 'state'),
      this.want === undefined ? this.io.kernel.getLink(this.likelyName) : findLink(this.want, this.io.kernel),
    ]);
    return frontendState === undefined && link === undefined ? 'abandoned' : undefined;
  }

  /** Netback's name for the interface while its `handle` has not been read, as after a restart; they never differ in practice. */
  private get likelyName(): Ifname {
    return `vif${this.key.domid}.${this.key.devid}` as Ifname;
  }

  /** False when dom0 has made the vif anew. */
  private async removed(state: number, online: boolean): Promise<boolean> {
    this.departure.cancel();
    if ((await removeBackend(this.io.store, this.key, { state, online })) === 'changed') return false;
    await removeKernelError(this.io.store, this.key);
    return true;
  }

  private async fail(error: unknown): Promise<Next> {
    // The agent ends, or connects anew and looks at everything; or another Vif has taken over.
    if (error instanceof ConnectionError || hasCode(error, 'ECANCELED') || this.retired) return 'rest';
    if (hasCode(error, ...PASSING)) {
      this.patience.waitOut();
      if (!this.isOverdue()) return { againMs: this.patience.nextPoll() };
    }
    const failure = explainFailure(error);
    this.failure = failure.message;
    if (error instanceof XenstoreError && error.code === 'ETIMEDOUT') {
      this.log.failed(failure); // nothing is known to be wrong with the vif, and nobody would take the word
      return { againMs: this.patience.nextRetry() };
    }
    this.backend = undefined;
    this.settledMtu = undefined;
    this.enter('failed'); // before the word is written: its echo is none of a failed vif's concerns
    try {
      if (!(await tellError(this.io.store, this.key, failure.message))) return this.forget();
    } catch (secondary) {
      if (secondary instanceof ConnectionError) return 'rest';
      this.log.failed(explainFailure(secondary));
    }
    this.log.failed(failure);
    return { againMs: this.patience.nextRetry() };
  }

  private enter(phase: Phase): void {
    if (this.phase === phase) return;
    this.phase = phase;
    this.patience.restartDelays();
  }

  /** Somebody else has removed the directory; what the kernel wrote of the vif goes too, or the next one here would be blamed. */
  private async vanished(): Promise<Next> {
    if (!this.retired) await removeKernelError(this.io.store, this.key);
    return this.forget();
  }

  private forget(): Next {
    this.script.isOffline(this.retired ? undefined : this.want); // also where dom0 has removed the directory itself
    if (!this.retired) this.sayLeft();
    return 'forget';
  }

  private sayLeft(): void {
    this.log.left();
    this.io.dhcp?.leave(this.key);
    this.io.hooks?.left(this.key);
  }
}
