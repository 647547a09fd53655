/** How libxl runs a hotplug script (libxl__hotplug_nic and get_hotplug_env in libxl_linux.c): a script must not notice a difference. Pure. */
import type { Config } from '../config/schema.js';
import { AttachError } from '../errors.js';
import { backendDir } from '../xenstore/paths.js';
import type { ScriptCall } from './attachment.js';
import type { VifBackend } from './backend.js';
import { scriptName } from './rules.js';

/** Behind `online` or `offline`. */
export const SCRIPT_ARGS = ['type_if=vif'];

/** Whether the admin has allowed a file of this name to be run. */
export const isAllowed = (name: string, { scripts = [] }: Config): boolean => scripts.some((one) => one.name === name);

/** Throws AttachError where the script that dom0 names is not allowed. */
export function scriptCall(backend: VifBackend, { scripts = [] }: Config): ScriptCall {
  const name = scriptName(backend);
  const allowed = scripts.find((one) => one.name === name);
  if (allowed?.file === undefined)
    throw new AttachError(
      'ESCRIPT',
      `script "${name}" is not allowed`,
      `say which file of this domain it is: [script.${name}] with file = "/etc/xen/scripts/${name}"`,
    );
  const { key, script, gatewaydev = '', type } = backend;
  const vif = `vif${key.domid}.${key.devid}`;
  return {
    name: `script ${name}`,
    file: allowed.file,
    timeoutMs: 1000 * (allowed.timeout ?? SCRIPT_TIMEOUT_S),
    args: SCRIPT_ARGS,
    env: {
      script,
      XENBUS_TYPE: 'vif',
      XENBUS_PATH: backendDir(key),
      XENBUS_BASE_PATH: 'backend',
      netdev: gatewaydev,
      vif,
      ...(type === 'vif_ioemu' && { INTERFACE: `${vif}-emu` }),
    },
  };
}

/** Below the 10 s after which dom0 gives a removal up. */
const SCRIPT_TIMEOUT_S = 8;
