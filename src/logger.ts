/** The log: coloured lines on a terminal, sentences with their priority for journald, else JSON lines. */
import { fstatSync } from 'node:fs';
import { type DestinationStream, destination, type Logger, pino } from 'pino';
import type { LOG_FORMATS } from './program.js';

export type LogFormat = (typeof LOG_FORMATS)[number];

export async function createLogger(level: string, format: LogFormat = 'auto'): Promise<Logger> {
  const options = {
    level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return pino(options, await streamFor(format === 'auto' ? formatHere() : format));
}

function formatHere(): LogFormat {
  if (process.stdout.isTTY) return 'pretty';
  return isJournal(process.env.JOURNAL_STREAM) ? 'journal' : 'json';
}

/** systemd.exec(5): device and inode of the journal's socket, if stdout still is that. */
function isJournal(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  const { dev, ino } = fstatSync(1);
  return stream === `${dev}:${ino}`;
}

function streamFor(format: LogFormat): DestinationStream | Promise<DestinationStream> {
  const stdout = destination({ dest: 1, sync: true });
  if (format === 'pretty') return prettyStream(stdout);
  if (format === 'journal') return { write: (line) => stdout.write(journalLine(line)) };
  return isJournal(process.env.JOURNAL_STREAM) ? { write: (line) => stdout.write(withPriority(line)) } : stdout;
}

/** pino-pretty is no part of the bundle and may be left out on small systems: then JSON it is. */
async function prettyStream(stdout: DestinationStream): Promise<DestinationStream> {
  try {
    const { default: pretty } = await import('pino-pretty');
    return pretty({ sync: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'domid,devid,ifname,bridge,mtu,ms,did,code' });
  } catch {
    return stdout;
  }
}

/** syslog's numbers (sd-daemon(3)). */
const PRIORITIES: Record<string, number> = { trace: 7, debug: 7, info: 6, warn: 4, error: 3, fatal: 2 };

/** JSON in the journal: it takes the priority off, and the line is JSON again. */
export const withPriority = (json: string): string =>
  `<${PRIORITIES[(JSON.parse(json) as { level: string }).level] ?? 6}>${json}`;

/** The sentence alone; journald adds time and process by itself. A line break would begin a message without priority. */
export function journalLine(json: string): string {
  const { level, msg } = JSON.parse(json) as { level: string; msg?: string };
  const prefix = `<${PRIORITIES[level] ?? 6}>`;
  return (msg ?? '')
    .split('\n')
    .map((line) => `${prefix}${line}\n`)
    .join('');
}
