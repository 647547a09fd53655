/**
 * EDGE: what the running agent tells of itself over the socket `status` in its run directory. A client sends one line:
 * `metrics` is answered with Prometheus' text, `config` with the values in force as JSON, `follow` with the records of the log from then on, a line of JSON each.
 *
 * INVARIANT: no client costs more than a bounded piece of memory, and one that is silent or slow is dropped.
 */
import { once } from 'node:events';
import { chmod, lstat, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { VifdError } from '../errors.js';
import type { Follow } from '../logger.js';
import { ensureRunDirectory } from './run-directory.js';

/** With its newline. */
const REQUEST_MAX = 64;
/** For the request; but for `follow` for taking the answer as well. */
const PATIENCE_MS = 2_000;
const CLIENTS_MAX = 8;
const FOLLOWER_MAX_BYTES = 1 << 20;
/** sun_path (unix(7)), with its final NUL. */
const PATH_MAX_BYTES = 108;

export interface StatusSocketOptions {
  readonly dir: string;
  readonly log: Logger;
  readonly follow: Follow;
  /** In Prometheus' text format. */
  readonly metrics: () => string;
  /** The values in force. */
  readonly config: () => readonly object[];
}

export const statusSocketPath = (dir: string): string => join(dir, 'status');

export class StatusSocket {
  private readonly clients = new Set<Socket>();
  private readonly server: Server;
  private constructor(private readonly options: StatusSocketOptions) {
    this.server = createServer((client) => this.serve(client));
    this.server.maxConnections = CLIENTS_MAX;
  }

  /** Undefined, with a word in the log, where it cannot be opened: the agent works without. */
  static async open(options: StatusSocketOptions): Promise<StatusSocket | undefined> {
    const { dir, log } = options;
    const path = statusSocketPath(dir);
    try {
      await ensureRunDirectory(dir);
      await makeWay(path);
      const socket = new StatusSocket(options);
      await once(socket.server.listen(path), 'listening');
      socket.server.on('error', ({ message }) => log.warn(`the status socket has a fault: ${message}`));
      await chmod(path, 0o600);
      return socket;
    } catch (error) {
      log.warn(`vifd status and monitor cannot ask this vifd: ${(error as Error).message}`);
      return undefined;
    }
  }

  /** Removes the socket; clients see the end. */
  async close(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const client of this.clients) client.destroy();
    await closed;
  }

  private serve(client: Socket): void {
    this.clients.add(client);
    const impatient = setTimeout(() => client.destroy(), PATIENCE_MS);
    client.once('close', () => {
      clearTimeout(impatient);
      this.clients.delete(client);
    });
    client.on('error', () => undefined); // it has gone, as `close` says
    let request = '';
    client.setEncoding('latin1');
    client.on('data', (text) => {
      request += text;
      if (request === 'follow\n') clearTimeout(impatient);
      if (!this.answer(request, client)) client.destroy();
    });
  }

  /** False for what is no request and cannot become one, as what follows a whole one. */
  private answer(request: string, client: Socket): boolean {
    if (request === 'metrics\n') client.end(this.options.metrics());
    else if (request === 'config\n') client.end(`${JSON.stringify(this.options.config())}\n`);
    else if (request === 'follow\n') this.addFollower(client);
    else return request.length < REQUEST_MAX && !request.includes('\n');
    return true;
  }

  private addFollower(client: Socket): void {
    const unfollow = this.options.follow((line) => {
      client.write(line);
      if (client.writableLength > FOLLOWER_MAX_BYTES) client.destroy();
    });
    client.once('close', unfollow);
    this.options.log.debug('a client follows this log'); // the client hears of it, too
  }
}

/** Removes a socket on which nobody answers. Rejects where somebody does, and for what is no socket. */
async function makeWay(path: string): Promise<void> {
  if (Buffer.byteLength(path) >= PATH_MAX_BYTES)
    throw new VifdError('ENAMETOOLONG', `${path} is too long for a socket; name a shorter directory in VIFD_RUN_DIR`);
  const present = await lstat(path).catch(() => undefined);
  if (present === undefined) return;
  if (!present.isSocket()) throw new VifdError('EEXIST', `${path} is there and is no socket; remove it`);
  if (await isAlive(path)) throw new VifdError('EBUSY', `another vifd answers on ${path} already; end one of the two`);
  await rm(path, { force: true });
}

/** Any other error may come from one that lives, such as EAGAIN from one that has a queue. */
async function isAlive(path: string): Promise<boolean> {
  const probe = connect(path);
  const error = await once(probe, 'connect').then(
    () => undefined,
    ({ code }: NodeJS.ErrnoException) => code,
  );
  probe.destroy();
  return error !== 'ECONNREFUSED' && error !== 'ENOENT';
}
