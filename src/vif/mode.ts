/**
 * How a vif is connected: what a rule or [vif] says, else what the name of dom0's script means: the admin's [script.NAME] of
 * that name, or one of Xen's own. dom0's path is never run: the file would be this domain's. Pure.
 */
import type { Config } from '../config/schema.js';
import { AttachError } from '../errors.js';
import type { VifBackend } from './backend.js';
import { type Policy, scriptName } from './rules.js';
import { isAllowed } from './script-call.js';

export type Mode = 'bridge' | 'routed' | 'nat' | 'script' | 'openvswitch';

/** Xen's own scripts, and vifd's names for them. */
const SCRIPTS: Readonly<Record<string, Mode>> = {
  'vif-bridge': 'bridge',
  'vif-bridge_qlen': 'bridge',
  'vif-bridge_TxOff': 'bridge',
  'vif-vifd': 'bridge',
  'vif-route': 'routed',
  'vif-nat': 'nat',
  'vif-openvswitch': 'openvswitch',
};

/** xl names vif-bridge where nobody says anything, so it is no wish: a configured mode counts more. Throws AttachError. */
export function chooseMode(backend: VifBackend, { settings }: Policy, config: Config): Mode {
  const script = scriptName(backend);
  const meant = Object.hasOwn(SCRIPTS, script) ? SCRIPTS[script] : undefined;
  const mode = settings.mode ?? (isAllowed(script, config) ? 'script' : meant);
  if (mode !== undefined) return mode;
  throw new AttachError(
    'ESCRIPT',
    `script "${script}" is none that vifd knows`,
    `write another into the guest's vif line, such as script=vif-bridge; or say here how such vifs are connected: [rule.NAME] with match.script = "${script}" and mode = "bridge"; or which file of this domain it is: [script.${script}] with file = "/etc/xen/scripts/${script}"`,
  );
}
