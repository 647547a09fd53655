/**
 * EDGE: requests and answers on one netlink socket (man 7 netlink), over node-netlink's raw socket.
 *
 * INVARIANTS: node-netlink 0.3.0 aborts the whole process when a listener throws or its receive buffer overflows, so
 * - one request is in flight on a socket, and the socket joins no multicast group;
 * - nothing throws out of a listener;
 * - every request has a deadline, and what waits on a socket that is closed is rejected here.
 */
import { getSystemErrorName } from 'node:util';
import { RawNetlinkSocket } from 'netlink/dist/raw.js';
import { NetlinkError } from '../errors.js';
import { type Keep, LITTLE_ENDIAN, viewOf } from './attributes.js';

/** Protocols, linux/netlink.h. */
export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
export const NETLINK_KOBJECT_UEVENT = 15;
export const NETLINK_GENERIC = 16;

const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
const NLMSG_MIN_TYPE = 16;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
/** Modifiers of what makes something. */
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLMSGHDR = 16;
const TIMEOUT_MS = 5_000;

/** What a request expects: one answer, a list of them, or only the kernel's word that it is done. */
export type Expect = 'one' | 'dump' | 'ack';

export interface NetlinkRequest {
  readonly type: number;
  readonly payload: Uint8Array;
  readonly expect: Expect;
  /** Which of the answers are of use: the others are passed over where they lie. */
  readonly keep?: Keep | undefined;
  /** Further ones, such as NLM_F_CREATE. */
  readonly flags?: number;
  /** For messages: what is being done, and to which interface. */
  readonly op: string;
  readonly ifname: string;
}

interface Waiting {
  readonly request: NetlinkRequest;
  readonly seq: number;
  readonly answers: Uint8Array[];
  readonly resolve: (answers: Uint8Array[]) => void;
  readonly reject: (error: Error) => void;
}

export class NetlinkSocket {
  private socket: RawNetlinkSocket | undefined;
  private waiting: Waiting | undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly queue: Waiting[] = [];
  private seq = 0;
  constructor(private readonly protocol: number) {}

  /** The answers' payloads (empty for 'ack'). Rejects with NetlinkError; its code is the kernel's errno. */
  request(request: NetlinkRequest): Promise<Uint8Array[]> {
    return new Promise((resolve, reject) => {
      this.seq = (this.seq + 1) >>> 0;
      this.queue.push({ request, seq: this.seq, answers: [], resolve, reject });
      this.sendNext();
    });
  }

  /** Rejects what waits. A later request opens the socket anew. */
  close(): void {
    this.drop('ECANCELED');
    for (const { request, reject } of this.queue.splice(0)) reject(netlinkError('ECANCELED', request));
  }

  private sendNext(): void {
    if (this.waiting !== undefined) return;
    this.waiting = this.queue.shift();
    if (this.waiting === undefined) return;
    const { request, seq } = this.waiting;
    this.timer = setTimeout(() => this.drop('ETIMEDOUT'), TIMEOUT_MS);
    try {
      this.socket ??= this.open();
      // Without a callback an error of send would be emitted, unheard, and end the process.
      this.socket.send(encodeMessage(request, seq), {}, (error) => {
        if (error !== undefined && this.waiting?.seq === seq) this.drop(error.code);
      });
    } catch (error) {
      this.drop((error as NodeJS.ErrnoException).code ?? 'EIO');
    }
  }

  private open(): RawNetlinkSocket {
    const socket = new RawNetlinkSocket(this.protocol);
    socket.on('message', (bytes, { port }) => {
      if (port === 0) this.receive(bytes); // only the kernel has port 0; other programs could send too
    });
    socket.on('error', (error) => this.drop(error.code));
    return socket;
  }

  /** Gives the present request up, with its socket: a late answer must not be taken for the next one's. */
  private drop(code: string): void {
    const { socket, waiting } = this;
    this.socket = undefined;
    this.waiting = undefined;
    clearTimeout(this.timer);
    try {
      socket?.close();
    } catch {
      // node-netlink has closed it already, after an error
    }
    waiting?.reject(netlinkError(code, waiting.request));
    setImmediate(() => this.sendNext());
  }

  private receive(bytes: Uint8Array): void {
    for (const message of eachMessage(bytes, this.waiting?.request.keep)) {
      if (this.waiting?.seq === message.seq) this.take(this.waiting, message);
    }
  }

  private take(waiting: Waiting, { type, payload }: Message): void {
    if (type === NLMSG_ERROR) {
      const errno = errnoOf(payload);
      this.finish(waiting, errno === 0 ? undefined : netlinkError(errnoName(errno), waiting.request, errno));
    } else if (type === NLMSG_DONE) {
      this.finish(waiting, undefined);
    } else {
      waiting.answers.push(payload);
      if (waiting.request.expect === 'one') this.finish(waiting, undefined);
    }
  }

  private finish(waiting: Waiting, error: NetlinkError | undefined): void {
    clearTimeout(this.timer);
    this.waiting = undefined;
    if (error === undefined) waiting.resolve(waiting.answers);
    else waiting.reject(error);
    this.sendNext();
  }
}

/** As much as the kernel allows without a privilege: twice its default. */
const EVENT_BUFFER = 1 << 20;
/** RTNLGRP_LINK as a mask, and the group of the kernel's own uevents (systemd-udevd sends its to 2). */
const EVENTS = 1;

/**
 * Datagrams of the protocol's first multicast group, and the answers to `first`; false when that cannot be. Only for a process of its own, that may
 * die: node-netlink aborts it when they come faster than they are read.
 */
export function listen(
  protocol: number,
  heard: { onBytes(bytes: Uint8Array): void; onError(code: string): void },
  first?: NetlinkRequest,
): boolean {
  const failed = (error: NodeJS.ErrnoException | undefined) =>
    error !== undefined && heard.onError(error.code ?? 'EIO');
  try {
    const socket = new RawNetlinkSocket(protocol, {
      localGroups: EVENTS,
      recvBufferSize: EVENT_BUFFER,
      sendBufferSize: 0,
    });
    socket.on('message', (bytes, { port }) => {
      if (port === 0) heard.onBytes(bytes);
    });
    socket.on('error', failed);
    if (first !== undefined) socket.send(encodeMessage(first, 1), {}, failed);
    return true;
  } catch (error) {
    failed(error as NodeJS.ErrnoException);
    return false;
  }
}

interface Message {
  readonly type: number;
  readonly seq: number;
  readonly payload: Uint8Array;
}

function encodeMessage({ type, payload, expect, flags: more = 0 }: NetlinkRequest, seq: number): Buffer {
  const bytes = Buffer.alloc(NLMSGHDR + payload.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, NLMSGHDR);
  const flags = { one: 0, dump: NLM_F_DUMP, ack: NLM_F_ACK }[expect];
  view.setUint32(0, bytes.length, LITTLE_ENDIAN);
  view.setUint16(4, type, LITTLE_ENDIAN);
  view.setUint16(6, NLM_F_REQUEST | flags | more, LITTLE_ENDIAN);
  view.setUint32(8, seq, LITTLE_ENDIAN);
  bytes.set(payload, NLMSGHDR);
  return bytes;
}

/** The messages of one datagram, all of netlink's own among them; stops at the first whose length is impossible. */
export function* eachMessage(bytes: Uint8Array, keep?: Keep): Generator<Message> {
  const view = viewOf(bytes);
  for (let at = 0; at + NLMSGHDR <= bytes.length; ) {
    const length = view.getUint32(at, LITTLE_ENDIAN);
    if (length < NLMSGHDR || at + length > bytes.length) return;
    const type = view.getUint16(at + 4, LITTLE_ENDIAN);
    if (keep === undefined || type < NLMSG_MIN_TYPE || keep(view, at + NLMSGHDR, at + length))
      yield {
        type,
        seq: view.getUint32(at + 8, LITTLE_ENDIAN),
        payload: new Uint8Array(bytes.buffer, bytes.byteOffset + at + NLMSGHDR, length - NLMSGHDR),
      };
    at += (length + 3) & ~3;
  }
}

/** struct nlmsgerr begins with a negative errno; 0 is an acknowledgement. */
function errnoOf(payload: Uint8Array): number {
  return payload.length < 4 ? 0 : -new DataView(payload.buffer, payload.byteOffset, 4).getInt32(0, LITTLE_ENDIAN);
}

function errnoName(errno: number): string {
  return errno > 0 ? getSystemErrorName(-errno) : 'EIO';
}

function netlinkError(code: string, { op, ifname }: NetlinkRequest, errno = 0): NetlinkError {
  return new NetlinkError(code, op, ifname, errno);
}
