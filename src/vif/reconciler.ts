/**
 * Keeps every vif as dom0 asked for it. Events, scans, retries and link changes all end in the same call: look at this
 * vif. What an event says besides its place is dropped.
 */
import { printable, VifdError, XenstoreError } from '../errors.js';
import { KeyedLoop } from '../keyed-loop.js';
import { Lanes } from '../lanes.js';
import {
  BACKEND_ROOT,
  type BackendKey,
  type KeyText,
  keyText,
  parseBackendPath,
  parseKeyText,
} from '../xenstore/paths.js';
import { isFixedNode, isLiveNode } from './backend.js';
import { dropLeftovers } from './leftovers.js';
import { type Ignored, listBackends, unlisted } from './reader.js';
import { removeOldKernelErrors } from './removal.js';
import { type Phase, Vif } from './vif.js';
import type { VifIo } from './vif-io.js';

interface Waiting {
  readonly text: KeyText;
  readonly such: (vif: Vif) => boolean;
  readonly resolve: (vif: Vif | undefined) => void;
  readonly reject: (error: Error) => void;
}

/** Longer than connected vifs wait for their look, and than it takes. */
const AFTER_RELOAD_MS = 1_000;
/** The vifs of a guest leave together. */
const AFTER_REMOVAL_MS = 100;

const STOPPED = () => new VifdError('ECANCELED', 'nobody looks at vifs any more');

export class Reconciler {
  private readonly vifs = new Map<KeyText, Vif>();
  /** By guest: when `state` or `online` of one of its vifs last changed. */
  private readonly changedAt = new Map<number, number>();
  /** Paths that the log has already. */
  private readonly ignored = new Set<string>();
  /** At the last scan: guests whose vifs may not be listed. */
  private hidden: readonly string[] = [];
  private readonly waiting = new Set<Waiting>();
  /** Not looked up yet. */
  private readonly changedLinks = new Set<string | undefined>();
  private readonly loop = new KeyedLoop<KeyText>((text) => this.run(text));
  private stopped = false;
  private readonly leftovers = new KeyedLoop<'all'>(() => this.dropLeftovers());
  constructor(private readonly io: VifIo) {}

  /**
   * Looks at every vif that is or was there; resolves when that is done. Rejects when xenstore cannot be listed. The slow
   * periodic one takes few at a time: on the device requests queue, and a vif that leaves has only dom0's 10 s.
   */
  async scan(atOnce = Number.POSITIVE_INFINITY): Promise<void> {
    const hidden: string[] = [];
    const onIgnored = (path: string, why: Ignored) => {
      if (why === 'hidden') hidden.push(path);
      this.sayIgnored(path, why);
    };
    const listed = (await listBackends(this.io.store, onIgnored)).map(keyText);
    this.hidden = hidden;
    await removeOldKernelErrors(this.io.store).catch((error) => {
      if (!(error instanceof XenstoreError)) throw error; // else the next scan tries again
    });
    for (const vif of this.vifs.values()) vif.dropBackend(); // the event that would have said so may be lost
    const lanes = new Lanes(atOnce);
    const all = new Set([...listed, ...this.vifs.keys()]);
    await Promise.all([...all].map((text) => lanes.run(() => this.loop.kick(text))));
    this.dropLeftoversIn(0); // first those who wait for the scan have their turn
  }

  /**
   * Looks at this vif now; resolves after the first look at which it is such, with undefined when it is not there. Rejects
   * with ECANCELED when the reconciler is stopped before.
   */
  until(key: BackendKey, such: (vif: Vif) => boolean): Promise<Vif | undefined> {
    if (this.stopped) return Promise.reject(STOPPED());
    return new Promise((resolve, reject) => {
      this.waiting.add({ text: keyText(key), such, resolve, reject });
      void this.loop.kick(keyText(key));
    });
  }

  /** It is there, or cannot be seen. */
  mayBeThere(key: BackendKey): boolean {
    const hidden = [BACKEND_ROOT, `${BACKEND_ROOT}/${key.domid}`];
    return this.vifs.has(keyText(key)) || hidden.some((path) => this.hidden.includes(path));
  }

  get inDom0(): boolean {
    return this.io.privileged;
  }

  /** Undefined while nothing is known of it. */
  find(key: BackendKey): Vif | undefined {
    return this.vifs.get(keyText(key));
  }

  /** A watch event below `backend/vif`. */
  onStoreEvent(path: string): void {
    const place = parseBackendPath(path);
    if (place === undefined) return this.onParentEvent(path);
    const { key, node } = place;
    if (!isLiveNode(node) && !isFixedNode(node) && node !== '') return; // one of netback's feature nodes
    if (node === 'state' || node === 'online') this.changedAt.set(key.domid, performance.now());
    const vif = this.vifs.get(keyText(key));
    // Only vifd writes these two of a vif that is not connected.
    if (node.startsWith('hotplug-') && vif?.phase !== 'connected') return;
    // Such an event comes of changed permissions, too. Of a vif that was connected the status tells which it is.
    if (node === '' && vif?.hasRead && vif.phase !== 'connected') this.replace(vif);
    else if (!isLiveNode(node)) vif?.dropBackend();
    this.kick(keyText(key), node === '' ? 0 : vif?.settleMs);
  }

  /** `backend/vif/<domid>` comes with the first vif of a guest and goes with its last. */
  private onParentEvent(path: string): void {
    const domid = path.slice(path.indexOf(BACKEND_ROOT) + BACKEND_ROOT.length + 1);
    for (const [text, { key }] of this.vifs) if (domid === String(key.domid)) this.kick(text);
  }

  /** An interface of this name appeared, changed or went; without a name: any may have. */
  onLinkEvent(ifname?: string): void {
    if (this.changedLinks.size === 0) setImmediate(() => this.onLinks([...this.changedLinks]));
    this.changedLinks.add(ifname);
  }

  /** Events come in bursts, and each would have every vif asked. */
  private onLinks(ifnames: readonly (string | undefined)[]): void {
    this.changedLinks.clear();
    const isAny = ifnames.includes(undefined);
    for (const [text, vif] of this.vifs)
      if (isAny || ifnames.some((ifname) => vif.concerns(ifname as string))) this.kick(text, vif.linkSettleMs);
  }

  /** Looks at every vif that is known; soon after, what they had and want no more goes. */
  kickAll(): void {
    for (const text of this.vifs.keys()) this.kick(text);
    this.dropLeftoversIn(AFTER_RELOAD_MS);
  }

  list(): readonly Vif[] {
    return [...this.vifs.values()];
  }

  /** How many vifs are in each phase. */
  counts(): Record<Phase, number> {
    const counts = { new: 0, waiting: 0, connected: 0, failed: 0, leaving: 0 };
    for (const { phase } of this.vifs.values()) counts[phase]++;
    return counts;
  }

  /** Resolves when no run is under way. Leaves every vif as it is. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const { reject } of this.waiting) reject(STOPPED());
    this.waiting.clear();
    await Promise.all([this.loop.stop(), this.leftovers.stop()]);
    for (const vif of this.vifs.values()) vif.script.stop();
  }

  private kick(text: KeyText, settleMs = this.vifs.get(text)?.settleMs ?? 0): void {
    if (settleMs > 0) this.loop.kickLater(text, settleMs);
    else void this.loop.kick(text);
  }

  private async run(text: KeyText): Promise<number> {
    const vif = this.vifs.get(text) ?? this.newVif(parseKeyText(text));
    this.vifs.set(text, vif);
    const { drops } = vif;
    const next = await vif.look();
    if (next === 'forget') this.forget(text, vif);
    else if (next === 'replaced') this.succeed(vif);
    else if (next !== 'rest') this.loop.kickLater(text, next.againMs);
    const current = this.vifs.get(text);
    // What was looked at may be another's; the next look, which is asked for, tells.
    if ((current ?? vif) !== vif || vif.drops !== drops) return 0;
    this.tell(text, current);
    return vif.settleMs;
  }

  /** They hold up nobody: nft and ovs-vsctl may take their time. */
  private dropLeftoversIn(ms: number): void {
    if (this.io.knowsAllVifs) this.leftovers.kickLater('all', ms);
  }

  private async dropLeftovers(): Promise<number> {
    const wanted = () => [...this.vifs.values()].flatMap(({ wanted }) => wanted ?? []);
    for (const { message } of await dropLeftovers(wanted, this.io.kernel))
      if (!this.stopped) this.io.log.warn(`what was made for a vif that is gone stays for now: ${message}`);
    return 0;
  }

  private tell(text: KeyText, vif: Vif | undefined): void {
    for (const one of this.waiting) {
      if (one.text !== text || (vif !== undefined && !one.such(vif))) continue;
      this.waiting.delete(one);
      one.resolve(vif);
    }
  }

  /** Nothing that was learnt of a directory holds for the one that takes its place. */
  private replace(vif: Vif): void {
    vif.retire();
    this.vifs.set(keyText(vif.key), this.newVif(vif.key));
  }

  private succeed(vif: Vif): void {
    if (this.find(vif.key) === vif) this.replace(vif);
    void this.loop.kick(keyText(vif.key)); // once more, when this run is over
  }

  private newVif(key: BackendKey): Vif {
    const { domid } = key;
    const leaving = (vif: Vif) => vif.phase === 'leaving';
    const guest = () => ({ changedAt: this.changedAt.get(domid), leaving: this.count(domid, leaving) });
    return new Vif(key, this.io, guest, () => this.kick(keyText(key), 0));
  }

  private forget(text: KeyText, vif: Vif): void {
    if (this.vifs.get(text) === vif) this.vifs.delete(text);
    if (this.count(vif.key.domid) === 0) this.changedAt.delete(vif.key.domid);
    this.dropLeftoversIn(AFTER_REMOVAL_MS);
  }

  /** How many vifs of this guest are such. */
  private count(domid: number, such: (vif: Vif) => boolean = () => true): number {
    let count = 0;
    for (const vif of this.vifs.values()) if (vif.key.domid === domid && such(vif)) count++;
    return count;
  }

  private sayIgnored(path: string, why: Ignored): void {
    if (this.ignored.has(path)) return;
    this.ignored.add(path);
    this.io.log.warn(
      why === 'hidden'
        ? unlisted(path)
        : `${printable(path)} is no vif and is left alone: ids are decimal numbers without leading zeros`,
    );
  }
}
