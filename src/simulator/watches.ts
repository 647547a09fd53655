/**
 * Which watches a change is told to (tools/xenstore/xenstored_watch.c). Found by path: a change looks at its own path and
 * those above it, however many watches there are elsewhere.
 */
import { type Asker, granted, PERM, StoreRefusal } from './permissions.js';
import { type Change, parentOf, type Tree } from './tree.js';

/** Whose watches they are: one connection. */
export interface Watcher extends Asker {
  readonly watches: Set<Watch>;
  tell(path: string, token: string): void;
}

export interface Watch {
  readonly watcher: Watcher;
  /** Absolute, or a special one that begins with @. */
  readonly path: string;
  readonly token: string;
  /** What the client left out of its path, and gets no more of in events: /local/domain/<domid>. */
  readonly prefix: string;
  /** One connection's events of one change come in this order. */
  readonly order: number;
}

export const isSpecial = (path: string): boolean => path.startsWith('@');

export class Watches {
  /** In order of registration, at each path. */
  private readonly byPath = new Map<string, Set<Watch>>();
  private readonly perDomain = new Map<number, number>();
  private registered = 0;

  /** do_watch() behind its checks of the path. */
  add(asked: Omit<Watch, 'order'>, quota: number): Watch {
    const { watcher, path, token } = asked;
    if (this.find(watcher, path, token) !== undefined) throw new StoreRefusal('EEXIST');
    if (watcher.domid !== 0 && this.ofDomain(watcher.domid) > quota) throw new StoreRefusal('E2BIG');
    const watch = { ...asked, order: this.registered++ };
    const same = this.byPath.get(path);
    if (same === undefined) this.byPath.set(path, new Set([watch]));
    else same.add(watch);
    watcher.watches.add(watch);
    this.perDomain.set(watcher.domid, this.ofDomain(watcher.domid) + 1);
    return watch;
  }

  remove(watcher: Watcher, path: string, token: string): void {
    const watch = this.find(watcher, path, token);
    if (watch === undefined) throw new StoreRefusal('ENOENT');
    this.drop(watch);
  }

  removeAll(watcher: Watcher): void {
    for (const watch of [...watcher.watches]) this.drop(watch);
  }

  /** fire_watches(): `tree` is where the nodes are that decide who may know. */
  fire(change: Change, tree: Tree): void {
    for (const watch of this.concerned(change))
      if (isPermitted(watch.watcher, change, tree)) watch.watcher.tell(eventPath(watch, change.path), watch.token);
  }

  /** check_perms_special() in place of the node's permissions. */
  fireSpecial(path: string, mayKnow: (watcher: Watcher) => boolean): void {
    for (const { watcher, token } of this.byPath.get(path) ?? []) if (mayKnow(watcher)) watcher.tell(path, token);
  }

  private concerned({ path, exact }: Change): readonly Watch[] {
    const found: Watch[] = [];
    let levels = 0;
    for (let at = path; ; at = parentOf(at)) {
      const here = this.byPath.get(at);
      if (here !== undefined) {
        levels++;
        found.push(...here);
      }
      if (exact || at === '/') break;
    }
    return levels > 1 ? found.sort((a, b) => a.order - b.order) : found;
  }

  private find(watcher: Watcher, path: string, token: string): Watch | undefined {
    const same = this.byPath.get(path);
    if (same === undefined) return undefined;
    const fewer = same.size < watcher.watches.size ? same : watcher.watches;
    for (const watch of fewer)
      if (watch.token === token && watch.path === path && watch.watcher === watcher) return watch;
    return undefined;
  }

  private drop(watch: Watch): void {
    const { watcher, path } = watch;
    const same = this.byPath.get(path);
    same?.delete(watch);
    if (same?.size === 0) this.byPath.delete(path);
    watcher.watches.delete(watch);
    this.perDomain.set(watcher.domid, this.ofDomain(watcher.domid) - 1);
  }

  /** How many a domain has, over all of its connections. */
  ofDomain(domid: number): number {
    return this.perDomain.get(domid) ?? 0;
  }
}

/** get_watch_path() */
export function eventPath({ prefix }: Watch, path: string): string {
  if (prefix === '') return path;
  return path.startsWith('/', prefix.length) ? path.slice(prefix.length + 1) : path.slice(prefix.length);
}

/** watch_permitted(): who may read the node or its parent, or could read it before. */
function isPermitted(watcher: Watcher, { path, node, oldPerms }: Change, tree: Tree): boolean {
  const readable = (perms: Change['oldPerms']) => perms !== undefined && (granted(perms, watcher) & PERM.READ) !== 0;
  if (readable(oldPerms)) return true;
  const now = node ?? tree.read(path);
  return now !== undefined && (readable(now.perms) || readable(tree.read(parentOf(path))?.perms));
}
