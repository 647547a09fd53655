/**
 * EDGE: where the log goes, which is stdout.
 *
 * INVARIANT: nobody waits for it. What a pipe, a terminal or the journal does not take at once is kept, up to a bound; what
 * is lost behind that, or because the disk is full or the reader gone, is counted, and told when the next line arrives.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';

const { O_NOCTTY, O_NONBLOCK, O_WRONLY } = constants;
const STDOUT = 1;
const KEPT_MAX_BYTES = 256 << 10;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 1_000;

/** What waits: a line, or the word that stands for so many. */
interface Piece {
  bytes: Buffer;
  readonly lines: number;
}

export class LogOutput {
  private readonly kept: Piece[] = [];
  private keptBytes = 0;
  private lost = 0;
  private why = '';
  /** Of the last line only the beginning could be written. */
  private isCut = false;
  private retryMs = FIRST_RETRY_MS;
  private timer: NodeJS.Timeout | undefined;
  /** `gap` is the line, as the log's format has it, that says how many are missing at its place. */
  constructor(
    private readonly gap: (lines: number, why: string) => string,
    private readonly fd = openStdout(),
  ) {
    process.once('exit', () => this.flush());
  }

  write(line: string): void {
    if (this.keptBytes + line.length > KEPT_MAX_BYTES) return this.lose(1, 'nobody read it');
    if (this.lost > 0) this.keepGap();
    this.keep(line, 1);
    if (this.timer === undefined) this.flush();
  }

  private keepGap(): void {
    this.keep(`${this.isCut ? '\n' : ''}${this.gap(this.lost, this.why)}`, this.lost);
    this.lost = 0;
  }

  private keep(text: string, lines: number): void {
    const bytes = Buffer.from(text);
    this.kept.push({ bytes, lines });
    this.keptBytes += bytes.length;
  }

  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    for (let piece = this.kept[0]; piece !== undefined; piece = this.kept[0]) {
      const taken = this.put(piece);
      this.keptBytes -= taken;
      piece.bytes = piece.bytes.subarray(taken);
      if (piece.bytes.length > 0) return this.flushLater();
      this.kept.shift();
      this.retryMs = FIRST_RETRY_MS;
    }
  }

  /** How many bytes are done with. */
  private put({ bytes, lines }: Piece): number {
    try {
      const written = writeSync(this.fd, bytes);
      this.isCut = written < bytes.length;
      return written;
    } catch (error) {
      const { code = 'EIO' } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') return 0;
      this.lose(lines, code);
      return bytes.length;
    }
  }

  private lose(lines: number, why: string): void {
    this.lost += lines;
    this.why = why;
  }

  /** It keeps no process from ending. */
  private flushLater(): void {
    this.timer = setTimeout(() => this.flush(), this.retryMs).unref();
    this.retryMs = Math.min(2 * this.retryMs, LAST_RETRY_MS);
  }
}

/**
 * Without O_NONBLOCK a write waits for the reader. It belongs to the open file (open(2)), and others may write to the same one,
 * whose words would be lost with EAGAIN: so pipes and terminals are opened anew, where they let us. A socket cannot be; the
 * journal's is this unit's alone. Node.js sets it for sockets and pipes, and not for terminals, as soon as process.stdout is used.
 */
function openStdout(): number {
  const kind = fstatSync(STDOUT);
  try {
    if (kind.isCharacterDevice() || kind.isFIFO())
      return openSync(`/proc/self/fd/${STDOUT}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    // another user's
  }
  void process.stdout;
  return STDOUT;
}
