/** The log: coloured lines on a terminal, sentences with their priority for journald, else JSON lines. */
import { fstatSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type DestinationStream, type Logger, pino, symbols } from 'pino';
import { isoTime } from './iso-time.js';
import type { LOG_FORMATS } from './program.js';
import { LogOutput } from './service/log-output.js';

export type LogFormat = (typeof LOG_FORMATS)[number];

/** Has every record from debug on as a line of JSON, whatever the log's own level, until what is returned is called. */
export type Follow = (reader: (line: string) => void) => () => void;

export interface FollowedLog {
  readonly log: Logger;
  readonly follow: Follow;
}

export async function createLogger(level: string, format: LogFormat = 'auto'): Promise<FollowedLog> {
  const options = {
    level,
    base: null,
    timestamp: () => `,"time":"${isoTime(Date.now())}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const fork = new Fork(await outputFor(format === 'auto' ? formatHere() : format), level);
  const log = pino(options, fork);
  return { log, follow: (reader) => fork.follow(log, reader) };
}

const levelNumber = (level: string): number => pino.levels.values[level] ?? Number.POSITIVE_INFINITY;

/** While somebody follows the log it has more records than its own stream is to show; else pino drops those unformatted. */
class Fork implements DestinationStream {
  readonly [symbols.needsMetadataGsym] = true;
  /** Of the record that is written; set by pino. */
  lastLevel = 0;
  private readonly readers = new Set<(line: string) => void>();
  constructor(
    private readonly own: DestinationStream,
    private readonly level: string,
  ) {}

  write(line: string): void {
    if (this.lastLevel >= levelNumber(this.level)) this.own.write(line);
    if (this.lastLevel >= levelNumber('debug')) for (const read of this.readers) read(line);
  }

  /** `log` is what writes here. */
  follow(log: Logger, reader: (line: string) => void): () => void {
    this.readers.add(reader);
    if (levelNumber(this.level) > levelNumber('debug')) log.level = 'debug';
    return () => {
      this.readers.delete(reader);
      if (this.readers.size === 0) log.level = this.level;
    };
  }
}

function formatHere(): LogFormat {
  if (isatty(1)) return 'pretty'; // not process.stdout: see log-output.ts
  return isJournal(process.env.JOURNAL_STREAM) ? 'journal' : 'json';
}

/** systemd.exec(5): device and inode of the journal's socket, if stdout still is that. */
function isJournal(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  const { dev, ino } = fstatSync(1);
  return stream === `${dev}:${ino}`;
}

/** From a record as pino has it to what is written. */
type Shape = (json: string) => string;

async function outputFor(format: LogFormat): Promise<DestinationStream> {
  const shape = await shapeOf(format);
  const output = new LogOutput((lines, why) => shape(gapRecord(lines, why)));
  return { write: (line) => output.write(shape(line)) };
}

async function shapeOf(format: LogFormat): Promise<Shape> {
  if (format === 'pretty') return prettyShape();
  if (format === 'journal') return journalLine;
  return isJournal(process.env.JOURNAL_STREAM) ? withPriority : (line) => line;
}

const gapRecord = (lines: number, why: string): string =>
  `${JSON.stringify({ level: 'warn', time: isoTime(Date.now()), msg: `${lines} lines of this log are lost here: ${why}` })}\n`;

/** pino-pretty is no part of the bundle and may be left out on small systems: then JSON it is. */
async function prettyShape(): Promise<Shape> {
  try {
    const { default: pretty } = await import('pino-pretty');
    return pretty.prettyFactory({
      translateTime: 'SYS:HH:MM:ss.l',
      ignore: 'attach,domid,devid,ifname,bridge,mtu,ms,did,code',
    });
  } catch {
    return (line) => line;
  }
}

/** syslog's numbers (sd-daemon(3)). */
const PRIORITIES: Record<string, number> = { trace: 7, debug: 7, info: 6, warn: 4, error: 3, fatal: 2 };

/** JSON in the journal: it takes the priority off, and the line is JSON again. */
export const withPriority = (json: string): string =>
  `<${PRIORITIES[(JSON.parse(json) as { level: string }).level] ?? 6}>${json}`;

/**
 * The sentence, and which attach it speaks of; journald adds time and process by itself. Its own fields would need a datagram
 * socket, which Node has not. A line break would begin a message without priority.
 */
export function journalLine(json: string): string {
  const { level, msg, attach } = JSON.parse(json) as { level: string; msg?: string; attach?: string };
  const prefix = `<${PRIORITIES[level] ?? 6}>`;
  return `${msg ?? ''}${attach === undefined ? '' : ` [attach ${attach}]`}`
    .split('\n')
    .map((line) => `${prefix}${line}\n`)
    .join('');
}
