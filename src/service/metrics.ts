/** What the agent counts, from its start. */
import { type Family, formatFamilies } from './metrics-text.js';

export class Metrics {
  /** Seconds since 1970. */
  private readonly startedAt = Math.round(Date.now() - performance.now()) / 1000;
  constructor(private readonly version: string) {}

  text(): string {
    return formatFamilies(this.families());
  }

  private families(): Family[] {
    return [
      { name: 'vifd_up', type: 'gauge', help: 'Whether vifd run answers.', samples: [{ value: 1 }] },
      {
        name: 'vifd_build_info',
        type: 'gauge',
        help: 'The versions of vifd and Node.js that run; the value is always 1.',
        samples: [{ labels: { version: this.version, node_version: process.versions.node }, value: 1 }],
      },
      {
        name: 'vifd_start_time_seconds',
        type: 'gauge',
        help: 'When vifd run was started, in seconds since 1970.',
        samples: [{ value: this.startedAt }],
      },
    ];
  }
}
