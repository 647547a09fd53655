/**
 * How a vif is connected: what a rule or [vif] says, else what the name of dom0's script means. The script itself is never
 * run: its path is dom0's, and the file would be this domain's. Pure.
 */
import { AttachError } from '../errors.js';
import type { VifBackend } from './backend.js';
import { type Policy, scriptName } from './rules.js';

export type Mode = 'bridge' | 'routed' | 'nat';

/** Xen's own scripts, and vifd's names for them. */
const SCRIPTS: Readonly<Record<string, Mode>> = {
  'vif-bridge': 'bridge',
  'vif-bridge_qlen': 'bridge',
  'vif-bridge_TxOff': 'bridge',
  'vif-vifd': 'bridge',
  'vif-route': 'routed',
  'vif-nat': 'nat',
};

/** xl names vif-bridge where nobody says anything, so it is no wish: a configured mode counts more. Throws AttachError. */
export function chooseMode(backend: VifBackend, { settings }: Policy): Mode {
  const script = scriptName(backend);
  const meant = Object.hasOwn(SCRIPTS, script) ? SCRIPTS[script] : undefined;
  const mode = settings.mode ?? meant;
  if (mode !== undefined) return mode;
  throw new AttachError(
    'ESCRIPT',
    `script "${script}" is none that vifd knows`,
    `write another into the guest's vif line, such as script=vif-bridge; or say here how such vifs are connected: [rule.NAME] with match.script = "${script}" and mode = "bridge"`,
  );
}
