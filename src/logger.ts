/** The log: JSON lines for machines, coloured lines on a terminal. */
import { type DestinationStream, destination, type Logger, pino } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export async function createLogger(level: string, terminal = process.stdout.isTTY === true): Promise<Logger> {
  const options = {
    level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return pino(options, terminal ? await prettyStream() : destination({ dest: 1, sync: true }));
}

/** pino-pretty is no part of the bundle and may be left out on small systems: then JSON it is. */
async function prettyStream(): Promise<DestinationStream> {
  try {
    const { default: pretty } = await import('pino-pretty');
    return pretty({ sync: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'domid,devid,ifname,bridge,ms,did,code' });
  } catch {
    return destination({ dest: 1, sync: true });
  }
}
