/** Who may do what with a node (docs/misc/xenstore.txt; contract 5.2). Pure. */
import { DOMID_FIRST_RESERVED } from '../xenstore/paths.js';

export type ErrnoName =
  | 'EACCES'
  | 'E2BIG'
  | 'EAGAIN'
  | 'EBUSY'
  | 'EEXIST'
  | 'EINVAL'
  | 'ENOENT'
  | 'ENOMEM'
  | 'ENOSPC'
  | 'ENOSYS'
  | 'EPERM';

/** An answer of type ERROR. */
export class StoreRefusal extends Error {
  constructor(readonly code: ErrnoName) {
    super(code);
  }
}

export interface Permission {
  readonly letter: 'n' | 'r' | 'w' | 'b';
  readonly domid: number;
  /** XS_PERM_IGNORE: the domain is gone, and another that gets its number shall not inherit. */
  readonly ignored?: true;
}

/** Who asks. A device model's domain has the rights of its target too (SET_TARGET). */
export interface Asker {
  readonly domid: number;
  readonly target?: number | undefined;
}

/** XS_PERM_READ and its like. */
export const PERM = { READ: 1, WRITE: 2, OWNER: 4 } as const;
const LETTERS = { n: 0, r: PERM.READ, w: PERM.WRITE, b: PERM.READ | PERM.WRITE } as const;

export const isPrivileged = ({ domid }: Asker): boolean => domid === 0;

/** perm_for_conn(): the bits of PERM that these permissions give. */
export function granted(perms: readonly Permission[], asker: Asker): number {
  const [owner] = perms as readonly [Permission, ...Permission[]];
  const is = (entry: Permission) => entry.domid === asker.domid || entry.domid === asker.target;
  if (isPrivileged(asker) || is(owner)) return PERM.READ | PERM.WRITE | PERM.OWNER;
  for (let i = 1; i < perms.length; i++) {
    const entry = perms[i] as Permission;
    if (!entry.ignored && is(entry)) return LETTERS[entry.letter];
  }
  return LETTERS[owner.letter];
}

/** What a new node gets from its parent; unprivileged domains own what they create. */
export function inherited([owner, ...others]: readonly Permission[], asker: Asker): readonly Permission[] {
  if (isPrivileged(asker) || owner === undefined) return owner === undefined ? others : [owner, ...others];
  return [{ letter: owner.letter, domid: asker.domid }, ...others];
}

/** Without the rights of a domain that is gone. */
export const ignoring = (perms: readonly Permission[], domid: number): Permission[] =>
  perms.map((entry, i) => (i > 0 && entry.domid === domid ? { ...entry, ignored: true } : entry));

export const formatPermission = ({ letter, domid }: Permission): string => `${letter}${domid}`;

/** xs_strings_to_perms() for decimal ids. Every domain that could be counts as existing; any other is ignored. */
export function parsePermission(text: string): Permission {
  const match = /^([nrwb])([0-9]{1,9})$/.exec(text);
  if (match === null) throw new StoreRefusal('EINVAL');
  const entry = { letter: match[1] as Permission['letter'], domid: Number(match[2]) };
  return entry.domid < DOMID_FIRST_RESERVED ? entry : { ...entry, ignored: true };
}
