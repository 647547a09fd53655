/**
 * What xenstored does for each request (wire_funcs[] and process_message() in tools/xenstore/xenstored_core.c, Xen 4.17).
 * Payloads are taken as one byte a character, so that a length is a length and a token comes back as it went in.
 */
import { PAYLOAD_MAX, type Packet, REL_PATH_MAX, XS } from '../xenstore/wire.js';
import type { StoreConnection } from './connection.js';
import {
  formatPermission,
  granted,
  isPrivileged,
  PERM,
  type Permission,
  parsePermission,
  StoreRefusal,
} from './permissions.js';
import { Transaction } from './transaction.js';
import type { NodeView } from './tree.js';
import { eventPath, isSpecial } from './watches.js';

interface Call {
  readonly connection: StoreConnection;
  readonly packet: Packet;
  readonly payload: Buffer;
  /** The live nodes, or the transaction's that the request names. */
  readonly view: NodeView;
}

interface Operation {
  /** What it gives is the reply, after the events that it caused: so does C. Undefined: it has replied. */
  readonly run: (call: Call) => Uint8Array | undefined;
  /** The transaction id is not looked at. */
  readonly noTransaction?: true;
  readonly privileged?: true;
}

const OK = Buffer.from('OK\0');
const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

const OPERATIONS: { readonly [type: number]: Operation } = {
  [XS.CONTROL]: { run: control, noTransaction: true, privileged: true },
  [XS.DIRECTORY]: { run: directory },
  [XS.READ]: { run: ({ view, ...call }) => view.find(onePath(call), call.connection, PERM.READ).value },
  [XS.GET_PERMS]: { run: getPerms },
  [XS.WATCH]: { run: watch, noTransaction: true },
  [XS.UNWATCH]: { run: unwatch, noTransaction: true },
  [XS.TRANSACTION_START]: { run: startTransaction },
  [XS.TRANSACTION_END]: { run: endTransaction },
  [XS.INTRODUCE]: { run: introduce, noTransaction: true, privileged: true },
  [XS.RELEASE]: { run: release, noTransaction: true, privileged: true },
  [XS.GET_DOMAIN_PATH]: { run: (call) => bytes(`/local/domain/${atoi(oneWord(call)) >>> 0}\0`) },
  [XS.WRITE]: { run: write },
  [XS.MKDIR]: { run: mkdir },
  [XS.RM]: { run: rm },
  [XS.SET_PERMS]: { run: setPerms },
  [XS.IS_DOMAIN_INTRODUCED]: { run: isDomainIntroduced, noTransaction: true, privileged: true },
  [XS.RESUME]: { run: resume, noTransaction: true, privileged: true },
  [XS.SET_TARGET]: { run: setTarget, noTransaction: true, privileged: true },
  [XS.RESET_WATCHES]: { run: resetWatches },
  [XS.DIRECTORY_PART]: { run: directoryPart },
};

/** process_message(). Throws StoreRefusal for an answer of type ERROR. */
export function answer(connection: StoreConnection, packet: Packet): void {
  const operation = OPERATIONS[packet.type];
  if (operation === undefined) throw new StoreRefusal('ENOSYS');
  if (operation.privileged && !isPrivileged(connection)) throw new StoreRefusal('EACCES');
  const { buffer, byteOffset, length } = packet.payload;
  const payload = Buffer.from(buffer, byteOffset, length);
  const view = operation.noTransaction ? connection.store.tree : viewOf(connection, packet.txId);
  const reply = operation.run({ connection, packet, payload, view });
  if (reply !== undefined) connection.reply(packet, reply);
}

function viewOf(connection: StoreConnection, txId: number): NodeView {
  const view = txId === 0 ? connection.store.tree : connection.transactions.get(txId);
  if (view === undefined) throw new StoreRefusal('ENOENT');
  return view;
}

function directory({ view, connection, payload }: Call): Uint8Array {
  return names(view.find(onePath({ connection, payload }), connection, PERM.READ).children);
}

/** send_directory_part(): whole names from the offset on, as many as fit; the end of the list is one more NUL. */
function directoryPart({ view, connection, payload }: Call): Uint8Array {
  const words = terminated(payload);
  if (words.length !== 2) throw new StoreRefusal('EINVAL');
  const { children, generation } = view.find(resolve(connection, words[0]), connection, PERM.READ);
  const whole = names(children);
  const offset = atoi(words[1] as string) >>> 0;
  const head = bytes(`${generation}\0`);
  const room = PAYLOAD_MAX - head.length - 1;
  if (offset >= whole.length) return Buffer.concat([head, bytes('\0')]);
  if (whole.length - offset <= room) return Buffer.concat([head, whole.subarray(offset), bytes('\0')]);
  return Buffer.concat([head, whole.subarray(offset, whole.lastIndexOf(0, offset + room - 1) + 1)]);
}

function names(children: ReadonlySet<string>): Buffer {
  return children.size === 0 ? Buffer.alloc(0) : bytes(`${[...children].join('\0')}\0`);
}

function getPerms({ view, connection, payload }: Call): Uint8Array {
  const { perms } = view.find(onePath({ connection, payload }), connection, PERM.READ);
  return bytes(`${perms.map(formatPermission).join('\0')}\0`);
}

/** The value is what follows the path's NUL, any bytes. */
function write({ view, connection, payload }: Call): Uint8Array {
  const end = payload.indexOf(0);
  if (end < 0) throw new StoreRefusal('EINVAL');
  const path = resolve(connection, payload.toString('latin1', 0, end));
  view.write(path, connection, Uint8Array.prototype.slice.call(payload, end + 1));
  return OK;
}

function mkdir({ view, connection, payload }: Call): Uint8Array {
  view.mkdir(onePath({ connection, payload }), connection);
  return OK;
}

function rm({ view, connection, payload }: Call): Uint8Array {
  view.remove(onePath({ connection, payload }), connection);
  return OK;
}

/** do_set_perms(), in its order of checks. */
function setPerms({ view, connection, payload }: Call): Uint8Array {
  const [given, ...texts] = terminated(payload);
  if (texts.length === 0) throw new StoreRefusal('EINVAL');
  if (!isPrivileged(connection) && texts.length > connection.store.quotas.perms) throw new StoreRefusal('ENOSPC');
  const perms = texts.map(parsePermission);
  if (perms[0]?.ignored) throw new StoreRefusal('ENOENT');
  if (given?.startsWith('@')) setSpecialPerms(connection, given, perms);
  else view.setPerms(resolve(connection, given), connection, perms);
  return OK;
}

function setSpecialPerms(connection: StoreConnection, path: string, perms: readonly Permission[]): void {
  const special = connection.store.specialPerms;
  const now = special.get(path);
  if (now === undefined) throw new StoreRefusal('EINVAL');
  const want = PERM.WRITE | PERM.OWNER;
  if ((granted(now, connection) & want) !== want) throw new StoreRefusal('EACCES');
  special.set(path, perms);
}

/** do_watch(): the reply, then the first event. */
function watch({ connection, packet, payload }: Call): undefined {
  const [given = '', token = ''] = exactlyTwo(payload);
  const relative = !given.startsWith('/') && !isSpecial(given);
  const path = watchPath(connection, given);
  const prefix = relative ? home(connection) : '';
  const { watches, quotas } = connection.store;
  const registered = watches.add({ watcher: connection, path, token, prefix }, quotas.watches);
  connection.reply(packet, OK);
  connection.tell(eventPath(registered, path), token);
}

/** check_watch_path(): anything with an @ in front passes for special. */
function watchPath(connection: StoreConnection, given: string): string {
  if (!isSpecial(given)) return resolve(connection, given);
  if (given.length > REL_PATH_MAX) throw new StoreRefusal('EINVAL');
  return given;
}

/** A path that cannot be is one that is not watched. */
function unwatch({ connection, payload }: Call): Uint8Array {
  const [given = '', token = ''] = exactlyTwo(payload);
  connection.store.watches.remove(connection, canonicalize(connection, given), token);
  return OK;
}

function startTransaction({ connection, packet }: Call): Uint8Array {
  const { store, domid } = connection;
  if (packet.txId !== 0) throw new StoreRefusal('EBUSY');
  if (!isPrivileged(connection) && store.openTransactions(domid) > store.quotas.transactions)
    throw new StoreRefusal('ENOSPC');
  return bytes(`${connection.addTransaction(new Transaction(store.tree, connection, store.quotas))}\0`);
}

/** The transaction is gone whatever the answer, unless the request itself is malformed. */
function endTransaction({ connection, packet, payload }: Call): Uint8Array {
  const how = payload.toString('latin1');
  if (how !== 'T\0' && how !== 'F\0') throw new StoreRefusal('EINVAL');
  const transaction = connection.transactions.get(packet.txId);
  if (transaction === undefined) throw new StoreRefusal('ENOENT');
  connection.transactions.delete(packet.txId);
  if (how === 'T\0') transaction.commit((change) => connection.store.fire(change));
  return OK;
}

function resetWatches({ connection }: Call): Uint8Array {
  connection.store.reset(connection);
  return OK;
}

function introduce({ connection, payload }: Call): Uint8Array {
  const [domid = '', , port = ''] = terminated(payload);
  if (atoi(port) <= 0) throw new StoreRefusal('EINVAL');
  connection.store.introduce(atoi(domid));
  return OK;
}

function release(call: Call): Uint8Array {
  call.connection.store.release(introducedDomain(call));
  return OK;
}

/** There is nothing to resume: the simulator's domains do not shut down. */
function resume(call: Call): Uint8Array {
  introducedDomain(call);
  return OK;
}

function setTarget({ connection: { store }, payload }: Call): Uint8Array {
  const words = terminated(payload);
  if (words.length < 2) throw new StoreRefusal('EINVAL');
  const [domid, target] = words.map(atoi) as [number, number];
  if (!store.isIntroduced(domid) || !store.isIntroduced(target)) throw new StoreRefusal('ENOENT');
  store.targets.set(domid, target);
  return OK;
}

const DOMID_SELF = 0x7ff0;

function isDomainIntroduced(call: Call): Uint8Array {
  const domid = atoi(oneWord(call));
  return bytes(domid === DOMID_SELF || call.connection.store.isIntroduced(domid) ? 'T\0' : 'F\0');
}

/** onearg_domain() */
function introducedDomain(call: Call): number {
  const domid = atoi(oneWord(call));
  if (domid === 0) throw new StoreRefusal('EINVAL');
  if (!call.connection.store.isIntroduced(domid)) throw new StoreRefusal('ENOENT');
  return domid;
}

/** Of xenstored's commands only those that a simulator can have. */
function control({ payload }: Call): Uint8Array {
  const [command] = terminated(payload);
  if (command === 'check') return OK;
  if (command === 'help') return bytes('check\t\nhelp\t\n\0');
  throw new StoreRefusal('EINVAL');
}

/** get_strings(): the strings that have their NUL; what follows the last is not looked at. */
function terminated(payload: Buffer): string[] {
  const text = payload.toString('latin1');
  const end = text.lastIndexOf('\0');
  return end < 0 ? [] : text.slice(0, end).split('\0');
}

function exactlyTwo(payload: Buffer): string[] {
  const words = terminated(payload);
  if (words.length !== 2) throw new StoreRefusal('EINVAL');
  return words;
}

/**
 * onearg(). Without it C 4.17 answers with whatever errno held last, and aborts when that is 0, as it is after an RM
 * (consider_message: Assertion `conn->in == NULL'). EINVAL is what it means, and what GET_DOMAIN_PATH says.
 */
function oneWord({ payload }: Pick<Call, 'payload'>): string {
  if (payload.length === 0 || payload.indexOf(0) !== payload.length - 1) throw new StoreRefusal('EINVAL');
  return payload.toString('latin1', 0, payload.length - 1);
}

function onePath(call: Pick<Call, 'connection' | 'payload'>): string {
  return resolve(call.connection, oneWord(call));
}

/** get_implicit_path() */
const home = ({ domid }: StoreConnection): string => `/local/domain/${domid}`;

/** canonicalize() */
function canonicalize(connection: StoreConnection, path: string): string {
  return path.startsWith('/') || isSpecial(path) ? path : `${home(connection)}/${path}`;
}

function resolve(connection: StoreConnection, given = ''): string {
  const path = canonicalize(connection, given);
  if (!isValidNodename(path, connection.store.quotas.pathLength)) throw new StoreRefusal('EINVAL');
  return path;
}

const HOME = /^\/local\/domain\/[0-9]{1,5}\//;

/** is_valid_nodename() */
function isValidNodename(path: string, pathLength: number): boolean {
  if (!/^\/[A-Za-z0-9/_@-]*$/.test(path) || path.includes('//')) return false;
  if (path.endsWith('/') && path !== '/') return false;
  return path.length <= pathLength || path.length - (HOME.exec(path)?.[0].length ?? 0) <= pathLength;
}

/** As C's: blanks, a sign, digits, and anything behind them; 0 without digits. */
function atoi(text: string): number {
  return Number(/^\s*[+-]?[0-9]+/.exec(text)?.[0] ?? 0) | 0;
}
