/** A strict reader of Prometheus' text format, so that the tests do not read it as leniently as they like. */

interface Sample {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly value: number;
}

export interface Scrape {
  /** Of the one sample with this name and exactly these labels; throws when there is none. */
  value(name: string, labels?: Record<string, string>): number;
  /** Of all samples. */
  names(): string[];
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? ([-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|Inf)|NaN)$`);

/** Throws at the first line that is not as the format, or its conventions of naming, have it. */
export function parsePrometheus(text: string): Scrape {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const samples = new Map<string, Sample>();
  const families = new Set<string>();
  let family: { name: string; type?: string } | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    const [, word, name = '', rest = ''] = new RegExp(`^# (HELP|TYPE) (${NAME}) (.+)$`).exec(line) ?? [];
    if (word === 'HELP') {
      if (families.has(name)) throw new Error(`a second family ${name}`);
      families.add(name);
      family = { name };
    } else if (word === 'TYPE') {
      if (family?.name !== name || family.type !== undefined) throw new Error(`TYPE out of place: ${line}`);
      if (!['counter', 'gauge', 'histogram'].includes(rest)) throw new Error(`no type: ${line}`);
      if ((rest === 'counter') !== name.endsWith('_total')) throw new Error(`${name} is a ${rest}`);
      family.type = rest;
    } else {
      const sample = parseSample(line);
      if (family?.type === undefined || !belongs(sample.name, family.name, family.type))
        throw new Error(`a sample without its family: ${line}`);
      const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
      if (samples.has(key)) throw new Error(`twice: ${line}`);
      samples.set(key, sample);
    }
  }
  return {
    names: () => [...samples.values()].map(({ name }) => name),
    value: (name, labels = {}) => {
      const sample = samples.get(JSON.stringify([name, Object.entries(labels).sort()]));
      if (sample === undefined) throw new Error(`no ${name} ${JSON.stringify(labels)} in:\n${text}`);
      return sample.value;
    },
  };
}

const belongs = (name: string, family: string, type: string): boolean =>
  type === 'histogram' ? ['_bucket', '_sum', '_count'].some((end) => name === family + end) : name === family;

function parseSample(line: string): Sample {
  const [, name, pairs, value] = SAMPLE.exec(line) ?? [];
  if (name === undefined || value === undefined) throw new Error(`no sample: ${line}`);
  return { name, labels: parseLabels(pairs ?? ''), value: Number(value.replace('Inf', 'Infinity')) };
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  const pair = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y;
  while (pair.lastIndex < text.length) {
    const [, name = '', value = ''] = pair.exec(text) ?? [];
    if (name === '' || name in labels) throw new Error(`labels: ${text}`);
    labels[name] = value.replace(/\\(.)/g, (_, char) => (char === 'n' ? '\n' : char));
  }
  return labels;
}
