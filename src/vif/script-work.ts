/** What a vif script waits for: the outcome of the reconciler's work on its vif. Never rejects. */
import { printable } from '../errors.js';
import type { ScriptAnswer, ScriptRequest } from '../service/script-protocol.js';
import { type BackendKey, backendDir } from '../xenstore/paths.js';
import { errorText } from './hotplug-status.js';
import type { Reconciler } from './reconciler.js';

export async function scriptWork(
  { command, key }: Pick<ScriptRequest, 'command' | 'key'>,
  reconciler: Reconciler | undefined,
): Promise<ScriptAnswer> {
  if (reconciler === undefined) return { is: 'unavailable' }; // no xenstore just now
  // What there is to undo the reconciler does when the vif leaves, and dom0 does not wait for the script.
  if (command === 'offline') return { is: 'done', place: reconciler.find(key)?.place };
  return online(key, reconciler).catch(() => ({ is: 'unavailable' }) as const);
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
