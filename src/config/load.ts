/** EDGE: reads the configuration file and checks it against the schema; every fault names file, line and key. */
import { readFile } from 'node:fs/promises';
import { parse, TomlError } from 'smol-toml';
import { ConfigError } from '../errors.js';
import { type Config, DEFAULTS } from './schema.js';

/** The defaults, changed by `file` if one is given. Rejects with ConfigError. */
export async function loadConfig(file: string | undefined): Promise<Config> {
  if (file === undefined) return DEFAULTS;
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError(file, 0, '', `cannot be read (${error.code})`, 'a readable TOML file');
  });
  return parseConfig(file, text);
}

/** The configuration that this text makes of the defaults. Throws ConfigError. */
export function parseConfig(file: string, text: string): Config {
  const table = parseToml(file, text);
  const fault = (key: string, value: unknown, expected: string) =>
    new ConfigError(file, lineOf(text, key), key, JSON.stringify(value), expected);
  for (const key of Object.keys(table)) {
    if (key !== 'vif') throw fault(key, table[key], 'only the table [vif]');
  }
  const vif = table.vif ?? {};
  if (!isTable(vif)) throw fault('vif', vif, 'a table');
  for (const key of Object.keys(vif)) {
    if (key !== 'qlen' && key !== 'tx_checksum')
      throw fault(key, vif[key], 'one of the keys qlen, tx_checksum in [vif]');
  }
  const { qlen = DEFAULTS.vif.qlen, tx_checksum: txChecksum = DEFAULTS.vif.txChecksum } = vif;
  if (typeof qlen !== 'number' || !Number.isInteger(qlen) || qlen < 1 || qlen > 1_000_000)
    throw fault('qlen', qlen, 'a number of packets from 1 to 1000000');
  if (txChecksum !== 'off' && txChecksum !== 'keep') throw fault('tx_checksum', txChecksum, '"off" or "keep"');
  return { vif: { qlen, txChecksum } };
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseToml(file: string, text: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new ConfigError(file, error.line, '', (error.message.split('\n')[0] ?? '').toLowerCase(), 'TOML');
  }
}

/** The line of the key's first appearance; 0 if it cannot be found, as for a dotted key. */
function lineOf(text: string, key: string): number {
  return (
    text.split('\n').findIndex((line) => new RegExp(`^\\s*\\[?\\s*${key.replace(/[^\w-]/g, '.')}\\b`).test(line)) + 1
  );
}
