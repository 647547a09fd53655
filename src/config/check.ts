/** What a parsed TOML file gives, checked against the schema: every value, or every fault with the place of its key. Pure. */
import { printable } from '../errors.js';
import { SETTINGS } from './schema.js';

/** The names that lead to a value, from the root of the file. */
export type KeyPath = readonly string[];

/** A value that a file gives. */
export interface Given {
  readonly value: unknown;
  readonly file: string;
  /** Counts from 1; found when it is asked for. */
  readonly line: () => number;
}

/** What the files give, by full key: `vif.qlen`. */
export type GivenValues = ReadonlyMap<string, Given>;

export interface Fault {
  readonly path: KeyPath;
  readonly value: unknown;
  readonly expected: string;
}

export interface Checked {
  /** By full key, `vif.qlen`; only what the file gives. */
  readonly values: ReadonlyMap<string, unknown>;
  readonly faults: readonly Fault[];
}

export function checkFile(root: object): Checked {
  const values = new Map<string, unknown>();
  const faults: Fault[] = [];
  for (const [table, content] of Object.entries(root)) {
    if (!SETTINGS.some((one) => one.table === table)) faults.push(unknown([table], content));
    else if (!isTable(content)) faults.push({ path: [table], value: content, expected: `a table, [${table}]` });
    else for (const [name, value] of Object.entries(content)) checkValue([table, name], value, values, faults);
  }
  return { values, faults };
}

function checkValue(path: KeyPath, value: unknown, values: Map<string, unknown>, faults: Fault[]): void {
  const setting = SETTINGS.find(({ table, name }) => table === path[0] && name === path[1]);
  if (setting === undefined) faults.push(unknown(path, value));
  else if (!setting.type.accepts(value)) faults.push({ path, value, expected: setting.type.expected });
  else values.set(setting.key, value);
}

function unknown(path: KeyPath, value: unknown): Fault {
  const kind = path.length === 1 && isTable(value) ? 'table' : 'key';
  return {
    path,
    value,
    expected: `a ${kind} that vifd knows; the nearest is ${nearest(path, kind)}, and 'vifd config show --defaults' has all`,
  };
}

/** The known table or key that looks most like this one; a key that only misses its table is found by its name. */
function nearest(path: KeyPath, kind: 'table' | 'key'): string {
  const written = path.join('.');
  const last = path.at(-1) ?? '';
  const known = SETTINGS.map(({ key, table, name }) =>
    kind === 'table'
      ? { shown: `[${table}]`, distance: editDistance(written, table) }
      : { shown: key, distance: Math.min(editDistance(written, key), editDistance(last, name)) },
  );
  return known.reduce((best, one) => (one.distance < best.distance ? one : best)).shown;
}

/** How many letters must be put in, taken out or exchanged to make one word of the other (Levenshtein). */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const exchanged = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(exchanged, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

export function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** A path as TOML writes it; a name that needs quotes has them, and cannot upset a terminal. */
export function formatPath(path: KeyPath): string {
  return path.map((name) => (/^[\w-]+$/.test(name) ? name : printable(name))).join('.');
}

/** A value on one short line. */
export function formatValue(value: unknown): string {
  if (typeof value === 'string') return printable(value);
  if (Array.isArray(value)) return 'an array';
  if (isTable(value)) return 'a table';
  return value instanceof Date ? value.toISOString() : String(value);
}
