/** Which vifs are given a new backend, and by which commands. Pure. */
import { printable } from '../errors.js';
import type { RawNodes } from '../vif/backend.js';
import type { Domain } from './connection.js';
import { type RecordedVif, vifLine } from './vif-line.js';

/** A vif whose backend is gone. */
export interface LostVif {
  readonly guest: Domain;
  readonly devid: number;
  /** libxl's copy of what it wrote. */
  readonly nodes: RawNodes;
  /** Undefined: xl has no configuration of the guest, or none of this vif. */
  readonly recorded: RecordedVif | undefined;
}

/** One vif's way: the words behind `xl`. */
export interface Move {
  readonly guest: Domain;
  readonly devid: number;
  readonly detach: readonly string[];
  readonly attach: readonly string[];
}

/** A vif that stays as it is. `other`: it belongs to another driver domain, so nothing is amiss here. */
export interface Left {
  readonly guest: Domain;
  readonly devid: number;
  readonly why: string;
  readonly other: boolean;
}

export interface Recovery {
  readonly moves: readonly Move[];
  readonly left: readonly Left[];
}

/** `asked`: the domids of guests that were named; of the others only vifs are moved whose vif line names the backend. */
export function planRecovery(lost: readonly LostVif[], backend: Domain, asked: ReadonlySet<number>): Recovery {
  const moves: Move[] = [];
  const left: Left[] = [];
  for (const vif of inOrder(lost)) {
    const place = { guest: vif.guest, devid: vif.devid };
    const stranger = whyNot(vif, backend, asked);
    if (stranger !== undefined) {
      left.push({ ...place, ...stranger });
      continue;
    }
    const line = vifLine(vif.devid, backend.name, vif.nodes, vif.recorded);
    if ('why' in line) left.push({ ...place, why: `${line.why}; attach it by hand`, other: false });
    else moves.push({ ...place, ...commands(vif, line.words) });
  }
  return { moves, left };
}

const inOrder = (lost: readonly LostVif[]): LostVif[] =>
  [...lost].sort((a, b) => a.guest.domid - b.guest.domid || a.devid - b.devid);

/** By domid, for another guest may have the same name a moment later. */
const commands = ({ guest, devid }: LostVif, words: readonly string[]): Pick<Move, 'detach' | 'attach'> => ({
  detach: ['network-detach', String(guest.domid), String(devid)],
  attach: ['network-attach', String(guest.domid), ...words],
});

function whyNot(
  { guest, recorded }: LostVif,
  backend: Domain,
  asked: ReadonlySet<number>,
): Pick<Left, 'why' | 'other'> | undefined {
  const name = recorded?.backend;
  if (name === backend.name) return undefined;
  if (name !== undefined && !/^\d+$/.test(name))
    return { why: `its vif line says backend=${printable(name)}, another driver domain`, other: true };
  if (asked.has(guest.domid)) return undefined;
  const what = name === undefined ? 'xl has no record of the name of its backend' : `its vif line says backend=${name}`;
  return { why: `${what}; if it was ${backend.name}, add --guest ${guest.name}`, other: false };
}

/** A command as a shell takes it. */
export const shellLine = (words: readonly string[]): string =>
  words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
