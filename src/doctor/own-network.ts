/** What `vifd status` and `vifd doctor` say of [bridge] and [bind], and of vifs where vifd only observes. Pure. */
import { printable } from '../errors.js';
import { wrap } from '../text.js';
import type { VifReport } from '../vif/report.js';
import type { Program, VifSeen } from '../vif/seen.js';

/** How a declared bridge or a binding stands, as the kernel shows it. */
export interface OwnState {
  /** `[bind.storage]`. */
  readonly table: string;
  /** `incomplete`: it should be in force and is not all there. */
  readonly state: 'in force' | 'waiting' | 'incomplete';
  /** Interfaces that it is for now. */
  readonly interfaces: readonly string[];
  /** What it waits for, or what lacks; a few words each. */
  readonly lacks: readonly string[];
}

export function formatOwnStates(states: readonly OwnState[], width: number): string[] {
  return states.flatMap(({ table, state, interfaces, lacks }) => {
    const on = interfaces.length === 0 ? '' : ` on ${interfaces.join(', ')}`;
    const what = lacks.length === 0 ? '' : ` (${lacks.join('; ')})`;
    return wrap(`${table}  `, `${state}${on}${what}`, width);
  });
}

/** Where mode = "observe". */
export function formatObservers(programs: readonly Program[]): string {
  const named = (command: Program['command']) =>
    programs.filter((one) => one.command === command).map(({ pid }) => `${command} (pid ${pid})`);
  const own = named('vifd run');
  const devd = named('xl devd').map((name) => `, as ${name}`);
  const observes =
    own.length === 0
      ? 'no vifd seems to run here; it would only observe'
      : `${own.join(', ')} runs here and only observes`;
  return `${observes} (agent.mode = "observe"): vifs are attached by others${devd.join('')}`;
}

/** Nobody here knows how others want a vif; what they say of it counts, and whether guest and netback have found each other. */
export function byOthers({ live }: VifSeen, report: VifReport): VifReport {
  const refused = live?.hotplugStatus === 'error';
  const health = report.health === 'leaving' || live?.online === false ? 'leaving' : connectedOrNot(report);
  return {
    ...report,
    mode: null,
    addresses: [],
    health: refused ? 'failed' : health,
    problem: refused ? `who attaches vifs here has failed: ${printable(live?.hotplugError ?? '', 240)}` : null,
    remedy: refused ? "look at the log of dom0's toolstack: /var/log/xen/xen-hotplug.log" : null,
  };
}

const connectedOrNot = ({ backendState }: VifReport) => (backendState === 'Connected' ? 'connected' : 'waiting');
