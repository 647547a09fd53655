/** EDGE: finds the vifs that lost their driver domain, and gives them the new one. */
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, printable, VifdError } from '../errors.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { type Domain, isLost, sayVif } from './connection.js';
import { findDomain, listDomains } from './domains.js';
import { frontendDir, lookAtVif, lookAtVifs, recordDir } from './look.js';
import { type LostVif, type Move, planRecovery, type Recovery, shellLine } from './recovery.js';
import { parseXlList } from './vif-line.js';
import { waitForVif } from './wait.js';
import { xl } from './xl.js';

/**
 * What a guest's kernel may take to let go of a vif whose directory has gone (xenbus_dev_remove). One that is there again
 * before that gets `state` 6 written into it, and is dead.
 */
export const SETTLE_MS = 2_000;
/** libxl removes the directories of a vif without backend in one transaction; only a busy dom0 takes longer. */
const GONE_MS = 10_000;
const GONE_EVERY_MS = 50;

/** What is to be done for this driver domain. Rejects with code ENODOMAIN for a name that nobody has. */
export async function findRecovery(
  store: XenstoreClient,
  backend: Domain,
  guests: readonly string[],
): Promise<Recovery> {
  const named = await Promise.all(guests.map((guest) => demandDomain(store, guest)));
  const asked = new Set(named.map(({ domid }) => domid));
  const lost: LostVif[] = [];
  for (const guest of named.length > 0 ? named : await listDomains(store)) lost.push(...(await lostVifs(store, guest)));
  return planRecovery(lost, backend, asked);
}

export async function demandDomain(store: XenstoreClient, asked: string): Promise<Domain> {
  const domain = await findDomain(store, asked);
  if (domain !== undefined) return domain;
  const here = (await listDomains(store)).map(({ name }) => name).join(', ');
  throw new VifdError('ENODOMAIN', `there is no domain ${printable(asked)}; running are: ${here}`);
}

async function lostVifs(store: XenstoreClient, guest: Domain): Promise<LostVif[]> {
  const lost = (await lookAtVifs(store, guest.domid)).filter(isLost);
  if (lost.length === 0) return [];
  const { stdout } = await xl('list', '-l', String(guest.domid));
  const recorded = parseXlList(stdout, guest.domid);
  return Promise.all(
    lost.map(async ({ devid }) => ({
      guest,
      devid,
      nodes: await readNodes(store, recordDir(guest.domid, devid)),
      recorded: recorded?.get(devid),
    })),
  );
}

async function readNodes(store: XenstoreClient, dir: string): Promise<Map<string, string>> {
  const names = await store.directory(dir);
  const values = await Promise.all(names.map((name) => store.readOptional(`${dir}/${name}`)));
  return new Map(names.flatMap((name, i) => (values[i] === undefined ? [] : [[name, values[i]] as const])));
}

/** How one vif went. */
export interface Outcome {
  readonly move: Move;
  /** Undefined: it is connected, or needed nothing when its turn came. */
  readonly failure: string | undefined;
}

type Say = (line: string) => void;

interface CarryOptions {
  /** For each vif, once it is attached. */
  readonly timeoutMs: number;
  /** No vif is begun after it. */
  readonly signal: AbortSignal;
  readonly say: Say;
}

/** xl has forgotten the vif, and the new driver domain has not taken it. */
class NotAttached extends VifdError {}

/**
 * One vif after the other. INVARIANTS
 * - A vif that has a living backend when its turn comes is left alone.
 * - Nothing is attached before the guest's old directory is gone, and then for SETTLE_MS.
 * - After a failed attach the guest's other vifs stay as they are, so that this can be done again for them.
 * - A vif that has been detached is attached again, also when the signal comes meanwhile.
 */
export async function carryOut(
  store: XenstoreClient,
  moves: readonly Move[],
  { timeoutMs, signal, say }: CarryOptions,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const stopped = new Set<number>();
  for (const move of moves) {
    const { domid } = move.guest;
    const reason = signal.aborted ? STOPPED : stopped.has(domid) ? AFTER_ANOTHER : undefined;
    const work = reason === undefined ? carry(store, move, timeoutMs, say) : Promise.reject(notTried(reason));
    const failure = await work.catch((error) => {
      if (error instanceof NotAttached) stopped.add(domid);
      if (hasCode(error, 'ENOTATTACHED', 'ENOTRECOVERED')) return error.message;
      throw error;
    });
    if (failure !== undefined) say(`${sayVif(move.guest, move.devid)}: ${failure}`);
    outcomes.push({ move, failure: failure ?? undefined });
  }
  return outcomes;
}

const STOPPED = 'it was stopped before';
const AFTER_ANOTHER = 'an earlier vif of this guest could not be attached';
const notTried = (reason: string): VifdError => new VifdError('ENOTRECOVERED', `not tried, since ${reason}`);

/** Rejects with code ENOTATTACHED or ENOTRECOVERED. */
async function carry(store: XenstoreClient, move: Move, timeoutMs: number, say: Say): Promise<void> {
  const { guest, devid } = move;
  const vif = await lookAtVif(store, guest.domid, devid);
  if (vif === undefined) return say(`${sayVif(guest, devid)}: it has left meanwhile`);
  if (!isLost(vif)) return say(`${sayVif(guest, devid)}: it has a backend again and is left as it is`);
  await detach(store, move, say);
  await sleep(SETTLE_MS);
  await attach(move, say);
  const { connected, words } = await waitForVif(store, guest, devid, timeoutMs);
  if (!connected) throw new VifdError('ENOTRECOVERED', `attached, but not connected: ${words.join('; ')}`);
  say(words.join('; '));
}

/** Whatever xl says of it: what counts is that nothing is left. */
async function detach(store: XenstoreClient, { guest, devid, detach: words }: Move, say: Say): Promise<void> {
  say(shellLine(['xl', ...words]));
  const { complaint } = await xl(...words);
  if (await isGone(store, guest.domid, devid)) return;
  throw new VifdError('ENOTRECOVERED', `it could not be detached: ${complaint || 'its directory stays in xenstore'}`);
}

/** On failure with the commands to do it by hand, for they are all that is left of the vif's settings. */
async function attach({ detach: undo, attach: words }: Move, say: Say): Promise<void> {
  say(shellLine(['xl', ...words]));
  const { ok, complaint } = await xl(...words);
  if (ok) return;
  const byHand = [undo, words].map((one) => shellLine(['xl', ...one])).join('; ');
  throw new NotAttached('ENOTATTACHED', `it could not be attached: ${complaint}; once that is mended: ${byHand}`);
}

async function isGone(store: XenstoreClient, domid: number, devid: number): Promise<boolean> {
  const dirs = [recordDir(domid, devid), frontendDir(domid, devid)];
  for (const until = performance.now() + GONE_MS; performance.now() < until; await sleep(GONE_EVERY_MS)) {
    const left = await Promise.all(dirs.map((dir) => store.readOptional(dir)));
    if (left.every((value) => value === undefined)) return true;
  }
  return false;
}
