/**
 * A driver domain's /dev/xen/xenbus on the simulator's store, as Linux makes it (drivers/xen/xenbus/xenbus_dev_frontend.c,
 * shared/contract.md 5.5): every way in which it differs from a socket, so that the client is tested against each.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DeviceFile } from '../xenstore/transport.js';
import {
  encodePacket,
  HEADER_SIZE,
  type Packet,
  Parser,
  parseErrorName,
  parseStrings,
  strings,
  XS,
} from '../xenstore/wire.js';
import type { StoreConnection } from './connection.js';
import type { SimulatedStore } from './store.js';

/** Size of the buffer that collects what is written, header included. */
const BUFFER_SIZE = 4096;

export interface XenbusDeviceOptions {
  /** What passes between a request and its answer; one that never resolves is a dead xenstored. */
  readonly answerAfter?: () => Promise<unknown>;
  /** When a watch's first event comes; Linux leaves it to the scheduler. Default: before the OK. */
  readonly firstEvent?: 'before-ok' | 'after-ok';
  /** Kernels before about 4.12 answer WATCH and UNWATCH with request id 0. */
  readonly watchReplyIdZero?: boolean;
}

/** A write() that Linux refused; `code` is the errno's name, as node:fs gives it. */
export class DeviceWriteError extends Error {
  constructor(readonly code: string) {
    super(`${code}: write`);
  }
}

/** The kernel's tokens are addresses, so no two are the same, whichever file they belong to. */
let nextAddress = 0x1000;

interface KernelWatch {
  readonly path: string;
  readonly token: string;
}

/** One open file. Like the kernel it has transactions, watches and a queue of its own. */
export class XenbusDevice implements DeviceFile {
  /** Most requests that xenstored had from this file without having answered. The client must keep it at 1. */
  maxInFlight = 0;
  /** Messages taken from write(), by type. */
  readonly taken: number[] = [];
  private readonly connection: StoreConnection;
  private readonly replies = new Map<number, (packet: Packet) => void>();
  /** By the kernel's own token; the newest last. */
  private readonly watches = new Map<string, KernelWatch>();
  private readonly transactions = new Set<number>();
  private readonly fromStore = new Parser('xenstored');
  private buffer = Buffer.alloc(0);
  private readable = Buffer.alloc(0);
  private wake: () => void = () => {};
  private nextId = 1;
  /** An event's ids are what lies on the stack. The worst that can lie there: those of the request that waits. */
  private garbage = { reqId: 0, txId: 0 };

  constructor(
    store: SimulatedStore,
    domid: number,
    private readonly options: XenbusDeviceOptions = {},
  ) {
    this.connection = store.connect(domid, (bytes) => this.receive(bytes));
  }

  /** Of this file. */
  get openTransactions(): number {
    return this.transactions.size;
  }

  /** xenbus_file_write(): takes at most one message, and what stands behind it is lost. */
  async write(bytes: Uint8Array): Promise<number> {
    if (bytes.length > BUFFER_SIZE - this.buffer.length) this.refuse('EINVAL');
    const buffer = Buffer.concat([this.buffer, bytes]);
    this.buffer = buffer;
    if (buffer.length < HEADER_SIZE) return bytes.length;
    const [type, reqId, txId, len] = header(buffer);
    if (HEADER_SIZE + len > BUFFER_SIZE) this.refuse('E2BIG');
    if (buffer.length < HEADER_SIZE + len) return bytes.length;
    this.buffer = Buffer.alloc(0);
    const payload = new Uint8Array(buffer.subarray(HEADER_SIZE, HEADER_SIZE + len));
    await this.take({ type, reqId, txId, payload });
    return bytes.length;
  }

  /** xenbus_file_read(): as much of the queue as fits, whole messages or not; waits while there is nothing. */
  async read(buffer: Uint8Array): Promise<number> {
    while (this.readable.length === 0)
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    const length = Math.min(buffer.length, this.readable.length);
    buffer.set(this.readable.subarray(0, length));
    this.readable = this.readable.subarray(length);
    return length;
  }

  /** Drops the watches and aborts the transactions. A read that waits goes on waiting, as in Linux. */
  async close(): Promise<void> {
    this.connection.end();
    this.watches.clear();
    this.transactions.clear();
  }

  private refuse(code: string): never {
    this.buffer = Buffer.alloc(0);
    throw new DeviceWriteError(code);
  }

  private async take(packet: Packet): Promise<void> {
    this.taken.push(packet.type);
    this.garbage = { reqId: packet.reqId, txId: 0xdeadbeef };
    if (packet.type === XS.WATCH || packet.type === XS.UNWATCH) await this.takeWatch(packet);
    else this.takeRequest(packet);
  }

  /** xenbus_write_transaction(). The write returns at once; the reply comes to read(). */
  private takeRequest(packet: Packet): void {
    const { type, txId, payload } = packet;
    if (type !== XS.TRANSACTION_START && txId !== 0 && !this.transactions.has(txId))
      return this.answer(packet, XS.ERROR, 'ENOENT');
    if (type === XS.TRANSACTION_END && !['T\0', 'F\0'].includes(Buffer.from(payload).toString('latin1')))
      return this.answer(packet, XS.ERROR, 'EINVAL');
    void this.ask(packet).then((reply) => {
      if (type === XS.TRANSACTION_END) this.transactions.delete(txId);
      if (reply.type === XS.TRANSACTION_START) this.transactions.add(Number(parseStrings(reply.payload)[0]));
      this.queue({ ...reply, reqId: packet.reqId });
    });
  }

  /** xenbus_write_watch(). The write lasts until xenstored has answered, and its errno is the only sign of a failure. */
  private async takeWatch(packet: Packet): Promise<void> {
    const [path, token] = Buffer.from(packet.payload).toString('latin1').split('\0').slice(0, -1);
    if (path === undefined || token === undefined) return this.answer(packet, XS.ERROR, 'EINVAL');
    const watch = { path: utf8(path), token: utf8(token) }; // a depth, the third, is not looked at
    if (packet.type === XS.WATCH) await this.register(watch);
    else await this.unregister(watch);
    this.answer({ ...packet, reqId: this.options.watchReplyIdZero ? 0 : packet.reqId }, packet.type, 'OK');
  }

  private async register(watch: KernelWatch): Promise<void> {
    nextAddress += 16;
    const kernelToken = nextAddress.toString(16).toUpperCase().padStart(16, '0');
    this.watches.set(kernelToken, watch);
    const reply = await this.ask({ type: XS.WATCH, reqId: 0, txId: 0, payload: strings(watch.path, kernelToken) });
    if (reply.type !== XS.ERROR) return;
    this.watches.delete(kernelToken);
    throw new DeviceWriteError(parseErrorName(reply.payload));
  }

  /** Nothing registered: nothing done, and OK all the same. */
  private async unregister({ path, token }: KernelWatch): Promise<void> {
    const found = [...this.watches].reverse().find(([, watch]) => watch.path === path && watch.token === token);
    if (found === undefined) return;
    const [kernelToken] = found;
    this.watches.delete(kernelToken);
    await this.ask({ type: XS.UNWATCH, reqId: 0, txId: 0, payload: strings(path, kernelToken) });
  }

  /** xs_send(): to xenstored, under an id of the kernel's own. */
  private ask(packet: Packet): Promise<Packet> {
    const reqId = this.nextId++;
    return new Promise((resolve) => {
      this.replies.set(reqId, resolve);
      this.maxInFlight = Math.max(this.maxInFlight, this.replies.size);
      const ready = this.options.answerAfter ?? nextTurn;
      void ready().then(() => this.connection.handle({ ...packet, reqId }));
    });
  }

  private receive(bytes: Uint8Array): void {
    for (const packet of this.fromStore.push(bytes)) {
      if (packet.type === XS.WATCH_EVENT) this.event(packet);
      else this.replied(packet);
    }
  }

  private replied(packet: Packet): void {
    const resolve = this.replies.get(packet.reqId);
    this.replies.delete(packet.reqId);
    resolve?.(packet);
  }

  /** watch_fired(), in the kernel thread xenwatch: behind, or ahead of, the replies. */
  private event({ payload }: Packet): void {
    const [path = '', kernelToken = ''] = parseStrings(payload);
    const deliver = () => {
      const watch = this.watches.get(kernelToken);
      if (watch === undefined) return;
      const event = strings(path, watch.token);
      this.queue({ type: XS.WATCH_EVENT, ...this.garbage, payload: event });
    };
    if (this.options.firstEvent === 'after-ok') void nextTurn().then(deliver);
    else deliver();
  }

  /** xenbus_command_reply(): an answer of the kernel's own. */
  private answer({ reqId, txId }: Packet, type: number, text: string): void {
    this.queue({ type, reqId, txId, payload: strings(text) });
  }

  private queue(packet: Packet): void {
    this.readable = Buffer.concat([this.readable, encodePacket(packet)]);
    this.wake();
  }
}

/** Type, request id, transaction id and length, in the machine's byte order. */
function header(buffer: Buffer): [number, number, number, number] {
  const words = new Uint32Array(new Uint8Array(buffer.subarray(0, HEADER_SIZE)).buffer);
  return [...words] as [number, number, number, number];
}

const utf8 = (latin1: string): string => Buffer.from(latin1, 'latin1').toString();
