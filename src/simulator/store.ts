/**
 * The simulator's xenstored: requests in, replies and watch events out, for any number of domains, each over a unix socket
 * of its own. Answers as the C daemon of Xen 4.17 does; test/store holds both to one table.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { ProtocolError } from '../errors.js';
import { Parser } from '../xenstore/wire.js';
import { StoreConnection, type StoreCore, type Watch } from './connection.js';
import {
  allows,
  type Change,
  DEFAULT_QUOTAS,
  parentOf,
  type Quotas,
  type StoreNode,
  StoreRefusal,
  Transaction,
  Tree,
} from './tree.js';

/** A client that does not read its events is cut off here, so that it cannot fill the memory. */
const UNREAD_MAX = 1024 * 1024;

export class SimulatedStore implements StoreCore {
  readonly quotas: Quotas;
  private readonly tree: Tree;
  private readonly watches = new Map<string, Watch[]>();
  private readonly servers = new Map<number, Server>();
  private readonly connections = new Set<StoreConnection>();
  private nextTransaction = 1;

  constructor(options: { quotas?: Partial<Quotas> } = {}) {
    this.quotas = { ...DEFAULT_QUOTAS, ...options.quotas };
    this.tree = new Tree(this.quotas);
  }

  /** Serves a unix socket on which every client speaks for this domain. */
  async listen(domid: number, socketPath: string): Promise<void> {
    const server = createServer((socket) => this.serve(domid, socket));
    this.servers.set(domid, server);
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(socketPath, resolve));
  }

  /** Ends all connections and stops listening. */
  async close(): Promise<void> {
    await Promise.all([...this.servers.keys()].map((domid) => this.unlisten(domid)));
  }

  /** The domain is no more: its connections end, and its socket goes. */
  async unlisten(domid: number): Promise<void> {
    this.disconnect(domid);
    const server = this.servers.get(domid);
    this.servers.delete(domid);
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** Ends every connection of a domain, as when xenstored dies under it; the socket goes on listening. */
  disconnect(domid: number): void {
    for (const connection of [...this.connections]) if (connection.domid === domid) connection.end();
  }

  /** How many nodes a domain owns, by xenstored's count. */
  ownedNodes(domid: number): number {
    return this.tree.owned(domid);
  }

  private serve(domid: number, socket: Socket): void {
    const connection = this.connect(domid, (bytes) => {
      if (!socket.destroyed) socket.write(bytes);
      if (socket.writableLength > UNREAD_MAX) socket.destroy();
    });
    connection.onEnd = () => socket.destroy();
    const parser = new Parser(`domain ${domid}`);
    socket.on('data', (bytes) => {
      try {
        for (const packet of parser.push(bytes)) connection.handle(packet);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        connection.end(); // as the C daemon answers an oversized message
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => connection.end());
  }

  /** A connection of this domain; what it is to be told goes to `send`, one call for all that belongs together. */
  connect(domid: number, send: (bytes: Uint8Array) => void): StoreConnection {
    const connection = new StoreConnection(this, domid, send);
    this.connections.add(connection);
    return connection;
  }

  /** Used by StoreConnection. */
  drop(connection: StoreConnection): void {
    this.connections.delete(connection);
    this.dropWatches(connection);
  }

  dropWatches(connection: StoreConnection): void {
    for (const [path, list] of this.watches) {
      const rest = list.filter((watch) => watch.connection !== connection);
      if (rest.length === 0) this.watches.delete(path);
      else this.watches.set(path, rest);
    }
  }

  view(): Tree {
    return this.tree;
  }

  startTransaction(connection: StoreConnection): number {
    const own =
      connection.domid === 0
        ? 0
        : this.ofDomain(connection.domid).reduce((sum, { transactions }) => sum + transactions.size, 0);
    if (own >= this.quotas.transactions && connection.domid !== 0) throw new StoreRefusal('ENOSPC');
    const id = this.nextTransaction++;
    connection.transactions.set(id, new Transaction(this.tree, this.quotas));
    return id;
  }

  addWatch(watch: Watch): void {
    const { connection, path, token } = watch;
    const same = this.watches.get(path) ?? [];
    if (same.some((other) => other.connection === connection && other.token === token))
      throw new StoreRefusal('EEXIST');
    if (connection.domid !== 0 && this.watchesOf(connection.domid) >= this.quotas.watches)
      throw new StoreRefusal('E2BIG');
    this.watches.set(path, [...same, watch]);
  }

  removeWatch(connection: StoreConnection, path: string, token: string): void {
    const same = this.watches.get(path) ?? [];
    const rest = same.filter((watch) => watch.connection !== connection || watch.token !== token);
    if (rest.length === same.length) throw new StoreRefusal('ENOENT');
    if (rest.length === 0) this.watches.delete(path);
    else this.watches.set(path, rest);
  }

  /** Tells every watch at or above a changed node, and those below a removed one. */
  fire(changes: readonly Change[]): void {
    const told = new Set<StoreConnection>();
    for (const change of changes) {
      for (const below of change.below ?? []) this.notify(below.path, below, told);
      for (let at = change.path; ; at = parentOf(at)) {
        this.notify(at, change, told);
        if (at === '/' || at.startsWith('@')) break;
      }
    }
    for (const connection of told) connection.flush();
  }

  private notify(watched: string, { path, was }: Change, told: Set<StoreConnection>): void {
    for (const { connection, given, token } of this.watches.get(watched) ?? []) {
      if (!this.mayKnow(connection.domid, path, was)) continue;
      const relative = !given.startsWith('/') && !given.startsWith('@');
      const prefix = `/local/domain/${connection.domid}/`;
      connection.queueEvent(relative && path.startsWith(prefix) ? path.slice(prefix.length) : path, token);
      told.add(connection);
    }
  }

  /** watch_permitted(): who may read the node, or could before it went, or may read its parent. */
  private mayKnow(domid: number, path: string, was: StoreNode | undefined): boolean {
    const nodes = [was ?? this.tree.get(path), this.tree.get(parentOf(path))];
    return nodes.some((node) => node !== undefined && allows(node, domid, 'read'));
  }

  private watchesOf(domid: number): number {
    let count = 0;
    for (const list of this.watches.values())
      for (const { connection } of list) if (connection.domid === domid) count++;
    return count;
  }

  private ofDomain(domid: number): StoreConnection[] {
    return [...this.connections].filter((connection) => connection.domid === domid);
  }
}
