/** EDGE: keeps a file for node_exporter's textfile collector, which may read it at any time: it is whole or not there. */
import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import type { Metrics } from './metrics.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
const EVERY_MS = 15_000;

/**
 * INVARIANT: without a change there is no timer, so it never wakes an agent that rests. It is tried again at the next change,
 * and the periodic scan is one.
 */
export class MetricsFile {
  private written = '';
  private triedAt = Number.NEGATIVE_INFINITY;
  private timer: NodeJS.Timeout | undefined;
  private writing: Promise<void> = Promise.resolve();
  private complained = false;
  private over = false;
  private constructor(
    private readonly path: string,
    private readonly metrics: Metrics,
    private readonly log: Logger,
  ) {}

  /** Nobody waits for the first writing: the disk may be slow. */
  static begin(path: string, metrics: Metrics, log: Logger): MetricsFile {
    const file = new MetricsFile(path, metrics, log);
    metrics.onChange = () => file.changed();
    void file.write();
    return file;
  }

  /** At once, or when 15 seconds have passed since the last time. */
  private changed(): void {
    if (this.over) return;
    const waitMs = Math.max(0, this.triedAt + EVERY_MS - performance.now());
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.triedAt = performance.now();
      void this.write();
    }, waitMs);
  }

  /** Never rejects: a fault is one warning until it works again. */
  write(): Promise<void> {
    this.writing = this.writing.then(() => this.replace());
    return this.writing;
  }

  /** The last word. */
  close(): Promise<void> {
    this.over = true;
    clearTimeout(this.timer);
    return this.write();
  }

  private async replace(): Promise<void> {
    const text = this.metrics.text();
    if (text === this.written) return;
    try {
      await writeWhole(this.path, text);
      this.written = text;
      this.complained = false;
    } catch (error) {
      this.complain((error as NodeJS.ErrnoException).code);
    }
  }

  private complain(code = 'EIO'): void {
    const remedy = `${dirname(this.path)} must be there and vifd's to write, under systemd by ReadWritePaths= as well`;
    if (!this.complained) this.log.warn(`the metrics file ${this.path} cannot be written (${code}); ${remedy}`);
    this.complained = true;
  }
}

/** Made by this process or not at all; the collector leaves a name of this kind alone. */
async function writeWhole(path: string, text: string): Promise<void> {
  const fresh = `${path}.new`; // one name: that of an agent that was killed is used again
  await rm(fresh, { force: true });
  try {
    const file = await open(fresh, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o644);
    try {
      await file.chmod(0o644); // the collector has a user of its own, whatever our umask
      await file.writeFile(text);
    } finally {
      await file.close();
    }
    await rename(fresh, path);
  } catch (error) {
    await rm(fresh, { force: true }).catch(() => undefined);
    throw error;
  }
}
