/**
 * The simulator's xenstored: requests in, replies and watch events out, for any number of domains, each over a unix socket
 * of its own. Answers as the C daemon of Xen 4.17 does; test/store holds both to one table.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { ProtocolError } from '../errors.js';
import {
  ABS_PATH_MAX,
  encodePacket,
  type Packet,
  Parser,
  parseStrings,
  REL_PATH_MAX,
  strings,
  XS,
} from '../xenstore/wire.js';
import {
  allows,
  type Change,
  DEFAULT_QUOTAS,
  formatPermission,
  type NodeView,
  parentOf,
  parsePermission,
  type Quotas,
  type StoreNode,
  StoreRefusal,
  Transaction,
  Tree,
} from './tree.js';

/** A client that does not read its events is cut off here, so that it cannot fill the memory. */
const UNREAD_MAX = 1024 * 1024;
const PAYLOAD_REPLY_MAX = 4096;
const OK = strings('OK');

interface Watch {
  readonly connection: StoreConnection;
  /** As the client wrote it, and resolved. */
  readonly given: string;
  readonly path: string;
  readonly token: string;
}

/** What a request is answered with; `after` runs once the reply is on its way (a watch's first event). */
type Reply = Uint8Array | { readonly payload: Uint8Array; readonly after: () => void };

export class SimulatedStore {
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

/** One client. Replies and events go out in the order in which xenstored would queue them. */
export class StoreConnection {
  readonly transactions = new Map<number, Transaction>();
  onEnd: () => void = () => {};
  private outgoing: Uint8Array[] = [];
  private ended = false;
  constructor(
    private readonly store: SimulatedStore,
    readonly domid: number,
    private readonly send: (bytes: Uint8Array) => void,
  ) {}

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.transactions.clear();
    this.store.drop(this);
    this.onEnd();
  }

  queueEvent(path: string, token: string): void {
    const payload = strings(path, token);
    if (payload.length <= PAYLOAD_REPLY_MAX)
      this.outgoing.push(encodePacket({ type: XS.WATCH_EVENT, reqId: 0, txId: 0, payload })); // longer ones are lost (XSA-324)
  }

  flush(): void {
    if (!this.ended && this.outgoing.length > 0) this.send(Buffer.concat(this.outgoing));
    this.outgoing = [];
  }

  /** Answers one request: its reply, then whatever events it causes. */
  handle(packet: Packet): void {
    const changes: Change[] = [];
    let after: (() => void) | undefined;
    try {
      const reply = this.answer(packet, changes);
      after = reply instanceof Uint8Array ? undefined : reply.after;
      this.reply(packet, packet.type, reply instanceof Uint8Array ? reply : reply.payload);
    } catch (error) {
      if (!(error instanceof StoreRefusal)) throw error;
      this.reply(packet, XS.ERROR, strings(error.code));
    }
    after?.();
    this.store.fire(changes);
    this.flush();
  }

  private reply({ reqId, txId }: Packet, type: number, payload: Uint8Array): void {
    this.outgoing.push(encodePacket({ type, reqId, txId, payload }));
  }

  private answer(packet: Packet, changes: Change[]): Reply {
    const { type, txId, payload } = packet;
    if (type === XS.TRANSACTION_END) return this.endTransaction(txId, payload, changes);
    const view = this.viewOf(txId);
    const before = view.changes.length;
    try {
      return this.perform(type, txId, payload, view);
    } finally {
      if (txId === 0) changes.push(...view.changes.splice(before));
    }
  }

  private perform(type: number, txId: number, payload: Uint8Array, view: NodeView): Reply {
    switch (type) {
      case XS.DIRECTORY:
        return this.directory(view, payload);
      case XS.DIRECTORY_PART:
        return this.directoryPart(view, payload);
      case XS.READ:
        return view.find(this.onePath(payload), this.domid, 'read').value;
      case XS.GET_PERMS:
        return strings(...view.find(this.onePath(payload), this.domid, 'read').perms.map(formatPermission));
      case XS.WRITE:
        return this.write(view, payload);
      case XS.MKDIR:
        view.write(this.onePath(payload), this.domid);
        return OK;
      case XS.RM:
        view.remove(this.onePath(payload), this.domid);
        return OK;
      case XS.SET_PERMS:
        return this.setPerms(view, payload);
      case XS.WATCH:
        return this.watch(payload);
      case XS.UNWATCH:
        return this.unwatch(payload);
      case XS.TRANSACTION_START:
        if (txId !== 0) throw new StoreRefusal('EBUSY');
        return strings(String(this.store.startTransaction(this)));
      case XS.RESET_WATCHES:
        this.store.dropWatches(this);
        this.transactions.clear();
        return OK;
      case XS.GET_DOMAIN_PATH:
        return strings(`/local/domain/${domidOf(words(payload, 1)[0])}`);
      default:
        return this.privileged(type, payload, view);
    }
  }

  private privileged(type: number, payload: Uint8Array, view: NodeView): Reply {
    const known: number[] = [XS.CONTROL, XS.INTRODUCE, XS.RELEASE, XS.IS_DOMAIN_INTRODUCED, XS.RESUME, XS.SET_TARGET];
    if (!known.includes(type)) throw new StoreRefusal('ENOSYS');
    if (this.domid !== 0) throw new StoreRefusal('EACCES');
    const domid = domidOf(parseStrings(payload)[0]);
    const exists = view.get(`/local/domain/${domid}`) !== undefined;
    if (type === XS.IS_DOMAIN_INTRODUCED) return strings(exists ? 'T' : 'F');
    if (type === XS.INTRODUCE) view.changes.push({ path: '@introduceDomain' });
    if (type === XS.RELEASE) view.changes.push({ path: '@releaseDomain' });
    return OK;
  }

  private viewOf(txId: number): NodeView {
    if (txId === 0) return this.store.view();
    const transaction = this.transactions.get(txId);
    if (transaction === undefined) throw new StoreRefusal('ENOENT');
    return transaction;
  }

  private endTransaction(txId: number, payload: Uint8Array, changes: Change[]): Uint8Array {
    const [how] = words(payload, 1);
    if (how !== 'T' && how !== 'F') throw new StoreRefusal('EINVAL');
    const transaction = this.transactions.get(txId);
    if (transaction === undefined) throw new StoreRefusal('ENOENT');
    this.transactions.delete(txId); // also when the commit fails
    if (how === 'T') changes.push(...transaction.commit());
    return OK;
  }

  private directory(view: NodeView, payload: Uint8Array): Uint8Array {
    const list = strings(...view.find(this.onePath(payload), this.domid, 'read').children);
    if (list.length > PAYLOAD_REPLY_MAX) throw new StoreRefusal('E2BIG');
    return list;
  }

  /** Whole names from `offset` on, as many as fit; the end of the list is one more NUL. */
  private directoryPart(view: NodeView, payload: Uint8Array): Uint8Array {
    const [path = '', offsetText = ''] = words(payload, 2);
    const { children, generation } = view.find(this.resolve(path), this.domid, 'read');
    const whole = Buffer.from(strings(...children));
    const offset = Number(offsetText);
    if (!/^[0-9]+$/.test(offsetText) || offset > whole.length) throw new StoreRefusal('EINVAL');
    const head = strings(String(generation));
    const room = PAYLOAD_REPLY_MAX - head.length - 1;
    if (whole.length - offset <= room) return Buffer.concat([head, whole.subarray(offset), strings('')]);
    const end = whole.lastIndexOf(0, offset + room - 1) + 1;
    return Buffer.concat([head, whole.subarray(offset, end)]);
  }

  private write(view: NodeView, payload: Uint8Array): Uint8Array {
    const end = payload.indexOf(0);
    if (end < 0) throw new StoreRefusal('EINVAL');
    const path = this.resolve(new TextDecoder().decode(payload.subarray(0, end)));
    view.write(path, this.domid, payload.slice(end + 1));
    return OK;
  }

  private setPerms(view: NodeView, payload: Uint8Array): Uint8Array {
    const [path = '', ...perms] = words(payload);
    if (perms.length === 0) throw new StoreRefusal('EINVAL');
    view.setPerms(this.resolve(path), this.domid, perms.map(parsePermission));
    return OK;
  }

  private watch(payload: Uint8Array): Reply {
    const [given = '', token = ''] = words(payload, 2); // a depth, the third, is for daemons from 4.22 on
    this.store.addWatch({ connection: this, given, token, path: this.resolve(given) });
    return { payload: OK, after: () => this.queueEvent(given, token) };
  }

  private unwatch(payload: Uint8Array): Uint8Array {
    const [given = '', token = ''] = words(payload, 2);
    this.store.removeWatch(this, this.resolve(given), token);
    return OK;
  }

  private onePath(payload: Uint8Array): string {
    return this.resolve(words(payload, 1)[0] ?? '');
  }

  /** canonicalize(): relative paths begin at the domain's own directory. */
  private resolve(path: string): string {
    const absolute = path.startsWith('/');
    if (path.length > (absolute ? ABS_PATH_MAX : REL_PATH_MAX)) throw new StoreRefusal('EINVAL');
    if (path === '@introduceDomain' || path === '@releaseDomain') return path;
    const invalid =
      !/^[A-Za-z0-9/_@-]+$/.test(path) ||
      path.includes('//') ||
      (path.endsWith('/') && path !== '/') ||
      path.startsWith('@');
    if (invalid) throw new StoreRefusal('EINVAL');
    return absolute ? path : `/local/domain/${this.domid}/${path}`;
  }
}

/** The NUL-terminated strings of a request; EINVAL if they are not `count`, or not terminated. */
function words(payload: Uint8Array, count?: number): string[] {
  if (payload.at(-1) !== 0) throw new StoreRefusal('EINVAL');
  const list = parseStrings(payload);
  if (count !== undefined && list.length !== count) throw new StoreRefusal('EINVAL');
  return list;
}

function domidOf(text: string | undefined): number {
  if (text === undefined || !/^[0-9]{1,5}$/.test(text)) throw new StoreRefusal('EINVAL');
  return Number(text);
}
