/** What a parsed TOML file gives, checked against the schema: every value, or every fault with the place of its key. Pure. */
import { printable } from '../errors.js';
import { type Place, settingAt, TABLES, type Table, tableAt } from './schema.js';
import type { Type } from './types.js';

/** The names that lead to a value, from the root of the file. */
export type KeyPath = readonly string[];

/** A value that a file gives, and its place in the schema. */
export interface Given extends Place {
  readonly value: unknown;
  readonly file: string;
  /** Counts from 1; found when it is asked for. */
  readonly line: () => number;
}

/** What the files give, by full key: `vif.qlen`, `rule.firewall.match.mac`. */
export type GivenValues = ReadonlyMap<string, Given>;

export interface Fault {
  readonly path: KeyPath;
  /** Of the one in an array that is at fault. */
  readonly index?: number;
  readonly value: unknown;
  readonly expected: string;
}

export interface Checked {
  readonly values: readonly (Place & { readonly value: unknown })[];
  readonly faults: readonly Fault[];
}

export function checkFile(root: object): Checked {
  const checked = { values: [], faults: [] };
  for (const [table, content] of Object.entries(root)) checkTable(table, content, checked);
  return checked;
}

interface Found {
  readonly values: (Place & { readonly value: unknown })[];
  readonly faults: Fault[];
}

function checkTable(table: string, content: unknown, found: Found): void {
  const named = tableAt(table)?.named;
  if (tableAt(table) === undefined) found.faults.push(unknown([table], content));
  else if (!isTable(content)) found.faults.push({ path: [table], value: content, expected: tableHead(table) });
  else if (!named) checkSettings({ table, name: undefined }, content, [table], found);
  else for (const [name, inner] of Object.entries(content)) checkNamed({ table, name }, inner, found);
}

function checkNamed({ table, name }: { table: string; name: string }, content: unknown, found: Found): void {
  const path = [table, name];
  const names = tableAt(table)?.named;
  if (names !== undefined && !names.accepts(name))
    found.faults.push({ path, value: content, expected: names.expected });
  else if (!isTable(content)) found.faults.push({ path, value: content, expected: tableHead(table, name) });
  // An empty rule changes nothing, which is what it says; of a bridge without settings nobody would know.
  else if (table !== 'rule' && Object.keys(content).length === 0)
    found.faults.push({
      path,
      value: content,
      expected: `a table with a setting in it, such as ${example(table, name)}`,
    });
  else checkSettings({ table, name }, content, path, found);
}

/** One that does no harm where it is copied. */
function example(table: string, name: string): string {
  if (table === 'bridge') return 'stp = false';
  return table === 'script' ? `file = "/etc/xen/scripts/${name}"` : 'when.interface = "vif0.0"';
}

/** `inner` is the way into tables within: `match.mac` is a setting. */
function checkSettings(
  at: Omit<Place, 'setting'>,
  content: object,
  path: KeyPath,
  found: Found,
  inner: KeyPath = [],
): void {
  for (const [word, value] of Object.entries(content)) {
    const names = [...inner, word];
    const place = { ...at, setting: names.join('.') };
    const setting = settingAt(place);
    const way = [...path, word];
    if (setting?.type.accepts(value)) found.values.push({ ...place, value });
    else if (setting !== undefined) found.faults.push(...faultsOf(setting.type, way, value));
    else if (!isPrefix(place)) found.faults.push(unknown(way, value));
    else if (isTable(value)) checkSettings(at, value, way, found, names);
    else found.faults.push({ path: way, value, expected: tableHead(...way) });
  }
}

/** Of an array those in it that are at fault, or all of it. */
function faultsOf({ each, expected }: Type<unknown>, path: KeyPath, value: unknown): Fault[] {
  const whole = { path, value, expected };
  if (each === undefined || !Array.isArray(value)) return [whole];
  const inside = value.flatMap((one: unknown, index) =>
    each.accepts(one) ? [] : [{ path, index, value: one, expected: each.expected }],
  );
  return inside.length > 0 ? inside : [whole];
}

const tableHead = (...names: string[]): string => `a table, [${names.join('.')}]`;
const isPrefix = ({ table, setting }: Place): boolean =>
  Object.keys(tableAt(table)?.settings ?? {}).some((name) => name.startsWith(`${setting}.`));

function unknown(path: KeyPath, value: unknown): Fault {
  const kind = path.length === 1 && isTable(value) ? 'table' : 'key';
  return {
    path,
    value,
    expected: `a ${kind} that vifd knows; the nearest is ${nearest(path, kind)}, and 'vifd config show --defaults' has all`,
  };
}

/** Characters. No name that is known is longer, and a longer one takes its time. */
const COMPARED = 64;

/** The known table or key that looks most like this one; a key that only misses its table is found by its name. */
function nearest(path: KeyPath, kind: 'table' | 'key'): string {
  const written = path.join('.').slice(0, COMPARED);
  const last = path.at(-1)?.slice(0, COMPARED) ?? '';
  const tables = Object.entries<Table>(TABLES);
  const own = tables.filter(([table]) => table === path[0]);
  const known = (own.length > 0 ? own : tables).flatMap(([table, { named, settings }]) => {
    const prefix = named ? `${table}.${path[0] === table ? path[1] : 'NAME'}` : table;
    if (kind === 'table') return [{ shown: `[${prefix}]`, distance: editDistance(written, table) }];
    return Object.keys(settings).map((name) => {
      const shown = `${prefix}.${name}`;
      return { shown, distance: Math.min(editDistance(written, shown), editDistance(last, name)) };
    });
  });
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
  if (Array.isArray(value)) return formatArray(value);
  if (isTable(value)) return 'a table';
  return value instanceof Date ? value.toISOString() : String(value);
}

/** Words, if they are few. */
function formatArray(values: readonly unknown[]): string {
  if (!values.every((one) => typeof one === 'string')) return 'an array';
  const text = `[${values.map((one) => printable(one)).join(', ')}]`;
  return text.length <= 80 ? text : 'an array';
}
