/** EDGE: finds and reads the configuration files; every fault names file, line, key, value and what was expected. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, VifdError } from '../errors.js';
import { faultOnWay } from '../trusted-way.js';
import { checkFile, formatPath, formatValue, type Given, type GivenValues, isTable, type KeyPath } from './check.js';
import { type Contradiction, contradictions } from './contradictions.js';
import { configOf, fullKey, type WholeConfig } from './schema.js';

/** Where the files are unless one is named. */
export const CONFIG_DIR = '/etc/xen';

export interface Loaded {
  readonly config: WholeConfig;
  /** In the order in which they were read; empty: all is default. */
  readonly files: readonly string[];
  readonly given: GivenValues;
}

/**
 * The defaults, refined by `file`; without one by `vifd.toml` and then by `vifd.d/*.toml` in order of their names, as far
 * as they are there. Rejects with code ECONFIG and all faults of all files, a line each; one that others could change is such a
 * fault for those who act by it, and none for those who only look (`anyOwner`).
 */
export async function loadConfig(file: string | undefined, dir = CONFIG_DIR, anyOwner = false): Promise<Loaded> {
  const files = file === undefined ? await findFiles(dir) : [file];
  const given = new Map<string, Given>();
  const faults: ConfigError[] = [];
  for (const name of files) {
    const distrust = anyOwner ? undefined : await checkOwner(name);
    const one = distrust === undefined ? await readOne(name) : { given: new Map(), faults: [distrust] };
    for (const [key, value] of one.given) given.set(key, value);
    faults.push(...one.faults);
  }
  const config = configOf([...given.values()]);
  const judged = contradictions(config).filter((one) => !faults.some(({ key }) => concerns(key, one)));
  faults.push(...judged.map((one) => placed(one, given)));
  const [first, ...more] = faults;
  if (first !== undefined && more.length === 0) throw first;
  if (first !== undefined) throw new VifdError('ECONFIG', faults.map(({ message }) => message).join('\n'));
  return { config, files, given };
}

/** For those who only look: a file that is named may be anybody's, such as a draft. */
export const lookAtConfig = (file: string | undefined): Promise<Loaded> =>
  loadConfig(file, CONFIG_DIR, file !== undefined);

/** Whether what is at fault, a file or a setting, may be just what the table seems to lack. */
const concerns = (key: string, { table, name }: Contradiction): boolean =>
  key === '' || `${key}.`.startsWith(name === undefined ? `${table}.` : `${table}.${name}.`);

/** At the first line that says something of it. */
function placed({ table, name, setting, value, expected }: Contradiction, given: GivenValues): ConfigError {
  const there = [...given.values()].filter((one) => one.table === table && one.name === name);
  const place = there.find((one) => one.setting === setting) ?? there[0];
  const key = [table, name, setting].filter((word) => word !== undefined).join('.');
  return new ConfigError(place?.file ?? '', place?.line() ?? 0, key, value ?? formatValue(place?.value), expected);
}

async function findFiles(dir: string): Promise<string[]> {
  const [names, dropIns] = await Promise.all([list(dir), list(join(dir, 'vifd.d'))]);
  return [
    ...names.filter((name) => name === 'vifd.toml').map((name) => join(dir, name)),
    ...dropIns
      .filter((name) => name.endsWith('.toml') && !name.startsWith('.'))
      .sort()
      .map((name) => join(dir, 'vifd.d', name)),
  ];
}

/** The names in a directory, or none if it is not there. */
function list(dir: string): Promise<string[]> {
  return readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new ConfigError(dir, 0, '', `cannot be read (${error.code})`, 'a readable directory');
  });
}

interface OneFile {
  readonly given: GivenValues;
  readonly faults: readonly ConfigError[];
}

async function readOne(file: string): Promise<OneFile> {
  const text = await readFile(file, 'utf8').catch((error) => unreadable(file, error));
  return text instanceof ConfigError ? { given: new Map(), faults: [text] } : parseConfig(file, text);
}

/** It says which programs are run. */
async function checkOwner(file: string): Promise<ConfigError | undefined> {
  const fault = await faultOnWay(file).catch(() => undefined); // then it cannot be read either
  if (fault === undefined) return undefined;
  const { path, what, remedy } = fault;
  const whole = `cannot be trusted: ${path === file ? 'it' : path} ${what} (${remedy})`;
  return new ConfigError(file, 0, '', whole, 'a file that only root or the user that runs vifd can change');
}

function unreadable(file: string, { code, message }: NodeJS.ErrnoException): ConfigError {
  const words: Record<string, string> = {
    ENOENT: 'does not exist',
    ENOTDIR: 'does not exist',
    EACCES: 'may not be read by this user',
    EISDIR: 'is a directory',
  };
  return new ConfigError(
    file,
    0,
    '',
    words[code ?? ''] ?? `cannot be read (${code ?? message})`,
    'a readable TOML file',
  );
}

/** What one file's text gives, and what is wrong with it. */
export async function parseConfig(file: string, text: string): Promise<OneFile> {
  const { parse, TomlError } = await loadParser();
  const tryParse = (part: string) => {
    try {
      return parse(part);
    } catch (error) {
      if (error instanceof TomlError) return error;
      throw error;
    }
  };
  const root = tryParse(text);
  if (root instanceof TomlError) {
    const reason = root.message.split('\n')[0]?.replace('Invalid TOML document: ', '');
    return {
      given: new Map(),
      faults: [new ConfigError(file, root.line, '', `not TOML (${reason})`, 'valid TOML, with text in quotes')],
    };
  }
  const { values, faults } = checkFile(root);
  const lines = new Map<string, number>(); // many in one array may be at fault
  const line = (path: KeyPath) => {
    const key = path.join('\0');
    const found = lines.get(key) ?? lineOf(tryParse, text, path);
    lines.set(key, found);
    return found;
  };
  return {
    given: new Map(values.map((one) => [fullKey(one), { ...one, file, line: () => line(fullKey(one).split('.')) }])),
    faults: faults.map(({ path, index, value, expected }) => {
      const key = `${formatPath(path)}${index === undefined ? '' : `[${index}]`}`;
      return new ConfigError(file, line(path), key, formatValue(value), expected);
    }),
  };
}

/** 2 MiB resident that an agent without a file does not need. In dist it is a file of its own, named by its content. */
async function loadParser(): Promise<typeof import('smol-toml')> {
  return import('smol-toml').catch((cause) => {
    const what = "vifd's own TOML parser cannot be loaded; if vifd was installed anew while it ran, restart it";
    throw new VifdError('ENOPARSER', what, { cause });
  });
}

/**
 * The line where the statement begins that gives `path` its value; 0 if none does. The parser itself decides, for it tells
 * no positions: a part of a valid text that ends within a statement is not valid, so the statement begins after the longest
 * valid part that lacks the path. Dotted keys, quoted keys and equal names in two tables need no rules of their own.
 */
function lineOf(tryParse: (part: string) => object, text: string, path: KeyPath): number {
  const lines = text.split('\n');
  let begin = 0;
  for (let end = 1; end <= lines.length; end++) {
    const part = tryParse(`${lines.slice(0, end).join('\n')}\n`);
    if (part instanceof Error) continue;
    if (has(part, path)) return begin + 1;
    begin = end;
  }
  return 0;
}

const has = (root: unknown, [name, ...rest]: KeyPath): boolean =>
  name === undefined || (isTable(root) && Object.hasOwn(root, name) && has(root[name], rest));
