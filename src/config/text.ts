/** The configuration as people and programs read it. What people read is a valid TOML file, too. Pure. */
import type { Given, GivenValues } from './check.js';
import { type Setting, settingAt, TABLES, type Table } from './schema.js';

/** A setting with the value in force. */
export interface Effective {
  readonly key: string;
  /** Null: nothing is asked for. */
  readonly value: unknown;
  readonly default: unknown;
  readonly unit: string | null;
  /** Null: no file gives it. */
  readonly from: { readonly file: string; readonly line: number } | null;
}

/** Every setting of the tables that are there once, and what the files give of the others. */
export function effectiveSettings(given: GivenValues): Effective[] {
  const always = Object.entries<Table>(TABLES).flatMap(([table, { named, settings }]) =>
    named ? [] : Object.entries(settings).map(([name, one]) => effective(`${table}.${name}`, one, given)),
  );
  const more = [...given].flatMap(([key, place]) => {
    const one = place.name === undefined ? undefined : settingAt(place);
    return one === undefined ? [] : [effective(key, one, given)];
  });
  return [...always, ...more];
}

function effective(key: string, setting: Setting, given: GivenValues): Effective {
  const { default: value = null, unit = null } = setting;
  const one = given.get(key);
  const from = one === undefined ? null : { file: one.file, line: one.line() };
  return { key, value: one === undefined ? value : one.value, default: value, unit, from };
}

/** What is in force, and where that comes from. */
export function effectiveText(given: GivenValues): string {
  const rows = new Map(effectiveSettings(given).map((one) => [one.key, one]));
  const assign = (key: string, name: string): string => {
    const { value, unit, from } = rows.get(key) as Effective;
    const origin = from === null ? 'default' : `${from.file}:${from.line}`;
    return value === null
      ? `# ${name} is not set`
      : `${assignment(name, value)}  # ${unit === null ? '' : `${unit}; `}${origin}`;
  };
  const tables = Object.entries<Table>(TABLES).flatMap(([table, { about, named, settings }]) => {
    const groups = named ? namedGroups(table, given) : [{ head: table, names: Object.keys(settings) }];
    return groups.map(({ head, names }, i) =>
      [
        ...(i === 0 ? comment(about) : []),
        `[${head}]`,
        ...names.map((name) => assign(`${head}.${name}`, name)),
        '',
      ].join('\n'),
    );
  });
  return tables.join('\n');
}

/** `[rule.firewall]` with the names of what the files give there. */
function namedGroups(table: string, given: GivenValues): { head: string; names: string[] }[] {
  const groups = new Map<string, string[]>();
  for (const one of given.values() as Iterable<Given>) {
    if (one.table !== table) continue;
    const head = `${table}.${one.name}`;
    groups.set(head, [...(groups.get(head) ?? []), one.setting]);
  }
  return [...groups].map(([head, names]) => ({ head, names }));
}

const SAMPLE_HEAD = `# vifd's configuration: every setting with its default; what has none is a comment with an example. A file needs only
# what shall differ.
# vifd reads /etc/xen/vifd.toml, then /etc/xen/vifd.d/*.toml in order of their names; what comes later counts.
# Check: vifd config check. In force after: kill -HUP, or a restart.
`;

/** Every setting with its meaning, type, unit and default: the sample file. */
export function sampleText(): string {
  const parts = Object.entries<Table>(TABLES).map(([table, { about, named, settings }]) => {
    const own = Object.entries(settings).filter(([name]) => table !== 'rule' || !(name in TABLES.vif.settings));
    const lines = own.flatMap((one) => sampleLines(one, named !== undefined));
    return [...comment(about), named ? `# [${table}.NAME]` : `[${table}]`, ...lines, ''].join('\n');
  });
  return `${SAMPLE_HEAD}\n${parts.join('\n')}`;
}

/** `off`: of a table that is not there. */
function sampleLines([name, { about, type, default: value, example }]: [string, Setting], off: boolean): string[] {
  const none = value === undefined;
  return [
    '',
    ...comment(about),
    ...comment(`${capital(type.expected)}; ${none ? 'not set by default' : `default ${toml(value)}`}.`),
    `${none || off ? '# ' : ''}${assignment(name, none ? example : value)}`,
  ];
}

const assignment = (name: string, value: unknown): string => `${name} = ${toml(value)}`;
/** Of JSON's strings, numbers, booleans and arrays of them, all is TOML. */
const toml = (value: unknown): string => JSON.stringify(value);
const comment = (text: string): string[] => text.split('\n').map((line) => `# ${line}`);
const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
