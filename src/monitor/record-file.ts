/** EDGE: reads a record, of whatever is in there: what cannot be read is named with its line, and the rest is told. */
import { createReadStream } from 'node:fs';
import { printable, VifdError } from '../errors.js';
import type { Entry } from './entry.js';
import { parseEntryLine, parseHeader, RECORD_VERSION, type RecordHeader } from './record.js';

/** Characters. Longer than any entry: a node's value has at most 4096 bytes, a log record not many more. */
const LONGEST = 256 * 1024;
/** So many unreadable lines are named, the others counted. */
const NAMED = 10;
/** From here on a time would soon have a year of five digits, and then be none at all. */
const LAST_START = Date.UTC(9999, 0, 1);

interface Line {
  readonly number: number;
  /** Undefined when it is too long. */
  readonly text: string | undefined;
  /** Without a line break at its end. */
  readonly cut: boolean;
}

/** Each entry with its time, in milliseconds since 1970. Rejects when the file is no record. */
export async function* readRecord(
  path: string,
  warn: (text: string) => void,
  begin: (header: RecordHeader) => void = () => undefined,
): AsyncGenerator<{ at: number; entry: Entry }> {
  let start: number | undefined;
  let lost = 0;
  for await (const { number, text, cut } of linesOf(path)) {
    if (start === undefined) {
      const header = headerOf(path, number === 1 ? text : undefined);
      start = startOf(path, header, warn);
      begin(header);
      continue;
    }
    const parsed = text === undefined ? `is longer than ${LONGEST} characters` : parseEntryLine(text);
    if (typeof parsed !== 'string') yield { at: start + parsed.ms, entry: parsed.entry };
    else if (cut) warn(`line ${number} of ${path} is cut off: the recording ended there; nothing else is lost`);
    else if (++lost <= NAMED) warn(`line ${number} of ${path} ${parsed}; it is left out`);
  }
  if (start === undefined) headerOf(path, undefined);
  if (lost > NAMED) warn(`${lost - NAMED} more lines of ${path} are left out`);
}

function headerOf(path: string, line: string | undefined): RecordHeader {
  const header = line === undefined ? undefined : parseHeader(line);
  if (header !== undefined) return header;
  const what = 'its first line is not the header of one (make it with: vifd monitor --record FILE)';
  throw new VifdError('ERECORD', `${path} is no record of vifd monitor: ${what}`);
}

function startOf(path: string, header: RecordHeader, warn: (text: string) => void): number {
  if (header.version > RECORD_VERSION) {
    const by = `version ${header.version}, written by vifd ${printable(header.vifd, 20)}`;
    warn(
      `line 1 of ${path}: the record has ${by}; this vifd knows version ${RECORD_VERSION} and shows what it can read`,
    );
  }
  const start = Date.parse(header.start);
  if (start >= 0 && start < LAST_START) return start;
  warn(
    `line 1 of ${path} has start = ${printable(header.start, 40)}; expected a time from 1970 to 9998. Times count from 00:00:00`,
  );
  return 0;
}

async function* linesOf(path: string): AsyncGenerator<Line> {
  let [number, rest, tooLong] = [1, '', false];
  for await (const chunk of chunksOf(path)) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    for (const text of parts) {
      const whole = !tooLong && text.length <= LONGEST;
      yield { number: number++, text: whole ? text : undefined, cut: false };
      tooLong = false;
    }
    if (rest.length > LONGEST) [rest, tooLong] = ['', true];
  }
  if (rest !== '' || tooLong) yield { number, text: tooLong ? undefined : rest, cut: true };
}

async function* chunksOf(path: string): AsyncGenerator<string> {
  try {
    yield* createReadStream(path, 'utf8') as AsyncIterable<string>;
  } catch (error) {
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    throw new VifdError('ERECORD', `the record ${path} cannot be read (${code})`, { cause: error });
  }
}
