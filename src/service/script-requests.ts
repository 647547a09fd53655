/**
 * EDGE: vif scripts ask the running daemon over a FIFO, for a program that connects to a socket takes ten times as long to
 * start as a shell that writes a line.
 *
 * In the directory: `requests`, the FIFO; `reader`, process id and start time of the daemon that reads it; and `reply.<pid>`,
 * made by each script and removed here with the answer.
 */
import { closeSync, constants, fstatSync, openSync, rmSync, writeSync } from 'node:fs';
import { lstat, readdir, readFile, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Child } from '../child.js';
import { printable, VifdError } from '../errors.js';
import { identityOf, isRunning } from '../processes.js';
import type { ScriptAnswer } from '../vif/script-answer.js';
import { ensureRunDirectory, isOurs } from './run-directory.js';
import { formatAnswer, parseRequest, type ScriptRequest } from './script-protocol.js';
import { writeWhole } from './whole-file.js';

/** No request is longer, so a longer line without an end is none. */
const LINE_MAX = 64;
const MKFIFO_MAX_MS = 2_000;

export interface RequestsOptions {
  readonly dir: string;
  readonly log: Logger;
  /** Must not reject. */
  readonly answer: (request: ScriptRequest) => Promise<ScriptAnswer>;
}

export class ScriptRequests {
  private rest = '';
  private readonly pending = new Set<Promise<void>>();
  private constructor(
    private readonly options: RequestsOptions,
    private readonly socket: Socket,
  ) {
    socket.setEncoding('latin1');
    socket.on('data', (text) => this.receive(String(text)));
    socket.on('error', (error) =>
      options.log.warn(`vif scripts cannot ask any more and do the work: ${error.message}`),
    );
  }

  /** Undefined, with a word in the log, where requests cannot be read: the scripts do the work themselves then. */
  static async open(options: RequestsOptions): Promise<ScriptRequests | undefined> {
    const { dir, log } = options;
    let requests: ScriptRequests | undefined;
    try {
      await prepareDirectory(dir);
      const fifo = await makeFifo(join(dir, 'requests'));
      // Both ways: the FIFO never comes to an end. As a socket: a read that blocks in the thread pool would outlive us.
      const fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW);
      requests = new ScriptRequests(options, new Socket({ fd, readable: true, writable: false }));
      await writeWhole(join(dir, 'reader'), `${ownReader()}\n`, 0o600);
      return requests;
    } catch (error) {
      requests?.socket.destroy();
      log.warn(`vif scripts cannot ask this vifd and do the work themselves: ${(error as Error).message}`);
      return undefined;
    }
  }

  /** No more requests; resolves when those under way are answered. */
  async close(): Promise<void> {
    const file = join(this.options.dir, 'reader');
    const isOwn = (await readText(file)) === ownReader();
    if (isOwn) await rm(file, { force: true }).catch(() => undefined); // read-only by now; it names a process that ends
    this.socket.destroy();
    await Promise.all(this.pending);
  }

  private receive(text: string): void {
    const lines = (this.rest + text).split('\n');
    this.rest = (lines.pop() ?? '').slice(0, LINE_MAX);
    for (const line of lines) {
      const request = parseRequest(line);
      if (request === undefined) continue;
      const work = this.serve(request).finally(() => this.pending.delete(work));
      this.pending.add(work);
    }
  }

  private async serve(request: ScriptRequest): Promise<void> {
    const line = formatAnswer(await this.options.answer(request));
    try {
      reply(join(this.options.dir, `reply.${request.pid}`), line);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENXIO') return; // it has waited long enough
      this.options.log.warn(`a vif script gets no answer: ${message}`);
    }
  }
}

/** Not by the thread pool: nothing here can block, and a script waits. */
function reply(fifo: string, line: string): void {
  const fd = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  try {
    rmSync(fifo); // first: when the script ends nothing of it is left
    if (fstatSync(fd).isFIFO()) writeSync(fd, `${line}\n`);
  } finally {
    closeSync(fd);
  }
}

/** Rejects when others could put something into it, or when another daemon reads there. */
async function prepareDirectory(dir: string): Promise<void> {
  await ensureRunDirectory(dir);
  const reader = await readText(join(dir, 'reader'));
  if (reader !== undefined && reader !== ownReader() && isRunning(reader)) {
    const [pid] = reader.split(' ');
    throw new VifdError('EBUSY', `vifd (pid ${pid}) reads their requests in ${dir} already; end one of the two`);
  }
  for (const name of await readdir(dir)) {
    const script = /^reply\.(\d+)$/.exec(name)?.[1];
    if (script !== undefined && identityOf(Number(script)) === undefined) await rm(join(dir, name), { force: true });
  }
}

/** One that is there already may hold the request of a script that waits since the last daemon's end. */
async function makeFifo(path: string): Promise<string> {
  const present = await lstat(path).catch(() => undefined);
  if (present?.isFIFO() && isOurs(present)) return path;
  await rm(path, { recursive: true, force: true });
  const { code, signal, err } = await new Child('mkfifo', ['-m', '600', path]).work('', MKFIFO_MAX_MS);
  if (code !== 0)
    throw new VifdError(
      'EFIFO',
      `mkfifo ${path} failed (${signal ?? (err === '' ? `exit code ${code}` : printable(err.trim(), 200))})`,
    );
  return path;
}

const ownReader = (): string | undefined => identityOf(process.pid);

const readText = (file: string): Promise<string | undefined> =>
  readFile(file, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
