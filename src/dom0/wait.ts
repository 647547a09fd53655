/** EDGE: looks again at every change in xenstore until the answer stands or the time is up. */
import type { XenstoreClient } from '../xenstore/client.js';
import { SERVING_NODE } from '../xenstore/paths.js';
import { type Domain, judgeVif, sayDomain, sayVif, type Until, type Verdict } from './connection.js';
import { findDomain, homeOf } from './domains.js';
import { frontendDir, lookAtVif, lookAtVifs, recordsDir } from './look.js';

/** What is wrong may be mended by the next try of vifd, which makes several within this time. */
const WRONG_MS = 5_000;
/** A guest that has just appeared gets its vifs after its disks. */
const NEW_GUEST_MS = 5_000;
/** For what no watch tells. */
const LOOK_EVERY_MS = 1_000;

/** One look. */
interface Look {
  readonly verdict: Verdict['is'];
  /** A line for each that there is something to say of. */
  readonly words: readonly string[];
  /** Where a change would be worth another look. */
  readonly watch: readonly string[];
}

export interface Waited {
  readonly connected: boolean;
  readonly words: readonly string[];
  readonly tookMs: number;
}

/** Until the answer is `connected`, or has been `wrong` for a while, or the time is up. */
async function keepLooking(store: XenstoreClient, timeoutMs: number, look: () => Promise<Look>): Promise<Waited> {
  const startedAt = performance.now();
  const bell = new Bell(store);
  let wrongSince: number | undefined;
  try {
    for (;;) {
      const now = await look();
      const tookMs = performance.now() - startedAt;
      wrongSince = now.verdict === 'wrong' ? (wrongSince ?? tookMs) : undefined;
      const connected = now.verdict === 'connected';
      const given = tookMs >= timeoutMs || (wrongSince !== undefined && tookMs - wrongSince >= WRONG_MS);
      if (connected || given) return { connected, words: now.words, tookMs: Math.round(tookMs) };
      await bell.watch(now.watch);
      await bell.next(Math.min(LOOK_EVERY_MS, timeoutMs - tookMs));
    }
  } finally {
    await bell.close();
  }
}

/** All vifs of a guest, which may not be there yet. */
export function waitForGuest(store: XenstoreClient, asked: string, until: Until, timeoutMs: number): Promise<Waited> {
  let absent = false;
  let readyAt: number | undefined;
  return keepLooking(store, timeoutMs, async () => {
    const guest = await findDomain(store, asked);
    if (guest === undefined) {
      absent = true;
      return { verdict: 'waiting', words: [`there is no guest ${asked}; xl list shows those there are`], watch: [] };
    }
    const vifs = await lookAtVifs(store, guest.domid);
    if (vifs.length > 0) return lookAtAll(guest, vifs, until);
    const built = (await store.readOptional(`${homeOf(guest.domid)}/domid`)) !== undefined;
    if (built) readyAt ??= performance.now();
    const none = !absent || (readyAt !== undefined && performance.now() - readyAt >= NEW_GUEST_MS);
    const words = [`${sayDomain(guest)} has no vif`];
    return { verdict: none ? 'connected' : 'waiting', words, watch: [recordsDir(guest.domid)] };
  });
}

/** One vif that was just attached. */
export function waitForVif(store: XenstoreClient, guest: Domain, devid: number, timeoutMs: number): Promise<Waited> {
  return keepLooking(store, timeoutMs, async () => {
    const vif = await lookAtVif(store, guest.domid, devid);
    if (vif !== undefined) return lookAtAll(guest, [vif], 'guest');
    return { verdict: 'wrong', words: [`${sayDomain(guest)} has no vif ${devid} any more`], watch: [] };
  });
}

function lookAtAll(guest: Domain, vifs: Awaited<ReturnType<typeof lookAtVifs>>, until: Until): Look {
  const judged = vifs.map((vif) => ({ vif, ...judgeVif(vif, until) }));
  const all = judged.map(({ is }) => is);
  const open = judged.filter(({ is }) => is !== 'connected');
  return {
    verdict: open.length === 0 ? 'connected' : all.includes('wrong') ? 'wrong' : 'waiting',
    words: (open.length === 0 ? judged : open).map(({ vif, words }) => `${sayVif(guest, vif.devid)}: ${words}`),
    watch: vifs.flatMap(({ backendPath, devid }) => [backendPath, `${frontendDir(guest.domid, devid)}/state`]),
  };
}

/** A driver domain in which vifd has begun its work. */
export function waitForServing(store: XenstoreClient, asked: string, timeoutMs: number): Promise<Waited> {
  return keepLooking(store, timeoutMs, async () => {
    const domain = await findDomain(store, asked);
    if (domain === undefined)
      return { verdict: 'waiting', words: [`there is no domain ${asked}; xl list shows those there are`], watch: [] };
    const node = `${homeOf(domain.domid)}/${SERVING_NODE}`;
    if ((await store.readOptional(node)) === 'ready')
      return { verdict: 'connected', words: [`vifd serves in ${sayDomain(domain)}`], watch: [] };
    const words = [`vifd has not begun in ${sayDomain(domain)} (${node} is not "ready"); does it run there?`];
    return { verdict: 'waiting', words, watch: [node] };
  });
}

/** Wakes a sleeper when anything changes at the watched paths. */
class Bell {
  private readonly watches = new Map<string, { close(): Promise<void> }>();
  private rung = false;
  private wake: () => void = () => undefined;
  constructor(private readonly store: XenstoreClient) {}

  /** Each once, however often it is asked for. */
  async watch(paths: readonly string[]): Promise<void> {
    for (const path of paths.filter((one) => !this.watches.has(one)))
      this.watches.set(path, await this.store.watch(path, () => this.ring()));
  }

  private ring(): void {
    this.rung = true;
    this.wake();
  }

  async next(timeoutMs: number): Promise<void> {
    if (!this.rung) await new Promise<void>((resolve) => this.sleep(resolve, Math.max(timeoutMs, 0)));
    this.rung = false;
  }

  private sleep(resolve: () => void, timeoutMs: number): void {
    const timer = setTimeout(resolve, timeoutMs);
    this.wake = () => {
      clearTimeout(timer);
      resolve();
    };
  }

  async close(): Promise<void> {
    for (const watch of this.watches.values()) await watch.close();
  }
}
