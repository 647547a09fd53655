/** EDGE: writes a record, line by line, so that a kill loses nothing that was seen. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { release } from 'node:os';
import { VifdError } from '../errors.js';
import { now } from './arrivals.js';
import type { Entry } from './entry.js';
import { entryLine, headerLine, RECORD_VERSION } from './record.js';

export class Recorder {
  private readonly startedAt = now();
  private written = 0;
  private full = false;
  private constructor(
    private readonly path: string,
    private readonly fd: number,
    private readonly maxBytes: number,
    /** Told once, when no more is recorded. */
    private readonly onEnd: (why: string) => void,
  ) {}

  /** Only its owner may read it: the guests' addresses are in there. */
  static create(path: string, vifd: string, maxBytes: number, onEnd: (why: string) => void): Recorder {
    const recorder = new Recorder(path, openNew(path), maxBytes, onEnd);
    const start = new Date(recorder.startedAt).toISOString();
    recorder.put(headerLine({ version: RECORD_VERSION, vifd, kernel: release(), start }));
    return recorder;
  }

  write(at: number, entry: Entry): void {
    this.put(entryLine(Math.max(0, at - this.startedAt), entry));
  }

  close(): void {
    this.full = true; // what arrives now must not go to whoever has this descriptor next
    closeSync(this.fd);
  }

  private put(line: string): void {
    if (this.full) return;
    if (this.written + line.length > this.maxBytes)
      return this.end(`is as large as --record-max allows (${this.maxBytes} bytes)`);
    try {
      const bytes = Buffer.from(line);
      for (let at = 0; at < bytes.length; ) at += writeSync(this.fd, bytes, at);
      this.written += line.length; // ASCII
    } catch (error) {
      this.end(`cannot be written any more (${(error as NodeJS.ErrnoException).code})`);
    }
  }

  private end(why: string): void {
    this.full = true;
    this.onEnd(`the record ${this.path} ${why} and ends here; the monitor goes on without it`);
  }
}

function openNew(path: string): number {
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  try {
    return openSync(path, O_WRONLY | O_CREAT | O_EXCL, 0o600);
  } catch (error) {
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    const why =
      code === 'EEXIST'
        ? 'is there already and is not overwritten; name another file, or remove it'
        : `cannot be made (${code}); name a file in a directory that you may write to`;
    throw new VifdError('ERECORD', `the record ${path} ${why}`, { cause: error });
  }
}
