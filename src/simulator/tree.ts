/**
 * xenstored's nodes: values, permissions, children, ownership counts. Follows the C daemon of Xen 4.17
 * (tools/xenstore/xenstored_core.c; the functions' names stand at what does their work); shared/contract.md 5.2 and 5.4.
 *
 * INVARIANTS
 * - A node is changed in place unless a transaction has looked at it (`shared`): then a copy takes its place.
 * - A request that is refused has changed nothing.
 */
import {
  type Asker,
  type ErrnoName,
  granted,
  ignoring,
  inherited,
  isPrivileged,
  PERM,
  type Permission,
  StoreRefusal,
} from './permissions.js';

export interface StoreNode {
  value: Uint8Array;
  /** The first names the owner, and its letter is everybody else's. */
  perms: readonly Permission[];
  /** Names, in order of creation. */
  readonly children: Set<string>;
  /** Length of the names, each with its NUL: what they count for in the node's size. */
  childBytes: number;
  /** Differs after every change, of the list of children too. */
  generation: number;
  shared: boolean;
}

/** xenstored's limits for an unprivileged domain; names of its options behind. */
export interface Quotas {
  /** Owned nodes (-E). */
  readonly nodes: number;
  /** Bytes of a node, names of its children included, are fewer than this (-S). */
  readonly nodeSize: number;
  /** As in 4.17 one more fits (-W). */
  readonly watches: number;
  /** Open at once; as in 4.17 one more fits (-t). */
  readonly transactions: number;
  /** Nodes that one transaction looks at (-Q transaction-nodes). */
  readonly transactionNodes: number;
  /** Entries of a node's permissions (-A). */
  readonly perms: number;
  /** Bytes of a path behind /local/domain/<domid>/ (-M); holds for dom0 too. */
  readonly pathLength: number;
  /** Bytes of events that wait for a client that does not read (hard limit of -Q memory); holds for dom0 too. */
  readonly memory: number;
}

export const DEFAULT_QUOTAS: Quotas = {
  nodes: 1000,
  nodeSize: 2048,
  watches: 128,
  transactions: 10,
  transactionNodes: 1024,
  perms: 5,
  pathLength: 2048,
  memory: 2.5 * 1024 * 1024,
};

/** Something that watches may tell of. */
export interface Change {
  readonly path: string;
  /** Only watches on this very path: it went with a node above it. */
  readonly exact: boolean;
  /** Decides who may know; absent: what is there when the watches fire. */
  readonly node?: Pick<StoreNode, 'perms'>;
  /** Who could read it before may know of it too. */
  readonly oldPerms?: readonly Permission[] | undefined;
}

const EMPTY = new Uint8Array(0);
/** struct xs_tdb_record_hdr, and struct xs_permissions. */
const NODE_HEADER_SIZE = 24;
const PERMISSION_SIZE = 8;

export const parentOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/'), 1));
const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const childPath = (path: string, name: string): string => (path === '/' ? `/${name}` : `${path}/${name}`);

function newNode(perms: readonly Permission[], value: Uint8Array = EMPTY): StoreNode {
  return { value, perms, children: new Set(), childBytes: 0, generation: 0, shared: false };
}

/** The nodes as one request sees them: the live ones, or a transaction's. */
export abstract class NodeView {
  constructor(
    protected readonly quotas: Quotas,
    /** Tells of a change; a transaction keeps it until it is committed. */
    protected readonly changed: (change: Change) => void,
  ) {}

  /** read_node() */
  abstract read(path: string): StoreNode | undefined;
  protected abstract put(path: string, node: StoreNode | undefined): void;
  protected abstract nextGeneration(): number;
  /** How many nodes this domain may still create. */
  protected abstract roomFor(domid: number): number;
  protected abstract count(domid: number, by: number): void;
  /** A change failed half-way, by C's measure: a transaction cannot be committed any more. */
  protected abstract doom(): void;
  protected abstract created(): void;

  /** The node, if the asker has all of these rights to it. */
  find(path: string, asker: Asker, want: number): StoreNode {
    const found = this.look(path, asker, want);
    if (typeof found === 'string') throw new StoreRefusal(found);
    return found;
  }

  /** get_node() */
  private look(path: string, asker: Asker, want: number): StoreNode | ErrnoName {
    const node = this.read(path);
    if (node !== undefined && (granted(node.perms, asker) & want) === want) return node;
    return this.errnoFromParents(path, asker, want, node === undefined ? 'ENOENT' : 'EACCES');
  }

  /** Only those whom the nearest existing ancestor gives the same right may learn that a node is missing. */
  private errnoFromParents(path: string, asker: Asker, want: number, code: ErrnoName): ErrnoName {
    let ancestor = path;
    let above: StoreNode | undefined;
    do {
      ancestor = parentOf(ancestor);
      above = this.read(ancestor);
    } while (above === undefined && ancestor !== '/');
    return above !== undefined && granted(above.perms, asker) & want ? code : 'EACCES';
  }

  /** As find() for writing, with undefined where a node may be made. */
  private findWritable(path: string, asker: Asker): StoreNode | undefined {
    const found = this.look(path, asker, PERM.WRITE);
    if (typeof found !== 'string') return found;
    if (found === 'ENOENT') return undefined;
    throw new StoreRefusal(found);
  }

  /** do_write() */
  write(path: string, asker: Asker, value: Uint8Array): void {
    const node = this.findWritable(path, asker);
    if (node === undefined) return this.create(path, asker, value);
    this.checkSize(asker, value.length, node.perms.length, node.childBytes);
    this.edit(path, node).value = value;
    this.changed({ path, exact: false, node });
  }

  /** do_mkdir(): an existing node stays as it is, and nobody is told. */
  mkdir(path: string, asker: Asker): void {
    if (this.findWritable(path, asker) === undefined) this.create(path, asker, EMPTY);
  }

  /** do_set_perms() */
  setPerms(path: string, asker: Asker, perms: readonly Permission[]): void {
    const node = this.find(path, asker, PERM.WRITE | PERM.OWNER);
    const oldPerms = node.perms;
    const [oldOwner, owner] = [oldPerms[0]?.domid ?? 0, perms[0]?.domid ?? 0];
    if (!isPrivileged(asker) && owner !== oldOwner) throw new StoreRefusal('EPERM');
    this.checkSize(asker, node.value.length, perms.length, node.childBytes);
    const edited = this.edit(path, node);
    edited.perms = perms;
    this.count(oldOwner, -1);
    this.count(owner, 1);
    this.changed({ path, exact: false, node: edited, oldPerms });
  }

  /** do_rm(): a missing node is fine where its parent exists. */
  remove(path: string, asker: Asker): void {
    const node = this.findWritable(path, asker);
    if (node !== undefined) {
      if (path === '/') throw new StoreRefusal('EINVAL');
      this.removeNode(path, node);
    } else if (this.read(parentOf(path)) === undefined) throw new StoreRefusal('ENOENT');
  }

  /** rm_node() */
  protected removeNode(path: string, node: StoreNode): void {
    const above = this.read(parentOf(path));
    this.removeTree(path, node, false);
    if (above === undefined) return;
    const parent = this.edit(parentOf(path), above);
    if (parent.children.delete(nameOf(path))) parent.childBytes -= nameOf(path).length + 1;
  }

  /** delnode_sub(): what is below goes, and is told of, first. */
  private removeTree(path: string, node: StoreNode, exact: boolean): void {
    for (const name of node.children) {
      const child = this.read(childPath(path, name));
      if (child !== undefined) this.removeTree(childPath(path, name), child, true);
    }
    this.put(path, undefined);
    this.changed({ path, exact, node });
    this.count(node.perms[0]?.domid ?? 0, -1);
  }

  /**
   * create_node(): the missing parents too, all or nothing. Each inherits its parent's permissions, owned by its creator
   * if that is unprivileged. Only the node itself is told of.
   */
  private create(path: string, asker: Asker, value: Uint8Array): void {
    const missing = [path]; // the lowest first
    let top = path;
    let above = this.read(parentOf(top));
    while (above === undefined) {
      top = parentOf(top);
      missing.push(top);
      above = this.read(parentOf(top));
    }
    const perms = inherited(above.perms, asker);
    this.created();
    if (!isPrivileged(asker) && this.roomFor(asker.domid) < missing.length) throw new StoreRefusal('ENOSPC');
    this.checkSize(asker, value.length, perms.length, 0);
    for (const child of missing.slice(0, -1)) this.checkSize(asker, 0, perms.length, nameOf(child).length + 1);
    this.checkSize(asker, above.value.length, above.perms.length, above.childBytes + nameOf(top).length + 1);
    this.link(parentOf(top), above, nameOf(top));
    this.makeNodes(missing, perms, value);
    this.changed({ path, exact: false, node: { perms } });
  }

  private makeNodes(paths: readonly string[], perms: readonly Permission[], value: Uint8Array): void {
    for (let i = paths.length - 1; i >= 0; i--) {
      const node = newNode(perms, i === 0 ? value : EMPTY);
      node.generation = this.nextGeneration();
      if (i > 0) addChild(node, nameOf(paths[i - 1] as string));
      this.put(paths[i] as string, node);
      this.count(perms[0]?.domid ?? 0, 1);
    }
  }

  private link(path: string, node: StoreNode, name: string): void {
    addChild(this.edit(path, node), name);
  }

  /** The node, to be changed: itself, or a copy in its place where a transaction may still look at it. */
  protected edit(path: string, node: StoreNode): StoreNode {
    const own = node.shared ? { ...node, children: new Set(node.children), shared: false } : node;
    own.generation = this.nextGeneration();
    this.put(path, own);
    return own;
  }

  /** write_node_raw(): the quota itself is one byte too many. */
  private checkSize(asker: Asker, valueBytes: number, permissions: number, childBytes: number): void {
    if (isPrivileged(asker)) return;
    const size = NODE_HEADER_SIZE + PERMISSION_SIZE * permissions + valueBytes + childBytes;
    if (size < this.quotas.nodeSize) return;
    this.doom();
    throw new StoreRefusal('ENOSPC');
  }
}

function addChild(node: StoreNode, name: string): void {
  node.children.add(name);
  node.childBytes += name.length + 1;
}

/** What dom0's boot scripts have made. */
const INITIAL = ['/tool', '/local/domain', '/vm', '/libxl'];
const DOM0: Asker = { domid: 0 };

export class Tree extends NodeView {
  private readonly nodes = new Map<string, StoreNode>();
  private readonly counts = new Map<number, number>();
  private generation = 0;
  constructor(quotas: Quotas, changed: (change: Change) => void) {
    super(quotas, (change) => changed(change));
    this.nodes.set('/', newNode([{ letter: 'n', domid: 0 }]));
    this.count(0, 1);
    for (const path of INITIAL) this.mkdir(path, DOM0);
  }

  read(path: string): StoreNode | undefined {
    return this.nodes.get(path);
  }

  owned(domid: number): number {
    return this.counts.get(domid) ?? 0;
  }

  put(path: string, node: StoreNode | undefined): void {
    if (node === undefined) this.nodes.delete(path);
    else this.nodes.set(path, node);
  }

  nextGeneration(): number {
    return ++this.generation;
  }

  count(domid: number, by: number): void {
    this.counts.set(domid, this.owned(domid) + by);
  }

  /** domain_tree_remove(): the nodes of a domain that is gone go too, and nobody inherits its rights. */
  removeDomain(domid: number): void {
    for (const [path, node] of [...this.nodes]) {
      if (node.perms[0]?.domid === domid && this.nodes.get(path) === node) this.removeNode(path, node);
      else if (node.perms.some((entry) => entry.domid === domid)) node.perms = ignoring(node.perms, domid);
    }
  }

  protected roomFor(domid: number): number {
    return this.quotas.nodes - this.owned(domid);
  }
  protected doom(): void {}
  protected created(): void {}
}
