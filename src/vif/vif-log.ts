/** What the log says of one vif: each fault and each warning once, until it is over. */
import type { Logger } from 'pino';
import { type BackendKey, keyText } from '../xenstore/paths.js';
import type { Attached } from './attach.js';
import type { Failure } from './failure.js';
import { type Contest, LAST_REPAIR_MS } from './patience.js';
import { describeStep } from './plan.js';

export class VifLog {
  private readonly firstSeen = performance.now();
  /** Sentences that the log has already. */
  private readonly said = new Set<string>();
  constructor(
    private readonly key: BackendKey,
    private readonly log: Logger,
    /** The interface's name, once it is known. */
    public ifname: string | undefined,
  ) {}

  /** The vif was not connected before, or had nothing to say. */
  connected({ bridge, mtu, steps }: Attached, wasConnected: boolean): void {
    const did = steps.map(describeStep);
    const ms = Math.round(10 * (performance.now() - this.firstSeen)) / 10;
    const sentence =
      wasConnected && did.length === 0
        ? `${this.name} is connected to ${bridge} already`
        : `connected ${this.name} to ${bridge} in ${ms} ms`;
    this.child({ bridge, mtu, did, ms }).info(sentence);
  }

  repaired({ bridge, steps }: Attached, contest: Contest): void {
    const did = steps.map(describeStep);
    const sentence = `repaired ${this.name} on ${bridge}: ${did.join(', ')}`;
    if (contest === 'goes on') return this.child({ bridge, did }).debug(sentence);
    const hint =
      `something else keeps changing ${this.name}, see what: ip monitor link. ` +
      `Repairs come ever later now, up to ${LAST_REPAIR_MS / 1000} s apart, and are not logged`;
    this.child({ bridge, did }).warn(contest === 'begins' ? `${sentence}; ${hint}` : sentence);
  }

  left(): void {
    if (this.ifname !== undefined) this.child().info(`${this.name} has left`);
  }

  warn(sentence: string): void {
    this.once(sentence, () => this.child().warn(`${this.name}: ${sentence}`));
  }

  failed({ code, message, hint }: Failure): void {
    const sentence = hint === '' ? message : `${message}; ${hint}`;
    this.once(sentence, () => this.child({ code }).error(`${this.name}: ${sentence}`));
  }

  debug(sentence: string): void {
    this.child().debug(sentence);
  }

  /** What was wrong is right now; if it comes again, it is said again. */
  clear(): void {
    this.said.clear();
  }

  private get name(): string {
    return this.ifname ?? `vif ${keyText(this.key)}`;
  }

  private once(sentence: string, say: () => void): void {
    if (this.said.has(sentence)) return;
    this.said.add(sentence);
    say();
  }

  private child(more: object = {}): Logger {
    return this.log.child({ ...this.key, ifname: this.ifname, ...more });
  }
}
