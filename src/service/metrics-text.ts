/** Metrics as Prometheus reads them (text format 0.0.4), and those that tell how vifs are now. Pure. */
import type { Health } from '../vif/report.js';
import type { BackendKey } from '../xenstore/paths.js';

export type Labels = Readonly<Record<string, string | number>>;

export interface Sample {
  readonly labels?: Labels;
  readonly value: number;
  /** Of a histogram: `_bucket`, `_sum` or `_count`. */
  readonly suffix?: string;
}

export interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly samples: readonly Sample[];
}

/** One vif as it is now. */
export interface VifNow extends BackendKey {
  /** Null where it is not known yet. */
  readonly ifname: string | null;
  readonly bridge: string | null;
  readonly health: Health;
}

/** One that has no samples is left out. */
export const formatFamilies = (families: readonly Family[]): string =>
  families
    .filter(({ samples }) => samples.length > 0)
    .map(formatFamily)
    .join('');

function formatFamily({ name, type, help, samples }: Family): string {
  const lines = samples.map((sample) => formatSample(name, sample));
  return `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}

function formatSample(name: string, { labels = {}, value, suffix = '' }: Sample): string {
  const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(String(text))}"`);
  return `${name}${suffix}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}\n`;
}

const escapeHelp = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
const escapeLabel = (text: string): string => escapeHelp(text).replaceAll('"', '\\"');

/** Without the families of these names: two texts can be put together only when no name is in both. */
export const withoutFamilies = (text: string, names: readonly string[]): string =>
  text
    .split(/^(?=# HELP )/m)
    .filter((family) => !names.includes(family.split(' ')[2] ?? ''))
    .join('');

export const upFamily = (up: boolean): Family => ({
  name: 'vifd_up',
  type: 'gauge',
  help: 'Whether vifd run is there and answers.',
  samples: [{ value: Number(up) }],
});

const HEALTHS: readonly Health[] = ['connected', 'waiting', 'leaving', 'failed'];

/** Every state of every bridge that there is a vif for, so that none vanishes when its last vif leaves it for another. */
export function vifFamilies(vifs: readonly VifNow[]): Family[] {
  const bridges = [...new Set(vifs.map(({ bridge }) => bridge ?? ''))].sort();
  const count = (bridge: string, state: Health): Sample => ({
    labels: { state, bridge },
    value: vifs.filter((vif) => (vif.bridge ?? '') === bridge && vif.health === state).length,
  });
  return [
    {
      name: 'vifd_vifs',
      type: 'gauge',
      help: 'Vifs there are, by state and bridge.',
      samples: bridges.flatMap((bridge) => HEALTHS.map((state) => count(bridge, state))),
    },
    {
      name: 'vifd_vif_failed',
      type: 'gauge',
      help: 'Whether somebody has to do something for this vif to work.',
      samples: vifs.map(({ domid, devid, ifname, health }) => ({
        labels: { domid, devid, ifname: ifname ?? '' },
        value: Number(health === 'failed'),
      })),
    },
  ];
}
