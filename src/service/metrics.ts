/** What the agent counts from its start, and how it and its vifs are now. */
import type { VifCounts } from '../vif/vif-log.js';
import { type Family, formatFamilies, type Sample, upFamily, type VifNow, vifFamilies } from './metrics-text.js';

/** Seconds. A vif takes 2 ms in a namespace, 0.1 s on a busy host, and after 10 s dom0 gives up. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class Metrics implements VifCounts {
  /** Something may have changed. */
  onChange: () => void = () => undefined;
  /** A session has begun. */
  onBegin: () => void = () => undefined;
  private up = true;
  /** Undefined while there is no connection to xenstore. */
  private vifs: (() => readonly VifNow[]) | undefined;
  /** Seconds since 1970. */
  private readonly startedAt = Math.round(Date.now() - performance.now()) / 1000;
  private connections = 0;
  private scans = 0;
  private departures = 0;
  private readonly attachSeconds = new Histogram(BUCKETS);
  private readonly failures = new Map<string, number>();
  private readonly repairs = new Map<string, number>();
  constructor(private readonly version: string) {}

  /** A session has done its first scan. */
  begin(vifs: () => readonly VifNow[]): void {
    this.vifs = vifs;
    this.connections++;
    this.scanned();
    this.onBegin();
  }

  scanned(): void {
    this.scans++;
    this.onChange();
  }

  /** The connection to xenstore is lost. */
  pause(): void {
    this.vifs = undefined;
    this.onChange();
  }

  /** What is counted stays; nothing is known any more of what is now. */
  end(): void {
    this.up = false;
    this.pause();
  }

  attached(seconds: number): void {
    this.attachSeconds.observe(seconds);
    this.onChange();
  }

  failed(code: string): void {
    increase(this.failures, code);
    this.onChange();
  }

  repaired(what: readonly string[]): void {
    for (const one of what) increase(this.repairs, one);
    this.onChange();
  }

  left(): void {
    this.departures++;
    this.onChange();
  }

  text(): string {
    return formatFamilies([
      upFamily(this.up),
      ...this.process(),
      ...vifFamilies(this.vifs?.() ?? []),
      ...this.counters(),
    ]);
  }

  private process(): Family[] {
    const versions = { version: this.version, node_version: process.versions.node };
    return [
      gauge('vifd_build_info', 'The versions of vifd and Node.js that run; the value is always 1.', 1, versions),
      gauge('vifd_start_time_seconds', 'When vifd run was started, in seconds since 1970.', this.startedAt),
      gauge('vifd_xenstore_connected', 'Whether vifd works with xenstore now.', Number(this.vifs !== undefined)),
    ];
  }

  private counters(): Family[] {
    const reconnects = Math.max(0, this.connections - 1);
    return [
      {
        name: 'vifd_attach_seconds',
        type: 'histogram',
        help: 'From the look at which netback had taken a new vif (state 2) until it was connected.',
        samples: this.attachSeconds.samples(),
      },
      counter('vifd_failures_total', 'Faults of vifs by reason, as in the log: each once until it is over.', [
        ...labelled('code', this.failures),
      ]),
      counter('vifd_repairs_total', 'What was found changed on a connected vif, and put right.', [
        ...labelled('what', this.repairs),
      ]),
      counter('vifd_departures_total', 'Vifs that have left.', [{ value: this.departures }]),
      counter('vifd_scans_total', 'Looks at all vifs there are.', [{ value: this.scans }]),
      counter('vifd_xenstore_reconnects_total', 'Times the connection to xenstore was made anew.', [
        { value: reconnects },
      ]),
    ];
  }
}

class Histogram {
  private readonly counts: number[];
  private count = 0;
  private sum = 0;
  constructor(private readonly bounds: readonly number[]) {
    this.counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    this.count++;
    this.sum += value;
    for (const [i, bound] of this.bounds.entries()) if (value <= bound) this.counts[i] = (this.counts[i] ?? 0) + 1;
  }

  /** Each bucket has those of the smaller ones as well. */
  samples(): Sample[] {
    const bucket = (le: number | '+Inf', value: number) => ({ suffix: '_bucket', labels: { le }, value });
    return [
      ...this.bounds.map((bound, i) => bucket(bound, this.counts[i] ?? 0)),
      bucket('+Inf', this.count),
      { suffix: '_sum', value: this.sum },
      { suffix: '_count', value: this.count },
    ];
  }
}

const increase = (counts: Map<string, number>, key: string): unknown => counts.set(key, (counts.get(key) ?? 0) + 1);

const labelled = (label: string, counts: ReadonlyMap<string, number>): Sample[] =>
  [...counts].map(([text, value]) => ({ labels: { [label]: text }, value }));

const gauge = (name: string, help: string, value: number, labels: Record<string, string> = {}): Family => ({
  name,
  type: 'gauge',
  help,
  samples: [{ labels, value }],
});

const counter = (name: string, help: string, samples: readonly Sample[]): Family => ({
  name,
  type: 'counter',
  help,
  samples,
});
