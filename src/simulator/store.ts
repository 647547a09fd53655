/**
 * The simulator's xenstored: any number of domains, each over a unix socket or a /dev/xen/xenbus of its own. Answers as the
 * C daemon of Xen 4.17 does; test/store holds both to one table of cases.
 *
 * Where it must differ: a domain may have several connections (in Xen all its programs share the kernel's one ring), and
 * its quotas are counted over all of them; every domain id counts as existing; writes are never delayed.
 */
import type { Server } from 'node:net';
import type { DeviceFile } from '../xenstore/transport.js';
import { type Send, StoreConnection } from './connection.js';
import { granted, PERM, type Permission } from './permissions.js';
import { serveSocket } from './store-socket.js';
import { type Change, DEFAULT_QUOTAS, type Quotas, Tree } from './tree.js';
import { Watches } from './watches.js';
import { XenbusDevice } from './xenbus-device.js';

export { StoreConnection } from './connection.js';

const NOBODY: readonly Permission[] = [{ letter: 'n', domid: 0 }];

export class SimulatedStore {
  readonly quotas: Quotas;
  readonly tree: Tree;
  readonly watches = new Watches();
  /** Whom the two special watches may be told. */
  readonly specialPerms = new Map([
    ['@introduceDomain', NOBODY],
    ['@releaseDomain', NOBODY],
  ]);
  /** SET_TARGET: device model's domain to guest. */
  readonly targets = new Map<number, number>();
  /** Connections that have something to be sent. */
  readonly unflushed = new Set<StoreConnection>();
  private readonly connections = new Set<StoreConnection>();
  private readonly introduced = new Set([0]);
  private readonly servers = new Map<number, Server>();

  constructor(options: { quotas?: Partial<Quotas> } = {}) {
    this.quotas = { ...DEFAULT_QUOTAS, ...options.quotas };
    this.tree = new Tree(this.quotas, (change) => this.fire(change));
  }

  /** Serves a unix socket on which every client speaks for this domain. */
  async listen(domid: number, socketPath: string): Promise<void> {
    this.servers.set(domid, await serveSocket(this, domid, socketPath));
  }

  /** The domain's /dev/xen/xenbus; each call opens it anew. */
  device(domid: number): DeviceFile {
    return new XenbusDevice(this, domid);
  }

  /** A connection of this domain, for what is neither a socket nor a device. */
  connect(domid: number, send: Send): StoreConnection {
    const connection = new StoreConnection(this, domid, send);
    this.connections.add(connection);
    return connection;
  }

  /** Ends all connections and stops listening. */
  async close(): Promise<void> {
    await Promise.all([...this.servers.keys()].map((domid) => this.unlisten(domid)));
    for (const connection of [...this.connections]) connection.end();
  }

  /** The domain runs no more: its connections end, and its socket goes. Its nodes stay until it is released. */
  async unlisten(domid: number): Promise<void> {
    this.disconnect(domid);
    const server = this.servers.get(domid);
    this.servers.delete(domid);
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** Ends every connection of a domain, as when xenstored dies under it; the socket goes on listening. */
  disconnect(domid: number): void {
    for (const connection of this.connectionsOf(domid)) connection.end();
  }

  /** How many nodes a domain owns, by xenstored's count. */
  ownedNodes(domid: number): number {
    return this.tree.owned(domid);
  }

  isIntroduced(domid: number): boolean {
    return this.introduced.has(domid) || this.servers.has(domid);
  }

  /** introduce_domain(): a second time it only begins its connections anew. */
  introduce(domid: number): void {
    if (this.introduced.has(domid)) {
      for (const connection of this.connectionsOf(domid)) this.reset(connection);
      return;
    }
    this.introduced.add(domid);
    this.fireSpecial('@introduceDomain');
  }

  /** destroy_domain(): the domain is gone, and with it the nodes that it owns. */
  release(domid: number): void {
    this.disconnect(domid);
    this.introduced.delete(domid);
    this.targets.delete(domid);
    this.tree.removeDomain(domid);
    this.fireSpecial('@releaseDomain');
  }

  fire(change: Change): void {
    this.watches.fire(change, this.tree);
  }

  private fireSpecial(path: string): void {
    const perms = this.specialPerms.get(path) ?? NOBODY;
    this.watches.fireSpecial(path, (watcher) => (granted(perms, watcher) & PERM.READ) !== 0);
  }

  /** Sends what one request has caused. */
  flush(): void {
    for (const connection of this.unflushed) connection.flush();
    this.unflushed.clear();
  }

  openTransactions(domid: number): number {
    return this.connectionsOf(domid).reduce((sum, { transactions }) => sum + transactions.size, 0);
  }

  /** Drops a connection's watches and transactions. */
  reset(connection: StoreConnection): void {
    this.watches.removeAll(connection);
    connection.transactions.clear();
  }

  forget(connection: StoreConnection): void {
    this.reset(connection);
    this.connections.delete(connection);
  }

  private connectionsOf(domid: number): StoreConnection[] {
    return [...this.connections].filter((connection) => connection.domid === domid);
  }
}
