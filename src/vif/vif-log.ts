/** What the log says of one vif, and what is counted of it: each fault and each warning once, until it is over. */
import type { Logger } from 'pino';
import { type BackendKey, keyText } from '../xenstore/paths.js';
import type { Attached } from './attach.js';
import type { Failure } from './failure.js';
import { type Contest, LAST_REPAIR_MS } from './patience.js';
import { describeStep, type Step } from './plan.js';

/** Who counts what becomes of all vifs. */
export interface VifCounts {
  /** One that was new, so long after netback had taken it. */
  attached(seconds: number): void;
  repaired(what: readonly string[]): void;
  failed(code: string): void;
  left(): void;
}

/** Over the whole life of the process: after a lost connection to xenstore everything else is made anew. */
let attaches = 0;
/** Keeps the ids of two lives of the agent apart in one log. */
const LIFE = Math.floor(Math.random() * 0x10000)
  .toString(16)
  .padStart(4, '0');

export class VifLog {
  /** In every record from when the directory is first seen until it has left: which attach of this vif it speaks of. */
  readonly attach = `${LIFE}-${++attaches}`;
  private readonly firstSeen = performance.now();
  /** The interface's name, once it is known. */
  ifname: string | undefined;
  /** When netback was first seen to have taken it. */
  private takenAt: number | undefined;
  /** Sentences that the log has already. */
  private readonly said = new Set<string>();
  constructor(
    private readonly key: BackendKey,
    private readonly log: Logger,
    private readonly counts?: VifCounts,
  ) {}

  /** The kernel is in state 2 or later: from now on it is vifd's turn. */
  taken(): void {
    this.takenAt ??= performance.now();
  }

  /** For the first time. */
  attached(): void {
    this.counts?.attached((performance.now() - (this.takenAt ?? this.firstSeen)) / 1000);
  }

  /** The vif was not connected before, or had nothing to say. */
  connected({ to, bridge, mtu, steps }: Attached, wasConnected: boolean): void {
    const did = steps.map(describeStep);
    const ms = Math.round(10 * (performance.now() - this.firstSeen)) / 10;
    const sentence =
      wasConnected && did.length === 0
        ? `${this.name} is connected to ${to} already`
        : `connected ${this.name} to ${to} in ${ms} ms`;
    this.child({ bridge, mtu, did, ms }).info(sentence);
  }

  repaired({ to, bridge, steps }: Attached, contest: Contest): void {
    const did = steps.map(describeStep);
    if (did.length === 0) return;
    this.counts?.repaired([...new Set(steps.flatMap(subjects))]);
    const sentence = `repaired ${this.name} on ${to}: ${did.join(', ')}`;
    if (contest === 'goes on') return this.child({ bridge, did }).debug(sentence);
    const hint =
      `something else keeps changing ${this.name}, see what: ip monitor link. ` +
      `Repairs come ever later now, up to ${LAST_REPAIR_MS / 1000} s apart, and are not logged`;
    this.child({ bridge, did }).warn(contest === 'begins' ? `${sentence}; ${hint}` : sentence);
  }

  left(): void {
    if (this.ifname === undefined) return;
    this.counts?.left();
    this.child().info(`${this.name} has left`);
  }

  warn(sentence: string): void {
    this.once(sentence, () => this.child().warn(`${this.name}: ${sentence}`));
  }

  failed({ code, message, hint }: Failure): void {
    const sentence = hint === '' ? message : `${message}; ${hint}`;
    this.once(sentence, () => {
      this.counts?.failed(code);
      this.child({ code }).error(`${this.name}: ${sentence}`);
    });
  }

  info(sentence: string): void {
    this.child().info(`${this.name}: ${sentence}`);
  }

  debug(sentence: string): void {
    if (this.log.isLevelEnabled('debug')) this.child().debug(sentence);
  }

  /** What was wrong is right now; if it comes again, it is said again. */
  clear(): void {
    this.said.clear();
  }

  private get name(): string {
    return this.ifname ?? `vif ${keyText(this.key)}`;
  }

  /** A guest has other numbers in the kernel's words each time (grant references), and could fill the log with them. */
  private once(sentence: string, say: () => void): void {
    const gist = sentence.replace(/the kernel says: .*/s, (words) => words.replace(/\d+/g, '0'));
    if (this.said.has(gist)) return;
    this.said.add(gist);
    say();
  }

  private child(more: object = {}): Logger {
    return this.log.child({ attach: this.attach, ...this.key, ifname: this.ifname, ...more });
  }
}

/** What a step is about: `master`, `txqlen`, `mtu`, `features`. */
const subjects = (step: Step): string[] =>
  'change' in step ? Object.keys(step.change) : [step.do.replace(/^set-/, '')];
