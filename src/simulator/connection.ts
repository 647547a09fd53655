/**
 * One client of the simulated xenstored: its requests answered, its events queued, as the C daemon of Xen 4.17 does
 * (tools/xenstore/xenstored_core.c, process_message and the do_* functions).
 */
import { ABS_PATH_MAX, encodePacket, type Packet, parseStrings, REL_PATH_MAX, strings, XS } from '../xenstore/wire.js';
import {
  type Change,
  formatPermission,
  type NodeView,
  parsePermission,
  StoreRefusal,
  type Transaction,
} from './tree.js';

const PAYLOAD_REPLY_MAX = 4096;
const OK = strings('OK');

export interface Watch {
  readonly connection: StoreConnection;
  /** As the client wrote it, and resolved. */
  readonly given: string;
  readonly path: string;
  readonly token: string;
}

/** What a request is answered with; `after` runs once the reply is on its way (a watch's first event). */
type Reply = Uint8Array | { readonly payload: Uint8Array; readonly after: () => void };

/** What a connection needs of the store behind it. */
export interface StoreCore {
  view(): NodeView;
  startTransaction(connection: StoreConnection): number;
  addWatch(watch: Watch): void;
  removeWatch(connection: StoreConnection, path: string, token: string): void;
  dropWatches(connection: StoreConnection): void;
  fire(changes: readonly Change[]): void;
  drop(connection: StoreConnection): void;
}

/** Replies and events go out in the order in which xenstored would queue them. */
export class StoreConnection {
  readonly transactions = new Map<number, Transaction>();
  onEnd: () => void = () => {};
  private outgoing: Uint8Array[] = [];
  private ended = false;
  constructor(
    private readonly store: StoreCore,
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
    const args = parseStrings(payload);
    const needed = type === XS.INTRODUCE ? 3 : type === XS.SET_TARGET ? 2 : 1;
    if (args.length < needed) throw new StoreRefusal('EINVAL');
    const domid = domidOf(args[0]);
    const exists = domid === 0 || view.get(`/local/domain/${domid}`) !== undefined;
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
    const offset = Math.min(Number.parseInt(offsetText, 10) || 0, whole.length);
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
    view.setPerms(path.startsWith('@') ? special(path) : this.resolve(path), this.domid, perms.map(parsePermission));
    return OK;
  }

  private watch(payload: Uint8Array): Reply {
    const [given = '', token = ''] = words(payload, 2); // a depth, the third, is for daemons from 4.22 on
    this.store.addWatch({ connection: this, given, token, path: this.watchable(given) });
    return { payload: OK, after: () => this.queueEvent(given, token) };
  }

  private unwatch(payload: Uint8Array): Uint8Array {
    const [given = '', token = ''] = words(payload, 2);
    this.store.removeWatch(this, given.startsWith('@') ? given : this.absolute(given), token);
    return OK;
  }

  /** Any name with an @ may be watched, whether or not there will ever be such an event. */
  private watchable(given: string): string {
    if (!given.startsWith('@')) return this.resolve(given);
    if (given.length > REL_PATH_MAX) throw new StoreRefusal('EINVAL');
    return given;
  }

  private onePath(payload: Uint8Array): string {
    return this.resolve(words(payload, 1)[0] ?? '');
  }

  /** is_valid_nodename(), and the absolute path. */
  private resolve(path: string): string {
    const limit = path.startsWith('/') ? ABS_PATH_MAX : REL_PATH_MAX;
    const valid = /^[A-Za-z0-9/_@-]+$/.test(path) && !path.includes('//') && (!path.endsWith('/') || path === '/');
    if (!valid || path.startsWith('@') || path.length > limit) throw new StoreRefusal('EINVAL');
    return this.absolute(path);
  }

  /** canonicalize(): relative paths begin at the domain's own directory. */
  private absolute(path: string): string {
    return path.startsWith('/') ? path : `/local/domain/${this.domid}/${path}`;
  }
}

/** The nodes that are events; only their permissions are ever looked at. */
function special(path: string): string {
  if (path !== '@introduceDomain' && path !== '@releaseDomain') throw new StoreRefusal('EINVAL');
  return path;
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
