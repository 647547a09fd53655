/**
 * A xenstore client, usable as a library: `import { connectXenstore } from 'vifd/xenstore'`. Speaks the protocol itself, over
 * dom0's socket or a domain's /dev/xen/xenbus. Semantics: docs/misc/xenstore.txt and shared/contract.md section 5.
 */
import { ConnectionError, hasCode, ProtocolError, XenstoreError } from '../errors.js';
import { Lanes } from '../lanes.js';
import { StoreOperations } from './operations.js';
import { openTransport, type Transport } from './transport.js';
import {
  encodeRequest,
  type Packet,
  Parser,
  parseErrorName,
  parseStrings,
  parseWatchEvent,
  type Request,
  XS,
} from './wire.js';

export { ConnectionError, ProtocolError, VifdError, XenstoreError } from '../errors.js';
export { StoreOperations } from './operations.js';
export { openDevice, openSocket, openTransport, type Transport } from './transport.js';

export interface WatchEvent {
  /** Relative if the watch's path was. The node may be gone, or unchanged: read, never trust the event. */
  readonly path: string;
  readonly token: string;
}

export interface Watch {
  readonly path: string;
  readonly token: string;
  close(): Promise<void>;
}

export interface ClientOptions {
  /** Milliseconds that xenstored may take for one request, until it is rejected with ETIMEDOUT. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** EAGAIN ends a transaction whose nodes somebody else touched; so often in a row means something is wrong. */
const MAX_ATTEMPTS = 50;

interface Pending {
  readonly request: Request;
  readonly reqId: number;
  readonly resolve: (payload: Uint8Array) => void;
  readonly reject: (error: Error) => void;
  /** Runs from when the request is sent; or from the call, while an earlier one is overdue. */
  timer: NodeJS.Timeout | undefined;
}

/**
 * INVARIANTS
 * - At most transport.maxInFlight requests wait for a reply; a request that timed out still holds its place until
 *   its late reply comes, so that the limit holds on the wire. What queues behind it has a deadline all the same.
 * - A request id is never used again while a reply to it may come.
 * - Once closed, everything that waits is rejected, and nothing is sent any more.
 */
export class XenstoreClient extends StoreOperations {
  private readonly queue: Pending[] = [];
  private readonly inFlight = new Map<number, Pending>();
  /** A domain may have 10 transactions open, its kernel's included; more are refused with ENOSPC (contract 5.4). */
  private readonly transactions = new Lanes(2);
  /** Those in flight that have timed out. */
  private readonly overdue = new Set<Pending>();
  private readonly listeners = new Map<string, (event: WatchEvent) => void>();
  private readonly parser: Parser;
  private readonly timeoutMs: number;
  private nextId = 1;
  private failure: ConnectionError | undefined;
  /** Set when the connection ends, by whatever: the transport is closed once. */
  private transportClosed: Promise<void> | undefined;
  /** When the last reply came, or when a request was sent that nothing else was waiting for. */
  private heardAt = 0;
  private settleClosed: (error: ConnectionError) => void = () => {};
  /** Resolves with the reason when the connection is gone, whoever ended it. */
  readonly closed: Promise<ConnectionError>;

  constructor(
    private readonly transport: Transport,
    options: ClientOptions = {},
  ) {
    super((request) => this.enqueue(request), 0);
    this.timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.parser = new Parser(transport.peer);
    this.closed = new Promise((resolve) => {
      this.settleClosed = resolve;
    });
    transport.start(
      (bytes) => this.receive(bytes),
      (cause) => this.fail(asConnectionError(transport.peer, cause)),
    );
  }

  /** The device's or socket's path. */
  get peer(): string {
    return this.transport.peer;
  }

  /** Any request, for the operations that have no method of their own. */
  request(request: Request): Promise<Uint8Array> {
    return this.enqueue(request);
  }

  /** /local/domain/<domid>. */
  async domainPath(domid: number): Promise<string> {
    return parseStrings(await this.enqueue({ op: 'GET_DOMAIN_PATH', domid }))[0] ?? '';
  }

  /**
   * Runs `body` in a transaction and commits. When xenstored answers EAGAIN, all of it runs again, reads included; so
   * body must not keep anything from an earlier attempt. An error of body aborts the transaction and is passed on.
   */
  transaction<T>(body: (tx: StoreOperations) => Promise<T>): Promise<T> {
    return this.transactions.run(() => this.attemptUntilCommitted(body));
  }

  private async attemptUntilCommitted<T>(body: (tx: StoreOperations) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const tx = Number(parseStrings(await this.enqueue({ op: 'TRANSACTION_START' }))[0]);
      if (!(tx > 0)) throw new XenstoreError('EPROTO', 'TRANSACTION_START', ''); // 0 would be no transaction at all
      let result: T;
      try {
        result = await body(new StoreOperations(this.send, tx));
      } catch (error) {
        await this.enqueue({ op: 'TRANSACTION_END', commit: false, tx }).catch(() => undefined);
        throw error;
      }
      try {
        await this.enqueue({ op: 'TRANSACTION_END', commit: true, tx });
        return result;
      } catch (error) {
        if (!hasCode(error, 'EAGAIN') || attempt >= MAX_ATTEMPTS) throw error;
      }
    }
  }

  /**
   * Calls `listener` for every change at or below `path`, and once at the start. The first call may come before the
   * promise resolves. The listener must not throw.
   */
  async watch(path: string, listener: (event: WatchEvent) => void, token = `vifd-${this.nextId}`): Promise<Watch> {
    if (this.listeners.has(token)) throw new XenstoreError('EEXIST', 'WATCH', path);
    this.listeners.set(token, listener);
    try {
      await this.enqueue({ op: 'WATCH', path, token });
    } catch (error) {
      this.listeners.delete(token);
      throw error;
    }
    return { path, token, close: () => this.unwatch(path, token) };
  }

  private async unwatch(path: string, token: string): Promise<void> {
    this.listeners.delete(token);
    await this.enqueue({ op: 'UNWATCH', path, token });
  }

  /** Rejects all that waits and closes the transport. Rejects with ETIMEDOUT if the device's read cannot be woken. */
  close(): Promise<void> {
    this.fail(new ConnectionError('ECANCELED', this.peer, 'the connection was closed by vifd'));
    return this.transportClosed ?? Promise.resolve();
  }

  /** After close() was rejected: resolves when xenstored has answered all the same, and a new connection makes sense. */
  released(): Promise<void> {
    return this.transport.released();
  }

  private enqueue(request: Request): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined) return reject(this.failure);
      const reqId = this.nextId;
      this.nextId = (this.nextId + 1) % 0x1_0000_0000;
      const pending: Pending = { request, reqId, resolve, reject, timer: undefined };
      if (this.overdue.size > 0) this.arm(pending);
      this.queue.push(pending);
      this.pump();
    });
  }

  private pump(): void {
    while (this.inFlight.size < this.transport.maxInFlight) {
      const pending = this.queue.shift();
      if (pending === undefined) return;
      let message: Uint8Array;
      try {
        message = encodeRequest(pending.request, pending.reqId);
      } catch (error) {
        this.settle(pending, () => pending.reject(error as Error));
        continue;
      }
      if (this.inFlight.size === 0) this.heardAt = performance.now();
      this.inFlight.set(pending.reqId, pending);
      this.arm(pending);
      this.transport.send(message).catch((error: NodeJS.ErrnoException) => {
        // The device refuses some requests by the errno of the write, and then sends no reply.
        this.settle(pending, () => pending.reject(requestError(error.code ?? 'EIO', pending.request, error)));
        this.pump();
      });
    }
  }

  private settle(pending: Pending, how: () => void): void {
    clearTimeout(pending.timer);
    this.inFlight.delete(pending.reqId);
    this.overdue.delete(pending);
    how();
  }

  private arm(pending: Pending): void {
    clearTimeout(pending.timer);
    pending.timer = setTimeout(() => this.expire(pending), this.timeoutMs);
  }

  private expire(pending: Pending): void {
    const waiting = this.queue.indexOf(pending);
    if (waiting >= 0) this.queue.splice(waiting, 1);
    else this.overdue.add(pending);
    for (const queued of this.queue) if (queued.timer === undefined) this.arm(queued);
    pending.reject(requestError('ETIMEDOUT', pending.request));
    // On the device a reply that is lost would hold the only place for ever.
    const silentMs = performance.now() - this.heardAt;
    if (silentMs > 1.5 * this.timeoutMs) this.fail(this.silence(silentMs), false);
  }

  private silence(ms: number): ConnectionError {
    return new ConnectionError('ETIMEDOUT', this.peer, `xenstored has not answered for ${Math.round(ms / 1000)} s`);
  }

  private receive(bytes: Uint8Array): void {
    try {
      for (const packet of this.parser.push(bytes)) this.dispatch(packet);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.fail(new ConnectionError(error.code, this.peer, error.message, { cause: error }));
    }
  }

  private dispatch(packet: Packet): void {
    // Type before id: the ids of the device's events are garbage.
    if (packet.type === XS.WATCH_EVENT) {
      this.deliver(packet);
      return;
    }
    this.heardAt = performance.now(); // events tell nothing of a reply that is lost
    const pending = this.inFlight.get(packet.reqId) ?? this.watchWithoutId(packet);
    if (pending === undefined) return;
    // Whoever began this transaction has been told ETIMEDOUT.
    if (this.overdue.has(pending) && packet.type === XS.TRANSACTION_START)
      this.abort(Number(parseStrings(packet.payload)[0]));
    this.settle(pending, () => {
      if (packet.type === XS.ERROR) pending.reject(requestError(parseErrorName(packet.payload), pending.request));
      else if (packet.type !== XS[pending.request.op]) pending.reject(requestError('EPROTO', pending.request));
      else pending.resolve(packet.payload);
    });
    this.pump();
  }

  /** A transaction that nobody ends any more would stay open: there are only 10. */
  private abort(tx: number): void {
    if (tx > 0) void this.enqueue({ op: 'TRANSACTION_END', commit: false, tx }).catch(() => undefined);
  }

  /** Kernels before about 4.12 answer WATCH and UNWATCH on the device with id 0. */
  private watchWithoutId({ type, reqId }: Packet): Pending | undefined {
    if (this.transport.maxInFlight > 1 || reqId !== 0) return undefined;
    return [...this.inFlight.values()].find(
      ({ request }) => type === XS[request.op] && (request.op === 'WATCH' || request.op === 'UNWATCH'),
    );
  }

  private deliver(packet: Packet): void {
    const event = parseWatchEvent(packet.payload);
    if (event !== undefined) this.listeners.get(event.token)?.(event);
  }

  private fail(error: ConnectionError, replyDue = this.inFlight.size > 0): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    const wakeUp = encodeRequest({ op: 'READ', path: 'domid' }, this.nextId++);
    this.transportClosed = this.transport.close(wakeUp, replyDue);
    this.transportClosed.catch(() => undefined); // for close() to tell
    for (const pending of [...this.inFlight.values(), ...this.queue.splice(0)])
      this.settle(pending, () => pending.reject(error));
    this.listeners.clear();
    this.settleClosed(error);
  }
}

/** Opens the xenstore at `path` (default: where it is found, see openTransport) and starts a client on it. */
export async function connectXenstore(path?: string, options?: ClientOptions): Promise<XenstoreClient> {
  return new XenstoreClient(await openTransport(path), options);
}

function requestError(code: string, request: Request, cause?: unknown): XenstoreError {
  const path = 'path' in request ? request.path : '';
  if (code === 'ETIMEDOUT')
    return new XenstoreError(code, request.op, path, {
      cause,
      detail: 'xenstored does not answer; is it alive in dom0?',
    });
  if (request.op !== 'TRANSACTION_START' || code !== 'ENOSPC')
    return new XenstoreError(code, request.op, path, { cause });
  return new XenstoreError(code, request.op, path, { cause, detail: 'this domain has too many transactions open' });
}

function asConnectionError(peer: string, cause: Error | undefined): ConnectionError {
  if (cause instanceof ConnectionError) return cause;
  return new ConnectionError(
    (cause as NodeJS.ErrnoException | undefined)?.code ?? 'ECONNRESET',
    peer,
    'the connection to xenstore is lost',
    { cause },
  );
}
