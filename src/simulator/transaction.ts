/**
 * A transaction (tools/xenstore/xenstored_transaction.c): works on copies, and is committed if nobody else changed a
 * node that it looked at.
 */
import { type Asker, isPrivileged, type Permission, StoreRefusal } from './permissions.js';
import { type Change, NodeView, type Quotas, type StoreNode, type Tree } from './tree.js';

/** struct accessed_node */
interface Accessed {
  /** As it was at the first look; undefined: missing. */
  readonly generation: number | undefined;
  readonly perms: readonly Permission[] | undefined;
  node: StoreNode | undefined;
  modified: boolean;
  fire: 'no' | 'exact' | 'tree';
}

export class Transaction extends NodeView {
  /** In order of the first look, which is the order of the events. */
  private readonly accessed = new Map<string, Accessed>();
  private readonly counts = new Map<number, number>();
  private nodeCreated = false;
  private doomed = false;
  constructor(
    private readonly tree: Tree,
    private readonly asker: Asker,
    quotas: Quotas,
  ) {
    super(quotas, (change) => this.remember(change));
  }

  read(path: string): StoreNode | undefined {
    const known = this.accessed.get(path);
    if (known !== undefined) return known.node;
    if (this.accessed.size >= this.quotas.transactionNodes && !isPrivileged(this.asker)) {
      this.doom();
      throw new StoreRefusal('ENOSPC');
    }
    const node = this.tree.read(path);
    if (node !== undefined) node.shared = true;
    const { generation, perms } = node ?? {};
    this.accessed.set(path, { generation, perms, node, modified: false, fire: 'no' });
    return node;
  }

  protected put(path: string, node: StoreNode | undefined): void {
    const entry = this.entry(path);
    entry.node = node;
    entry.modified = true;
  }

  /** queue_watches() */
  private remember({ path, exact }: Change): void {
    const entry = this.entry(path);
    if (entry.fire !== 'tree') entry.fire = exact ? 'exact' : 'tree';
  }

  /** Everything that changes was looked at before. */
  private entry(path: string): Accessed {
    this.read(path);
    return this.accessed.get(path) as Accessed;
  }

  /** Puts the changes in force, each told of as it is. Throws, with nothing changed, when it may not. */
  commit(fire: (change: Change) => void): void {
    if (this.doomed) throw new StoreRefusal('ENOMEM');
    if (this.nodeCreated && !isPrivileged(this.asker)) this.checkQuota();
    for (const [path, { generation }] of this.accessed)
      if (this.tree.read(path)?.generation !== generation) throw new StoreRefusal('EAGAIN');
    for (const [path, entry] of this.accessed) {
      if (entry.modified) this.apply(path, entry);
      if (entry.fire !== 'no') fire({ path, exact: entry.fire === 'exact', oldPerms: entry.perms });
    }
    for (const [domid, by] of this.counts) this.tree.count(domid, by);
  }

  private apply(path: string, { node }: Accessed): void {
    if (node !== undefined) node.generation = this.nextGeneration();
    this.tree.put(path, node);
  }

  /** transaction_fix_domains(): of whichever domain; and one node fewer than outside of a transaction. */
  private checkQuota(): void {
    for (const [domid, by] of this.counts)
      if (domid !== 0 && this.tree.owned(domid) + by >= this.quotas.nodes) throw new StoreRefusal('ENOSPC');
  }

  protected nextGeneration(): number {
    return this.tree.nextGeneration();
  }
  /** domain_entry(): what the transaction has made does not count before its end. */
  protected roomFor(domid: number): number {
    return this.tree.owned(domid) < this.quotas.nodes ? Number.POSITIVE_INFINITY : 0;
  }
  protected count(domid: number, by: number): void {
    this.counts.set(domid, (this.counts.get(domid) ?? 0) + by);
  }
  protected doom(): void {
    this.doomed = true;
  }
  protected created(): void {
    this.nodeCreated = true;
  }
}
