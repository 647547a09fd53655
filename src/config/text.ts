/** The configuration as people and programs read it. What people read is a valid TOML file, too. Pure. */
import type { GivenValues } from './check.js';
import { SETTINGS, type Setting, TABLES, type Table } from './schema.js';

/** A setting with the value in force. */
export interface Effective {
  readonly key: string;
  readonly value: unknown;
  readonly default: unknown;
  readonly unit: string | null;
  /** Null: no file gives it. */
  readonly from: { readonly file: string; readonly line: number } | null;
}

export function effectiveSettings(given: GivenValues): Effective[] {
  return SETTINGS.map(({ key, default: value, unit = null }) => {
    const one = given.get(key);
    const from = one === undefined ? null : { file: one.file, line: one.line() };
    return { key, value: one === undefined ? value : one.value, default: value, unit, from };
  });
}

/** Every setting with its value in force, and where that comes from. */
export function effectiveText(given: GivenValues): string {
  const effective = new Map(effectiveSettings(given).map((one) => [one.key, one]));
  return tables((name, { unit }, key) => {
    const { value, from } = effective.get(key) as Effective;
    const origin = from === null ? 'default' : `${from.file}:${from.line}`;
    return [`${assignment(name, value)}  # ${unit === undefined ? '' : `${unit}; `}${origin}`];
  });
}

const SAMPLE_HEAD = `# vifd's configuration: every setting with its default. A file needs only what shall differ.
# vifd reads /etc/xen/vifd.toml, then /etc/xen/vifd.d/*.toml in order of their names; what comes later counts.
# Check: vifd config check. In force after: kill -HUP, or a restart.
`;

/** Every setting with its meaning, type, unit and default: the sample file. */
export function sampleText(): string {
  const body = tables((name, { about, type, default: value }) => [
    '',
    ...comment(about),
    ...comment(`${capital(type.expected)}; default ${toml(value)}.`),
    assignment(name, value),
  ]);
  return `${SAMPLE_HEAD}\n${body}`;
}

function tables(lines: (name: string, setting: Setting, key: string) => string[]): string {
  return Object.entries<Table>(TABLES)
    .map(([table, { about, settings }]) =>
      [
        ...comment(about),
        `[${table}]`,
        ...Object.entries(settings).flatMap(([name, one]) => lines(name, one, `${table}.${name}`)),
        '',
      ].join('\n'),
    )
    .join('\n');
}

const assignment = (name: string, value: unknown): string => `${name} = ${toml(value)}`;
/** Of JSON's strings, numbers, booleans and arrays of them, all is TOML. */
const toml = (value: unknown): string => JSON.stringify(value);
const comment = (text: string): string[] => text.split('\n').map((line) => `# ${line}`);
const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
