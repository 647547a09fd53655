/**
 * One client of the simulator's store: what it is to be told, in the order in which xenstored queues it, and its own
 * watches and transactions.
 */
import { encodePacket, PAYLOAD_MAX, type Packet, XS } from '../xenstore/wire.js';
import { StoreRefusal } from './permissions.js';
import { answer } from './requests.js';
import type { SimulatedStore } from './store.js';
import type { Transaction } from './transaction.js';
import { isSpecial, type Watch, type Watcher } from './watches.js';

/** Takes what belongs together in one call. False: nothing more before resume(). */
export type Send = (bytes: Uint8Array) => unknown;

export class StoreConnection implements Watcher {
  readonly transactions = new Map<number, Transaction>();
  readonly watches = new Set<Watch>();
  onEnd: () => void = () => {};
  /** out_list */
  private outgoing: Uint8Array[] = [];
  private outgoingBytes = 0;
  /** The events in `outgoing`: one that says the same as another before it is left out. */
  private readonly waiting = new Set<string>();
  private blocked = false;
  private ended = false;
  private lastTransaction = 0;
  constructor(
    readonly store: SimulatedStore,
    readonly domid: number,
    private readonly send: Send,
  ) {}

  get target(): number | undefined {
    return this.store.targets.get(this.domid);
  }

  /** True while the client does not read what it has been sent: xenstored then takes no requests from it. */
  get isBlocked(): boolean {
    return this.blocked;
  }

  /** Its watches and transactions go with it. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.store.forget(this);
    this.onEnd();
  }

  /** Answers one request: its reply, and to whom it concerns the events it causes. */
  handle(packet: Packet): void {
    if (this.ended) return;
    try {
      answer(this, packet);
    } catch (error) {
      if (!(error instanceof StoreRefusal)) throw error;
      this.reply(packet, Buffer.from(`${error.code}\0`), XS.ERROR);
    }
    this.store.flush();
  }

  /** send_reply() */
  reply({ type, reqId, txId }: Packet, payload: Uint8Array, as: number = type): void {
    if (payload.length > PAYLOAD_MAX) throw new StoreRefusal('E2BIG');
    this.queue(encodePacket({ type: as, reqId, txId, payload }));
  }

  /** send_event(): one that is too long (XSA-324), or more than a slow client may have waiting, is lost. */
  tell(path: string, token: string): void {
    const text = `${path}\0${token}\0`;
    if (text.length > PAYLOAD_MAX || this.outgoingBytes > this.store.quotas.memory) return;
    if (!isSpecial(path) && this.waiting.has(text)) return;
    this.waiting.add(text);
    this.queue(encodePacket({ type: XS.WATCH_EVENT, reqId: 0, txId: 0, payload: Buffer.from(text, 'latin1') }));
  }

  private queue(bytes: Uint8Array): void {
    this.outgoing.push(bytes);
    this.outgoingBytes += bytes.length;
    this.store.unflushed.add(this);
  }

  flush(): void {
    if (this.blocked || this.outgoing.length === 0) return;
    const bytes = this.outgoing.length === 1 ? (this.outgoing[0] as Uint8Array) : Buffer.concat(this.outgoing);
    this.outgoing = [];
    this.outgoingBytes = 0;
    this.waiting.clear();
    if (!this.ended) this.blocked = this.send(bytes) === false;
  }

  /** The client reads again. */
  resume(): void {
    this.blocked = false;
    this.flush();
  }

  /** Ids count from 1 on each connection. */
  addTransaction(transaction: Transaction): number {
    this.transactions.set(++this.lastTransaction, transaction);
    return this.lastTransaction;
  }
}
