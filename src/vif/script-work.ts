/** What a vif script waits for: the outcome of the reconciler's work on its vif. Never rejects. */
import { setTimeout as sleep } from 'node:timers/promises';
import { printable } from '../errors.js';
import { type BackendKey, backendDir } from '../xenstore/paths.js';
import { errorText } from './hotplug-status.js';
import type { Reconciler } from './reconciler.js';
import type { ScriptAnswer, ScriptTask } from './script-answer.js';

/** Below the script's own patience of 8 s. */
const LEAVING_MAX_MS = 7_000;

export async function scriptWork(
  { command, key }: ScriptTask,
  reconciler: Reconciler | undefined,
): Promise<ScriptAnswer> {
  if (reconciler === undefined) return { is: 'unavailable' }; // no xenstore just now
  const work = command === 'online' ? online(key, reconciler) : offline(key, reconciler);
  return work.catch(() => ({ is: 'unavailable' }) as const);
}

/**
 * What there is to undo the reconciler does when the vif leaves. But `xl devd` removes the directory as soon as its script
 * ends, and dom0 fails when it has not seen `state` 6 there (contract 10.4): so the script ends after the grace.
 */
async function offline(key: BackendKey, reconciler: Reconciler): Promise<ScriptAnswer> {
  const place = reconciler.find(key)?.place;
  if (!reconciler.inDom0)
    await Promise.race([mayGo(key, reconciler), sleep(LEAVING_MAX_MS, undefined, { ref: false })]);
  return { is: 'done', place };
}

/**
 * Resolves when the directory may be removed, by the caller; at once when the vif stays or is not there. Rejects when the
 * reconciler is stopped. Were it removed here, dom0 could make the vif anew before devd removes what it takes for the old one.
 */
export async function mayGo(key: BackendKey, reconciler: Reconciler): Promise<true> {
  reconciler.find(key)?.leaveRemoval();
  await reconciler.until(key, (vif) => {
    vif.leaveRemoval();
    return vif.phase !== 'leaving' || vif.mayGo;
  });
  return true;
}

/** Resolves when it is removed; at once when the vif stays or is not there. Rejects when the reconciler is stopped. */
export async function hasLeft(key: BackendKey, reconciler: Reconciler): Promise<true> {
  await reconciler.until(key, ({ phase }) => phase !== 'leaving');
  return true;
}

async function online(key: BackendKey, reconciler: Reconciler): Promise<ScriptAnswer> {
  const vif = await reconciler.until(key, ({ phase }) => phase !== 'new' && phase !== 'waiting');
  if (vif?.phase === 'connected') return { is: 'done', place: vif.place };
  return { is: 'failed', sentence: errorText(reason(key, vif)) };
}

function reason(key: BackendKey, vif: Awaited<ReturnType<Reconciler['until']>>): string {
  if (vif === undefined) return `there is no vif ${printable(backendDir(key))} in xenstore`;
  return vif.phase === 'leaving' ? 'dom0 is taking this vif away (online is 0)' : vif.failure;
}
