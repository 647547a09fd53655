/** `vifd doctor`: what on this machine keeps vifs from working, or may. Changes nothing. */

import { examine, formatFindings } from '../doctor/finding.js';
import { gatherMachine } from '../doctor/gather.js';
import { NETWORK_CHECKS } from '../doctor/network-checks.js';
import { closeStore, unreachable } from '../doctor/surroundings.js';
import { XEN_CHECKS } from '../doctor/xen-checks.js';
import { ConnectionError } from '../errors.js';
import { asciiJson, widthOf } from '../text.js';
import { connectXenstore } from '../xenstore/client.js';

export interface DoctorOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly json?: boolean;
}

/** The exit code says whether there is an error; warnings alone are none. */
export async function doctor(options: DoctorOptions): Promise<void> {
  const store = await connectXenstore(options.xenstore).catch(unreachable);
  try {
    const report = examine(await gatherMachine(store, options.config), [...XEN_CHECKS, ...NETWORK_CHECKS]);
    console.log(options.json ? asciiJson(report) : formatFindings(report, widthOf(process.stdout)).join('\n'));
    process.exitCode = report.worst === 'error' ? 1 : 0;
  } finally {
    if (!(store instanceof ConnectionError)) await closeStore(store);
  }
}
