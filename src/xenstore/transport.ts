/**
 * EDGE: the two ways to a xenstored. In a domain the kernel's device /dev/xen/xenbus, in dom0 (or beside the
 * simulator) a unix socket. Bytes in, bytes out; the protocol is client.ts's.
 */
import { close, open, read, type Stats, write } from 'node:fs';
import { stat } from 'node:fs/promises';
import { connect, type OnReadOpts, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ConnectionError } from '../errors.js';

export interface Transport {
  /** The device's or socket's path, for messages. */
  readonly peer: string;
  /** Most requests that may wait for their reply at once. */
  readonly maxInFlight: number;
  /** Call once, before the first send. The bytes are valid during `onBytes` only. `onClosed` comes at most once; its cause is absent after close(). */
  start(onBytes: (bytes: Uint8Array) => void, onClosed: (cause?: Error) => void): void;
  /** Sends one whole message. Rejects with the errno of a write that the peer refused; the next send may succeed. */
  send(message: Uint8Array): Promise<void>;
  /** Ends the connection. `wakeUp` is a harmless request, to be sent if no reply to the last message is on its way. */
  close(wakeUp?: Uint8Array, replyDue?: boolean): Promise<void>;
  /** Resolves when no thread waits for xenstored any more; when close() could not wake it that is when xenstored answers. */
  released(): Promise<void>;
}

/** What DeviceTransport needs of an open /dev/xen/xenbus; the simulator has one of its own. */
export interface DeviceFile {
  read(buffer: Uint8Array): Promise<number>;
  write(bytes: Uint8Array): Promise<number>;
  close(): Promise<void>;
}

const DEVICES = ['/dev/xen/xenbus', '/proc/xen/xenbus'];
const SOCKETS = ['/run/xenstored/socket', '/var/run/xenstored/socket'];
/** How long a closing device may take to answer before its blocked read is given up. */
const WAKE_UP_MS = 500;
const READ_SIZE = 8192;
/** Size of the device's buffer for one message, its header included. */
const DEVICE_MESSAGE_MAX = 4096;

/**
 * Opens `path`, or $XENSTORED_PATH, or the first that exists of dom0's socket and the domain's devices (the order of
 * libxenstore's xs_open()). Throws ConnectionError with code ENOENT, EACCES or the errno of open().
 */
export async function openTransport(path?: string): Promise<Transport> {
  const named = path ?? (process.env.XENSTORED_PATH || undefined);
  const candidates = named === undefined ? [...SOCKETS, ...DEVICES] : [named];
  for (const candidate of candidates) {
    const stats = await stat(candidate).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
      throw refused(candidate, error);
    });
    if (stats !== undefined) return openAs(candidate, stats);
  }
  throw new ConnectionError('ENOENT', 'xenstore', `not available: ${noXenstore(path, named)}`);
}

function openAs(path: string, stats: Stats): Promise<Transport> {
  if (stats.isSocket()) return openSocket(path);
  if (stats.isCharacterDevice() || DEVICES.includes(path)) return openDevice(path);
  throw new ConnectionError(
    'ENOTSOCK',
    path,
    'is neither a unix socket nor a xenbus device; give the path of one with --xenstore',
  );
}

/** `path` is what the caller named, `named` that or the environment's. */
function noXenstore(path: string | undefined, named: string | undefined): string {
  if (path !== undefined) return `${path} does not exist; leave the path out to have it found`;
  if (named !== undefined)
    return `${named}, named by $XENSTORED_PATH, does not exist; start xenstored, or unset XENSTORED_PATH to have it found`;
  const places = `none of ${[...SOCKETS, ...DEVICES].join(', ')} exists`;
  return `${places}. In a Xen domain mount devtmpfs on /dev or xenfs on /proc/xen; elsewhere there is nothing for vifd to do (try: vifd demo)`;
}

function refused(path: string, error: NodeJS.ErrnoException): ConnectionError {
  const code = error.code ?? 'EIO';
  const remedy =
    code === 'EACCES' || code === 'EPERM'
      ? 'permission denied: run as root, or as a member of the group that owns it'
      : code === 'ECONNREFUSED'
        ? 'nobody listens there: start xenstored'
        : `cannot be opened: ${code}`;
  return new ConnectionError(code, path, remedy, { cause: error });
}

/** Connects to a unix socket on which a xenstored listens. Several requests may be in flight. */
export function openSocket(path: string): Promise<Transport> {
  return new Promise((resolve, reject) => {
    const reader = { receive: (_bytes: Uint8Array): void => undefined };
    const socket = connect({ path, onread: readInto(reader) });
    const onError = (error: NodeJS.ErrnoException) => reject(refused(path, error));
    socket.once('error', onError);
    socket.once('connect', () => {
      socket.off('error', onError);
      resolve(new SocketTransport(path, socket, reader));
    });
  });
}

interface Reader {
  /** Keeps nothing of what it is given. */
  receive: (bytes: Uint8Array) => void;
}

/** All reads into one buffer: by itself Node makes one of 64 KiB for each. */
function readInto(reader: Reader): OnReadOpts {
  return {
    buffer: new Uint8Array(READ_SIZE),
    callback: (length, buffer) => {
      reader.receive(buffer.subarray(0, length));
      return true;
    },
  };
}

/** Opens a xenbus device. */
export async function openDevice(path: string): Promise<Transport> {
  const fd = await promisify(open)(path, 'r+').catch((error: NodeJS.ErrnoException) => {
    throw refused(path, error);
  });
  // Plain calls, not a FileHandle: closing one of those waits for the read that never ends.
  const file: DeviceFile = {
    read: (buffer) => promisify(read)(fd, buffer, 0, buffer.length, null).then(({ bytesRead }) => bytesRead),
    write: (bytes) => promisify(write)(fd, bytes, 0, bytes.length, null).then(({ bytesWritten }) => bytesWritten),
    close: () => promisify(close)(fd),
  };
  return new DeviceTransport(path, file);
}

class SocketTransport implements Transport {
  /** xenstored stops reading a client with 20 requests outstanding (contract 5.4). */
  readonly maxInFlight = 16;
  constructor(
    readonly peer: string,
    private readonly socket: Socket,
    private readonly reader: Reader,
  ) {}

  start(onBytes: (bytes: Uint8Array) => void, onClosed: (cause?: Error) => void): void {
    let cause: Error | undefined;
    this.reader.receive = onBytes;
    this.socket.on('error', (error) => {
      cause = error;
    });
    this.socket.on('close', () =>
      onClosed(cause ?? new ConnectionError('ECONNRESET', this.peer, 'xenstored closed the connection')),
    );
  }

  async send(message: Uint8Array): Promise<void> {
    this.socket.write(message);
  }

  async close(): Promise<void> {
    this.socket.destroy();
  }

  async released(): Promise<void> {}
}

/**
 * INVARIANTS (contract 5.5)
 * - One write() a message: the device drops what stands behind a message in its buffer.
 * - One request in flight: the C xenstored of Xen 4.17 aborts otherwise (contract 10.5). The client keeps to it.
 * - A read blocked in the thread pool keeps the process from exiting, so close() wakes it first.
 */
export class DeviceTransport implements Transport {
  readonly maxInFlight = 1;
  private closing = false;
  /** The read loop's end. */
  private ended: Promise<void> = Promise.resolve();
  private reading = false;
  private lastSend: Promise<void> = Promise.resolve();
  constructor(
    readonly peer: string,
    private readonly file: DeviceFile,
  ) {}

  start(onBytes: (bytes: Uint8Array) => void, onClosed: (cause?: Error) => void): void {
    this.reading = true;
    const stopped = (cause?: Error) => {
      this.reading = false;
      onClosed(cause);
    };
    this.ended = this.readLoop(onBytes).then(() => stopped(), stopped);
  }

  private async readLoop(onBytes: (bytes: Uint8Array) => void): Promise<void> {
    const buffer = new Uint8Array(READ_SIZE);
    while (!this.closing) {
      const length = await this.file.read(buffer).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'EINTR' || error.code === 'EAGAIN') return -1;
        throw error;
      });
      if (length === 0) throw new ConnectionError('ECONNRESET', this.peer, 'the xenbus device reports end of file');
      if (length > 0 && !this.closing) onBytes(buffer.subarray(0, length));
    }
  }

  send(message: Uint8Array): Promise<void> {
    this.lastSend = this.writeAll(message);
    return this.lastSend;
  }

  private async writeAll(message: Uint8Array): Promise<void> {
    // Linux says EINVAL or E2BIG, as the write is cut; a socket takes 16 bytes more.
    if (message.length > DEVICE_MESSAGE_MAX)
      throw new ConnectionError('E2BIG', this.peer, `takes no message of more than ${DEVICE_MESSAGE_MAX} bytes`);
    let rest = message;
    while (rest.length > 0) rest = rest.subarray(await this.file.write(rest));
  }

  /** Rejects with ETIMEDOUT when the read stays blocked: then only SIGKILL ends the process. */
  async close(wakeUp?: Uint8Array, replyDue = false): Promise<void> {
    this.closing = true;
    try {
      if (this.reading) await this.endRead(wakeUp, replyDue);
    } finally {
      await this.file.close();
    }
  }

  released(): Promise<void> {
    return this.ended;
  }

  private async endRead(wakeUp: Uint8Array | undefined, replyDue: boolean): Promise<void> {
    // A message that the device took brings a reply; one that it refused (a WATCH over the quota) brings nothing.
    // Linux lets a WATCH wait in its write until xenstored answers.
    const late = sleep(WAKE_UP_MS, 'late' as const, { ref: false });
    const sent = this.lastSend.then(
      () => 'accepted' as const,
      () => 'refused' as const,
    );
    const fate = await Promise.race([sent, late]);
    if (wakeUp !== undefined && (fate === 'refused' || (fate === 'accepted' && !replyDue)))
      void this.send(wakeUp).catch(() => undefined);
    if (fate === 'late' || (await Promise.race([this.ended, late])) === 'late')
      throw new ConnectionError('ETIMEDOUT', this.peer, 'xenstored does not answer, and a read of it is still blocked');
  }
}

/**
 * Call when a program is done: a read that stayed blocked in the thread pool would keep it from ending, even by
 * process.exit(). If nothing keeps it, it ends before this does anything, also on a machine that is busy.
 */
export function endDespiteBlockedRead(): void {
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), 500).unref();
}
