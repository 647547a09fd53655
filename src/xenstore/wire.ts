/**
 * The xenstore wire protocol as pure values (xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt): encode
 * requests, cut a byte stream into packets, read replies. No I/O, no clock.
 */
import { ProtocolError, XenstoreError } from '../errors.js';

/** Message types. Names and numbers are those of `enum xsd_sockmsg_type`. */
export const XS = {
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
  GET_FEATURE: 23,
  SET_FEATURE: 24,
  GET_QUOTA: 25,
  SET_QUOTA: 26,
} as const;

/** Size of `struct xsd_sockmsg`: four native-endian u32 (type, req_id, tx_id, len). */
export const HEADER_SIZE = 16;
/** XENSTORE_PAYLOAD_MAX: most bytes behind a header, in either direction. */
export const PAYLOAD_MAX = 4096;
/** XENSTORE_ABS_PATH_MAX and XENSTORE_REL_PATH_MAX, in bytes. */
export const ABS_PATH_MAX = 3072;
export const REL_PATH_MAX = 2048;

/** Errors a daemon may name in an ERROR reply (`xsd_errors[]`). Others are read as EINVAL, as libxenstore does. */
const ERROR_NAMES = new Set(
  'EINVAL EACCES EEXIST EISDIR ENOENT ENOMEM ENOSPC EIO ENOTEMPTY ENOSYS EROFS EBUSY EAGAIN EISCONN E2BIG EPERM'.split(
    ' ',
  ),
);

export interface Packet {
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  readonly payload: Uint8Array;
}

/** Every request a client may send. `tx` is the transaction's id, 0 or absent outside of one. */
export type Request =
  | { op: 'DIRECTORY' | 'READ' | 'GET_PERMS' | 'MKDIR' | 'RM'; path: string; tx?: number }
  | { op: 'WRITE'; path: string; value: Uint8Array; tx?: number }
  | { op: 'SET_PERMS'; path: string; perms: readonly string[]; tx?: number }
  | { op: 'DIRECTORY_PART'; path: string; offset: number; tx?: number }
  | { op: 'WATCH' | 'UNWATCH'; path: string; token: string }
  | { op: 'TRANSACTION_START' | 'RESET_WATCHES' }
  | { op: 'TRANSACTION_END'; commit: boolean; tx: number }
  | { op: 'GET_DOMAIN_PATH' | 'IS_DOMAIN_INTRODUCED' | 'RELEASE' | 'RESUME'; domid: number }
  | { op: 'INTRODUCE'; domid: number; gfn: number; evtchn: number }
  | { op: 'SET_TARGET'; domid: number; target: number }
  | { op: 'GET_FEATURE' | 'SET_FEATURE' | 'GET_QUOTA' | 'SET_QUOTA' | 'CONTROL'; args: readonly string[] };

const utf8 = new TextEncoder();
const utf8Decoder = new TextDecoder();
const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** One whole message for this request. Throws XenstoreError, EINVAL or E2BIG, for what no daemon would understand. */
export function encodeRequest(request: Request, reqId: number): Uint8Array {
  const path = 'path' in request ? request.path : '';
  for (const text of textsOf(request)) {
    // What stands behind a NUL would be read as another argument.
    if (text.includes('\0')) throw new XenstoreError('EINVAL', request.op, path, { detail: 'it contains a NUL' });
  }
  const max = path.startsWith('/') ? ABS_PATH_MAX : REL_PATH_MAX;
  if (utf8.encode(path).length > max)
    throw new XenstoreError('EINVAL', request.op, path, { detail: `its path is longer than ${max} bytes` });
  const payload = requestPayload(request);
  if (payload.length > PAYLOAD_MAX)
    throw new XenstoreError('E2BIG', request.op, path, { detail: `${payload.length} bytes, at most ${PAYLOAD_MAX}` });
  return encodePacket({ type: XS[request.op], reqId, txId: 'tx' in request ? (request.tx ?? 0) : 0, payload });
}

function textsOf(request: Request): readonly string[] {
  return [
    ...('path' in request ? [request.path] : []),
    ...('token' in request ? [request.token] : []),
    ...('perms' in request ? request.perms : []),
    ...('args' in request ? request.args : []),
  ];
}

function requestPayload(request: Request): Uint8Array {
  switch (request.op) {
    case 'DIRECTORY':
    case 'READ':
    case 'GET_PERMS':
    case 'MKDIR':
    case 'RM':
      return strings(request.path);
    case 'WRITE':
      return concat([strings(request.path), request.value]); // no NUL after the value
    case 'SET_PERMS':
      return strings(request.path, ...request.perms);
    case 'DIRECTORY_PART':
      return strings(request.path, String(request.offset));
    case 'WATCH':
    case 'UNWATCH':
      return strings(request.path, request.token);
    case 'TRANSACTION_START':
    case 'RESET_WATCHES':
      return strings('');
    case 'TRANSACTION_END':
      return strings(request.commit ? 'T' : 'F');
    case 'GET_DOMAIN_PATH':
    case 'IS_DOMAIN_INTRODUCED':
    case 'RELEASE':
    case 'RESUME':
      return strings(String(request.domid));
    case 'INTRODUCE':
      return strings(String(request.domid), String(request.gfn), String(request.evtchn));
    case 'SET_TARGET':
      return strings(String(request.domid), String(request.target));
    case 'GET_FEATURE':
    case 'SET_FEATURE':
    case 'GET_QUOTA':
    case 'SET_QUOTA':
    case 'CONTROL':
      return strings(...request.args);
    default:
      return request satisfies never;
  }
}

/** Header and payload as they go on the wire. */
export function encodePacket({ type, reqId, txId, payload }: Packet): Uint8Array {
  if (payload.length > PAYLOAD_MAX) {
    throw new RangeError(`a xenstore message carries at most ${PAYLOAD_MAX} bytes, this one has ${payload.length}`);
  }
  const bytes = new Uint8Array(HEADER_SIZE + payload.length);
  const header = new DataView(bytes.buffer);
  header.setUint32(0, type, LITTLE_ENDIAN);
  header.setUint32(4, reqId, LITTLE_ENDIAN);
  header.setUint32(8, txId, LITTLE_ENDIAN);
  header.setUint32(12, payload.length, LITTLE_ENDIAN);
  bytes.set(payload, HEADER_SIZE);
  return bytes;
}

/**
 * Cuts a byte stream into packets, whatever the pieces it arrives in. Holds at most one incomplete message.
 * After a ProtocolError the stream cannot be trusted any more: close the connection.
 */
export class Parser {
  private pending: Uint8Array = new Uint8Array(0);
  private consumed = 0;
  constructor(private readonly peer: string) {}

  push(bytes: Uint8Array): Packet[] {
    const buffer = concat([this.pending, bytes]); // a copy: of a Buffer slice() would be a view that keeps all of it
    const packets: Packet[] = [];
    let at = 0;
    while (buffer.length - at >= HEADER_SIZE) {
      const packet = this.packetAt(buffer, at);
      if (packet === undefined) break;
      packets.push(packet);
      at += HEADER_SIZE + packet.payload.length;
    }
    this.pending = buffer.slice(at);
    this.consumed += at;
    return packets;
  }

  private packetAt(buffer: Uint8Array, at: number): Packet | undefined {
    const header = new DataView(buffer.buffer, buffer.byteOffset + at, HEADER_SIZE);
    const type = header.getUint32(0, LITTLE_ENDIAN);
    const len = header.getUint32(12, LITTLE_ENDIAN);
    if (len > PAYLOAD_MAX) {
      throw new ProtocolError(
        this.peer,
        this.consumed + at,
        `message of type ${type} announces ${len} bytes, more than ${PAYLOAD_MAX}`,
      );
    }
    const start = at + HEADER_SIZE;
    if (buffer.length < start + len) return undefined;
    return {
      type,
      reqId: header.getUint32(4, LITTLE_ENDIAN),
      txId: header.getUint32(8, LITTLE_ENDIAN),
      payload: buffer.slice(start, start + len),
    };
  }
}

/** NUL-terminated strings as bytes. */
export function strings(...values: string[]): Uint8Array {
  return utf8.encode(values.map((value) => `${value}\0`).join(''));
}

/** The strings of a payload, whether or not the last one carries its NUL; an empty payload has none. */
export function parseStrings(payload: Uint8Array): string[] {
  const text = utf8Decoder.decode(payload);
  if (text === '') return [];
  return (text.endsWith('\0') ? text.slice(0, -1) : text).split('\0');
}

/** The error's name in an ERROR reply. */
export function parseErrorName(payload: Uint8Array): string {
  const name = parseStrings(payload)[0] ?? '';
  if (name === 'EQUOTA') return 'ENOSPC'; // oxenstored's word for every quota (process.ml)
  return ERROR_NAMES.has(name) ? name : 'EINVAL';
}

/** Path and token of a WATCH_EVENT, or undefined when the payload is not two strings. */
export function parseWatchEvent(payload: Uint8Array): { path: string; token: string } | undefined {
  const [path, token] = parseStrings(payload);
  return path === undefined || token === undefined ? undefined : { path, token };
}

/** Generation and children of one DIRECTORY_PART reply; `last` when the listing ends with it. */
export function parseDirectoryPart(payload: Uint8Array): { generation: string; children: string[]; last: boolean } {
  const [generation = '', ...children] = utf8Decoder.decode(payload).split('\0');
  children.pop(); // what follows the last NUL
  const last = children.at(-1) === '';
  if (last) children.pop();
  return { generation, children, last };
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
