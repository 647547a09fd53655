/** The record of a monitor: JSON lines, a header first, then what was seen, raw. Pure. */
import { printable } from '../errors.js';
import { asciiJson } from '../text.js';
import { type Entry, isObject, parseEntry } from './entry.js';

export const RECORD_VERSION = 1;
const FORMAT = 'vifd monitor record';

export interface RecordHeader {
  readonly version: number;
  /** Of the vifd that recorded. */
  readonly vifd: string;
  /** As `uname -r` has it. */
  readonly kernel: string;
  /** ISO 8601. */
  readonly start: string;
}

export const headerLine = ({ version, vifd, kernel, start }: RecordHeader): string =>
  `${asciiJson({ format: FORMAT, version, vifd, kernel, start })}\n`;

/** `ms`: since the start. */
export const entryLine = (ms: number, entry: Entry): string => `${asciiJson({ ms, ...entry })}\n`;

/** Undefined when the line begins no record. */
export function parseHeader(line: string): RecordHeader | undefined {
  const value = parseJson(line);
  if (!isObject(value) || value.format !== FORMAT || !Number.isInteger(value.version)) return undefined;
  const [vifd, kernel, start] = [value.vifd, value.kernel, value.start].map((word) =>
    typeof word === 'string' ? word : '',
  ) as [string, string, string];
  return { version: value.version as number, vifd, kernel, start };
}

/** Eleven days: no monitor runs so long, and every time it gives can be written. */
const LAST_MS = 1e9;

/** No monitor writes more; JSON.stringify, which a replay needs, ends with the stack. */
const DEEPEST = 32;

/** A line behind the header, or why it cannot be read. */
export function parseEntryLine(line: string): { ms: number; entry: Entry } | string {
  const value = parseJson(line);
  if (!isObject(value)) return 'is no JSON object';
  if (isDeeper(value, DEEPEST)) return `is nested more than ${DEEPEST} deep`;
  const { ms, ...rest } = value;
  if (!Number.isInteger(ms) || (ms as number) < 0 || (ms as number) > LAST_MS)
    return `has ms = ${shown(ms)}; expected a whole number of milliseconds from 0 to ${LAST_MS}`;
  const entry = parseEntry(rest);
  if (entry === undefined) return `has nothing that this vifd knows (source = ${shown(rest.source)})`;
  return { ms: ms as number, entry };
}

const shown = (value: unknown): string => (value === undefined ? 'none' : printable(JSON.stringify(value), 40));

const isDeeper = (value: unknown, levels: number): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1)));

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
