/**
 * A domain's unix socket. A client that does not read is asked for nothing more: its requests wait, and so do its events,
 * up to a quota of memory behind which they are lost. The C daemon treats an unprivileged domain so (it loses events after
 * 20 seconds too); dom0, whom it would let fill the memory, is treated alike here.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { ProtocolError } from '../errors.js';
import { type Packet, Parser } from '../xenstore/wire.js';
import type { SimulatedStore } from './store.js';

/** Listens; every client speaks for this domain. */
export async function serveSocket(store: SimulatedStore, domid: number, path: string): Promise<Server> {
  const server = createServer((socket) => new SocketClient(store, domid, socket));
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  return server;
}

class SocketClient {
  private readonly connection;
  private readonly parser: Parser;
  private received = 0;
  private readonly requests: Packet[] = [];
  /** It has sent what is no message: it is dropped when what it sent before has been answered. */
  private broken = false;
  constructor(
    store: SimulatedStore,
    domid: number,
    private readonly socket: Socket,
  ) {
    this.parser = new Parser(`domain ${domid}`);
    this.connection = store.connect(domid, (bytes) => socket.write(bytes));
    this.connection.onEnd = () => socket.destroySoon();
    socket.on('data', (bytes) => this.receive(bytes));
    socket.on('drain', () => this.resume());
    socket.on('error', () => undefined);
    socket.on('close', () => this.connection.end());
  }

  private receive(bytes: Uint8Array): void {
    try {
      this.requests.push(...this.parser.push(bytes));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      const sound = bytes.subarray(0, Math.max(error.offset - this.received, 0));
      this.requests.push(...this.parser.push(sound));
      this.broken = true;
    }
    this.received += bytes.length;
    this.work();
  }

  private work(): void {
    while (!this.connection.isBlocked) {
      const request = this.requests.shift();
      if (request === undefined) break;
      this.connection.handle(request);
    }
    if (this.connection.isBlocked) this.socket.pause();
    else if (this.broken) this.connection.end();
  }

  private resume(): void {
    this.connection.resume();
    if (this.connection.isBlocked) return;
    this.socket.resume();
    this.work();
  }
}
