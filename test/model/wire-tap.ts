/** A connection to the simulator's store without a socket: requests wait until they are served, events until they are delivered. */
import type { StoreConnection } from '../../src/simulator/connection.js';
import type { SimulatedStore } from '../../src/simulator/store.js';
import type { Transport } from '../../src/xenstore/transport.js';
import { encodePacket, type Packet, Parser, XS } from '../../src/xenstore/wire.js';

const NAMES = new Map<number, string>(Object.entries(XS).map(([name, type]) => [type, name]));

export const isEvent = ({ type }: Packet): boolean => type === XS.WATCH_EVENT;

/** `WRITE backend/vif/5/0/hotplug-status=connected`. */
export function describePacket({ type, payload }: Packet): string {
  const [path, ...rest] = Buffer.from(payload).toString('latin1').split('\0');
  const value = rest.join('');
  return `${NAMES.get(type)} ${path}${value === '' ? '' : `=${value}`}`;
}

export class WireTap implements Transport {
  readonly peer = 'the simulated store';
  /** What one request has brought; taken when it is served. */
  private onBytes: (bytes: Uint8Array) => void = () => {};
  private onClosed: (cause?: Error) => void = () => {};
  private readonly requests = new Parser('client');
  private readonly answers = new Parser('store');
  private readonly connection: StoreConnection;
  private ended = false;

  constructor(
    store: SimulatedStore,
    domid: number,
    /** One in flight, as on the device; or as many as on a socket. */
    readonly maxInFlight: number,
    private readonly onRequest: (request: Packet) => void,
    private readonly onEvent: (event: Packet) => void,
  ) {
    this.connection = store.connect(domid, (bytes) => this.receive(bytes));
  }

  start(onBytes: (bytes: Uint8Array) => void, onClosed: (cause?: Error) => void): void {
    this.onBytes = onBytes;
    this.onClosed = onClosed;
  }

  async send(message: Uint8Array): Promise<void> {
    if (!this.ended) for (const request of this.requests.push(message)) this.onRequest(request);
  }

  serve(request: Packet): void {
    this.connection.handle(request);
  }

  /** In place of an answer. A transaction is gone all the same. */
  refuse({ type, reqId, txId }: Packet, errno: string): void {
    if (type === XS.TRANSACTION_END) this.connection.transactions.delete(txId);
    this.deliver({ type: XS.ERROR, reqId, txId, payload: Buffer.from(`${errno}\0`) });
  }

  deliver(packet: Packet): void {
    if (!this.ended) this.onBytes(encodePacket(packet));
  }

  /** xenstored is gone, or the client. */
  end(cause?: Error): void {
    if (this.ended) return;
    this.ended = true;
    this.connection.end();
    this.onClosed(cause);
  }

  async close(): Promise<void> {
    this.end();
  }
  async released(): Promise<void> {}

  private receive(bytes: Uint8Array): void {
    for (const packet of this.answers.push(bytes)) {
      if (isEvent(packet)) this.onEvent(packet);
      else this.deliver(packet);
    }
  }
}
