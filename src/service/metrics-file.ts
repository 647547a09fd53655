/** EDGE: keeps a file for node_exporter's textfile collector, which may read it at any time: it is whole or not there. */
import type { Logger } from 'pino';
import type { Metrics } from './metrics.js';
import { remedyForFile } from './run-directory.js';
import { writeWhole } from './whole-file.js';

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
    metrics.onBegin = () => void file.write(); // until then it says that there is no xenstore, which is watched for
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
      await writeWhole(this.path, text, 0o644); // the collector has a user of its own; it leaves the name *.new alone
      this.written = text;
      this.complained = false;
    } catch (error) {
      this.complain((error as NodeJS.ErrnoException).code);
    }
  }

  private complain(code = 'EIO'): void {
    const remedy = remedyForFile(this.path, code);
    const unit = /ENOSPC|EDQUOT/.test(code) ? '' : ', under systemd by ReadWritePaths= as well';
    if (!this.complained) this.log.warn(`the metrics file ${this.path} cannot be written (${code}); ${remedy}${unit}`);
    this.complained = true;
  }
}
