/**
 * xenstored's nodes: values, permissions, children, ownership counts; and transactions as overlays on them. Follows the
 * C daemon of Xen 4.17 (tools/xenstore/xenstored_core.c, _transaction.c, _domain.c) as described in shared/contract.md 5.
 */

export type ErrnoName =
  | 'EACCES'
  | 'E2BIG'
  | 'EAGAIN'
  | 'EBUSY'
  | 'EEXIST'
  | 'EINVAL'
  | 'ENOENT'
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
}

/** Immutable: a change makes a new one, with a generation of its own. */
export interface StoreNode {
  readonly value: Uint8Array;
  /** The first names the owner, and its letter is everybody else's. */
  readonly perms: readonly Permission[];
  readonly children: ReadonlySet<string>;
  readonly generation: number;
}

export type Access = 'read' | 'write' | 'owner';

/** For an unprivileged domain; xenstored's -E, -S, -W, -t and perms. */
export interface Quotas {
  readonly nodes: number;
  readonly nodeSize: number;
  readonly watches: number;
  readonly transactions: number;
  readonly perms: number;
}

export const DEFAULT_QUOTAS: Quotas = { nodes: 1000, nodeSize: 2048, watches: 128, transactions: 10, perms: 5 };

/** A node that was created or changed; or removed, and then as it was, for who may know of it is decided by that. */
export interface Change {
  readonly path: string;
  readonly was?: StoreNode;
  /** What was below a removed node; for watches deep inside it. */
  readonly below?: readonly Change[];
}

let generations = 0;
const EMPTY = new Uint8Array(0);

export const parentOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/'), 1)) || '/';

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

function inherited([owner, ...others]: readonly Permission[], domid: number): Permission[] {
  return [{ letter: owner?.letter ?? 'n', domid: domid === 0 ? (owner?.domid ?? 0) : domid }, ...others];
}

/** The node store as one view: the live one, or a transaction's. */
export abstract class NodeView {
  readonly changes: Change[] = [];
  constructor(protected readonly quotas: Quotas) {}
  abstract get(path: string): StoreNode | undefined;
  protected abstract put(path: string, node: StoreNode | undefined): void;
  /** How many nodes a domain owns. */
  abstract owned(domid: number): number;

  /** The node, if this domain may have this access. Missing: ENOENT only to those whom an ancestor grants the same. */
  find(path: string, domid: number, access: Access): StoreNode {
    const node = this.get(path);
    if (node !== undefined) {
      if (!allows(node, domid, access)) throw new StoreRefusal('EACCES');
      return node;
    }
    for (let ancestor = path; ancestor !== '/'; ) {
      ancestor = parentOf(ancestor);
      const above = this.get(ancestor);
      if (above !== undefined) throw new StoreRefusal(mayKnow(above, domid, access) ? 'ENOENT' : 'EACCES');
    }
    throw new StoreRefusal('EACCES');
  }

  /** As find() for writing, with undefined where a node may be made. */
  findWritable(path: string, domid: number): StoreNode | undefined {
    try {
      return this.find(path, domid, 'write');
    } catch (error) {
      if (error instanceof StoreRefusal && error.code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Creates or changes a node; without a value an existing one stays. */
  write(path: string, domid: number, value?: Uint8Array): void {
    const node = this.findWritable(path, domid);
    if (node === undefined) this.create(path, domid, value ?? EMPTY);
    else if (value !== undefined) this.replace(path, domid, { ...node, value });
    if (node === undefined || value !== undefined) this.changes.push({ path });
  }

  setPerms(path: string, domid: number, perms: readonly Permission[]): void {
    const node = this.find(path, domid, 'owner');
    if (domid !== 0 && perms.length > this.quotas.perms) throw new StoreRefusal('ENOSPC');
    if (domid !== 0 && perms[0]?.domid !== node.perms[0]?.domid) throw new StoreRefusal('EPERM');
    this.replace(path, domid, { ...node, perms });
    this.changes.push({ path });
  }

  /** Removes the node and all below. A missing one is fine where its parent exists and the domain could have written it. */
  remove(path: string, domid: number): void {
    const node = this.findWritable(path, domid);
    if (node === undefined) {
      if (this.get(parentOf(path)) === undefined) throw new StoreRefusal('ENOENT');
      return;
    }
    if (path === '/') throw new StoreRefusal('EINVAL');
    const below = this.removeTree(path, node);
    const parent = parentOf(path);
    const above = this.get(parent);
    if (above !== undefined) {
      const children = new Set(above.children);
      children.delete(nameOf(path));
      this.set(parent, { ...above, children });
    }
    this.changes.push({ path, was: node, below });
  }

  private removeTree(path: string, node: StoreNode): Change[] {
    const below = [...node.children].flatMap((name) => {
      const child = path === '/' ? `/${name}` : `${path}/${name}`;
      const childNode = this.get(child);
      return childNode === undefined ? [] : [{ path: child, was: childNode }, ...this.removeTree(child, childNode)];
    });
    this.put(path, undefined);
    return below;
  }

  /**
   * create_node(): the missing parents too, all or nothing. Each inherits its parent's permissions, owned by its creator if
   * that is unprivileged.
   */
  private create(path: string, domid: number, value: Uint8Array): void {
    const made = [path];
    let existing = parentOf(path);
    for (; this.get(existing) === undefined; existing = parentOf(existing)) made.unshift(existing);
    const above = this.get(existing) as StoreNode;
    const perms = inherited(above.perms, domid);
    const nodes = made.map((_, i): StoreNode => {
      const child = made[i + 1];
      const children = new Set(child === undefined ? [] : [nameOf(child)]);
      return { value: child === undefined ? value : EMPTY, perms, children, generation: 0 };
    });
    const parent = { ...above, children: new Set(above.children).add(nameOf(made[0] as string)) };
    if (domid !== 0 && this.owned(domid) + made.length > this.quotas.nodes) throw new StoreRefusal('ENOSPC');
    for (const node of [parent, ...nodes]) this.checkSize(node, domid);
    this.set(existing, parent);
    for (const [i, node] of nodes.entries()) this.set(made[i] as string, node);
  }

  private replace(path: string, domid: number, node: StoreNode): void {
    this.checkSize(node, domid);
    this.set(path, node);
  }

  /** write_node(): the quota itself is one byte too many. */
  private checkSize(node: StoreNode, domid: number): void {
    if (domid !== 0 && sizeOf(node) >= this.quotas.nodeSize) throw new StoreRefusal('ENOSPC');
  }

  private set(path: string, node: StoreNode): void {
    this.put(path, { ...node, generation: ++generations });
  }
}

export class Tree extends NodeView {
  private readonly nodes = new Map<string, StoreNode>();
  private readonly counts = new Map<number, number>();
  constructor(quotas: Quotas) {
    super(quotas);
    const perms: Permission[] = [{ letter: 'n', domid: 0 }];
    for (const path of ['/', '@introduceDomain', '@releaseDomain'])
      this.put(path, { value: EMPTY, perms, children: new Set(), generation: 0 });
    for (const path of ['/local', '/local/domain', '/tool', '/vm', '/libxl']) this.write(path, 0);
    this.changes.length = 0;
  }

  get(path: string): StoreNode | undefined {
    return this.nodes.get(path);
  }

  owned(domid: number): number {
    return this.counts.get(domid) ?? 0;
  }

  put(path: string, node: StoreNode | undefined): void {
    this.count(this.nodes.get(path), -1);
    this.count(node, 1);
    if (node === undefined) this.nodes.delete(path);
    else this.nodes.set(path, node);
  }

  private count(node: StoreNode | undefined, by: number): void {
    const owner = node?.perms[0]?.domid;
    if (owner !== undefined) this.counts.set(owner, this.owned(owner) + by);
  }
}

/** Optimistic: works on a copy, and commits if nobody else changed a node that it looked at. */
export class Transaction extends NodeView {
  private readonly overlay = new Map<string, StoreNode | undefined>();
  private readonly seen = new Map<string, number | undefined>();
  private readonly delta = new Map<number, number>();
  constructor(
    private readonly tree: Tree,
    quotas: Quotas,
  ) {
    super(quotas);
  }

  get(path: string): StoreNode | undefined {
    if (this.overlay.has(path)) return this.overlay.get(path);
    const node = this.tree.get(path);
    if (!this.seen.has(path)) this.seen.set(path, node?.generation);
    return node;
  }

  owned(domid: number): number {
    return this.tree.owned(domid) + (this.delta.get(domid) ?? 0);
  }

  protected put(path: string, node: StoreNode | undefined): void {
    this.count(this.get(path), -1);
    this.count(node, 1);
    this.overlay.set(path, node);
  }

  private count(node: StoreNode | undefined, by: number): void {
    const owner = node?.perms[0]?.domid;
    if (owner !== undefined) this.delta.set(owner, (this.delta.get(owner) ?? 0) + by);
  }

  /** Puts the changes in force. Throws EAGAIN, with nothing changed, on a conflict. */
  commit(): readonly Change[] {
    for (const [path, generation] of this.seen) {
      if (this.tree.get(path)?.generation !== generation) throw new StoreRefusal('EAGAIN');
    }
    for (const [path, node] of this.overlay) this.tree.put(path, node);
    return this.changes;
  }
}

/** errno_from_parents(): any of the rights asked for will do, and SET_PERMS asks for two. */
function mayKnow(above: StoreNode, domid: number, access: Access): boolean {
  return allows(above, domid, access) || (access === 'owner' && allows(above, domid, 'write'));
}

export function allows(node: StoreNode, domid: number, access: Access): boolean {
  const [owner, ...others] = node.perms;
  if (domid === 0 || domid === owner?.domid) return true;
  const letter = others.find((entry) => entry.domid === domid)?.letter ?? owner?.letter ?? 'n';
  return access === 'read'
    ? letter === 'r' || letter === 'b'
    : access === 'write' && (letter === 'w' || letter === 'b');
}

/** What counts against the node size quota: header, value, permissions and the names of the children. */
function sizeOf({ value, perms, children }: StoreNode): number {
  let names = 0;
  for (const name of children) names += name.length + 1;
  return 24 + value.length + 8 * perms.length + names;
}

export const formatPermission = ({ letter, domid }: Permission): string => `${letter}${domid}`;

export function parsePermission(text: string): Permission {
  const match = /^([nrwb])([0-9]{1,5})$/.exec(text);
  if (match === null) throw new StoreRefusal('EINVAL');
  return { letter: match[1] as Permission['letter'], domid: Number(match[2]) };
}
