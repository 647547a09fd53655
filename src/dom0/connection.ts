/** Whether a guest's vif is connected, as dom0 can tell from xenstore, and what is in the way. Pure. */
import { printable } from '../errors.js';
import { XenbusState } from '../vif/backend.js';

export interface Domain {
  readonly domid: number;
  readonly name: string;
}

export const sayDomain = ({ name, domid }: Domain): string => `${name} (domid ${domid})`;
export const sayVif = (guest: Domain, devid: number): string => `${sayDomain(guest)}, vif ${devid}`;

/** How far a vif has to come: its driver domain has done its part, or the guest's driver as well. */
export type Until = 'guest' | 'hotplug';

/** One vif, all of it from nodes that dom0 may read. A missing node is undefined. */
export interface VifSight {
  readonly devid: number;
  /** libxl's own record of the path; the guest's copy is the guest's to change. */
  readonly backendPath: string;
  readonly backendDomid: number;
  /** For words only. Undefined: no such domain any more, or one without a name. */
  readonly backendName: string | undefined;
  /** Undefined: libxl's record points at nothing. */
  readonly backendState: string | undefined;
  readonly hotplugStatus: string | undefined;
  readonly hotplugError: string | undefined;
  /** What xen-netback wrote as its reason to give up. */
  readonly kernelError: string | undefined;
  readonly frontendState: string | undefined;
}

export interface Verdict {
  /** wrong: somebody has to do something; waiting: it may come by itself. */
  readonly is: 'connected' | 'waiting' | 'wrong';
  /** What it is, and the remedy where there is one. */
  readonly words: string;
}

const connected: Verdict = { is: 'connected', words: 'connected' };
const waiting = (words: string): Verdict => ({ is: 'waiting', words });
const wrong = (words: string): Verdict => ({ is: 'wrong', words });

/** A vif whose backend has gone with its driver domain: it never comes back by itself. */
export const isLost = ({ backendState }: Pick<VifSight, 'backendState'>): boolean => backendState === undefined;

export function judgeVif(vif: VifSight, until: Until): Verdict {
  if (isLost(vif)) return lost(vif);
  if (vif.hotplugStatus === 'error') return wrong(hotplugError(vif));
  if (vif.hotplugStatus !== 'connected') return waiting(unconnected(vif));
  if (until === 'hotplug') return connected;
  const states = [vif.backendState, vif.frontendState];
  if (states.every((state) => state === String(XenbusState.Connected))) return connected;
  return waiting(guestWords(vif));
}

function lost({ backendName, backendDomid, backendPath }: VifSight): Verdict {
  const what =
    backendName === undefined
      ? `its driver domain (domid ${backendDomid}) is gone`
      : `${printable(backendPath).slice(1, -1)} is gone from its driver domain ${printable(backendName)}`;
  return wrong(`${what}; once the driver domain runs again: vifd dom0 recover`);
}

const sayBackend = ({ backendName, backendDomid }: VifSight): string =>
  backendName === undefined ? `domid ${backendDomid}` : printable(backendName);

function hotplugError(vif: VifSight): string {
  if (vif.hotplugError) return printable(vif.hotplugError, 400).slice(1, -1).replaceAll('\\"', '"');
  return `hotplug-status is error, without a reason; ask in ${sayBackend(vif)}: vifd status`;
}

function unconnected(vif: VifSight): string {
  const { kernelError, backendState } = vif;
  const domain = sayBackend(vif);
  if (kernelError !== undefined) return `xen-netback in ${domain} gave it up: ${printable(kernelError)}`;
  if (backendState === String(XenbusState.Initialising))
    return `xen-netback in ${domain} has not taken it (state is still 1); there: modprobe xen-netback`;
  return `nothing in ${domain} has connected it yet (hotplug-status is empty); does vifd run there? vifd status`;
}

/** Both sides may write what they like. */
const stateWord = (state: string | undefined): string =>
  state === undefined ? 'missing' : /^\d$/.test(state) ? state : printable(state);

function guestWords(vif: VifSight): string {
  const { backendState, frontendState } = vif;
  const states = `the guest's state is ${stateWord(frontendState)}, that of the driver domain ${stateWord(backendState)}`;
  return `${sayBackend(vif)} has connected it, but the guest's driver has not (${states}); is the guest up?`;
}
