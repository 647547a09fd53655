/** What the log has been told of each thing that is wrong: once, not at every look. */
import type { Logger } from 'pino';

export class Said {
  private readonly last = new Map<string, string>();
  constructor(private readonly log: Logger) {}

  /** Every fault of `subject` there is now. */
  warn(subject: string, faults: readonly string[]): void {
    const text = faults.join('\n');
    if (this.last.get(subject) === text || (text === '' && !this.last.has(subject))) return;
    if (text === '') this.last.delete(subject);
    else this.last.set(subject, text);
    for (const fault of faults) this.log.warn(`${subject}: ${fault}`);
  }
}
