/** The manual pages and completions say what the program has; a program other than ours reads them. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { render } from '../../src/commands/manual.js';
import { DIAGNOSTICS, FINDINGS, METRICS, type Part } from '../../src/commands/manual-text.js';
import { TABLES, type Table } from '../../src/config/schema.js';
import { NETWORK_CHECKS } from '../../src/doctor/network-checks.js';
import { XEN_CHECKS } from '../../src/doctor/xen-checks.js';
import { NodeError, XenstoreError } from '../../src/errors.js';
import { PAGES, program } from '../../src/program.js';
import { explainFailure } from '../../src/vif/failure.js';
import { FAILURE_CODES } from '../../src/vif/failure-codes.js';

const vifd = program('1.2.3');
const has = (name: string) => spawnSync(name, ['--version']).status === 0;
/** Every flag of every command. */
const flags = (command: Command): string[] => [
  ...command.options.flatMap(({ long }) => (long ? [long] : [])),
  ...command.commands.flatMap(flags),
];
const names = (command: Command): string[] => command.commands.flatMap((one) => [one.name(), ...names(one)]);

test('vifd.8 has every command, every flag and the exit codes', () => {
  const text = render('vifd.8', vifd).replaceAll('\\-', '-');
  for (const word of [...names(vifd), ...flags(vifd).filter((flag) => flag !== '--version')])
    expect(text).toContain(word);
  expect(text).toMatch(/3 {2}no xenstore here/);
  expect(text).toContain('vifd 1.2.3');
  expect(text).toContain('\\fBvifd dom0 units\\fR [options] <nicdom...>');
});

const page = render('vifd.8', vifd).replaceAll('\\-', '-');
const sources = (readdirSync('src', { recursive: true }) as string[])
  .filter((file) => file.endsWith('.ts') && !file.startsWith('simulator/') && file !== 'commands/manual-text.ts')
  .map((file) => readFileSync(join('src', file), 'utf8'));
const found = (pattern: RegExp) =>
  [...new Set(sources.flatMap((text) => [...text.matchAll(pattern)].map(([, word]) => word ?? '')))].sort();
const terms = (parts: readonly Part[]) => parts.flatMap((part) => (typeof part === 'string' ? [] : part[0]));

test('vifd.8 has every reason for which a vif fails, and no other', () => {
  const thrown = found(/new AttachError\(\s*'(E[A-Z]+)'/g);
  expect(thrown).toContain('ENOBRIDGE');
  expect(Object.keys(FAILURE_CODES).sort()).toEqual([...thrown, 'EBADNODE', 'EQUOTA', 'EUNEXPECTED'].sort());
  for (const code of thrown) expect(page).toMatch(new RegExp(`\\.TP\n\\\\fB${code}\\\\fR\n.+\n\\.br\n-> .+`));
  expect(explainFailure(new NodeError('mac', 'x', 'y')).code).toBe('EBADNODE');
  expect(explainFailure(new XenstoreError('ENOSPC', 'WRITE', 'p')).code).toBe('EQUOTA');
  expect(explainFailure(new TypeError('x')).code).toBe('EUNEXPECTED');
});

test('the sentences that vifd.8 explains are those of the program', () => {
  const sentences = terms(DIAGNOSTICS).filter((term) => !(term in FAILURE_CODES));
  expect(sentences.length).toBeGreaterThan(5);
  for (const sentence of sentences)
    for (const words of sentence.split(/ X | ?\(pid N\)| TIME| ?vifX\.Y|\.\.\.: EPERM/).filter((text) => text !== ''))
      expect(sources.some((text) => text.includes(words.trim()))).toBe(true);
});

test('vifd.8 has every code of the doctor and every metric', () => {
  const checks = [...XEN_CHECKS, ...NETWORK_CHECKS].map(({ code }) => code);
  expect(
    terms(FINDINGS)
      .flatMap((term) => term.split(', '))
      .sort(),
  ).toEqual(checks.sort());
  const names = terms(METRICS).flatMap((term) => term.replace(/\{.*?\}/g, '').split(', '));
  expect(names.sort()).toEqual(found(/'(vifd_[a-z_]+)'/g));
});

test('vifd.8 has the signals, and the exit codes of each command that has its own', () => {
  for (const signal of ['SIGTERM, SIGINT', 'SIGHUP']) expect(page).toContain(`.TP\n\\fB${signal}\\fR\n`);
  expect(page.match(/^Exit codes: 0 /gm)).toHaveLength(found(/'\\n(Exit codes: 0 [^']+)'/g).length);
});

test('vifd.toml.5 has every setting with its default', () => {
  const text = render('vifd.toml.5', vifd).replaceAll('\\-', '-');
  for (const { settings } of Object.values<Table>(TABLES))
    for (const [name, { default: value }] of Object.entries(settings)) {
      expect(text).toContain(`.TP\n\\fB${name}\\fR`);
      if (value !== undefined) expect(text).toContain(`default ${JSON.stringify(value)}.`);
    }
});

test.each(['bash', 'zsh', 'fish'] as const)('the completion for %s has every command and flag', (shell) => {
  const text = render(shell, vifd);
  for (const word of names(vifd)) expect(text).toContain(word);
  for (const flag of flags(vifd).filter((one) => one !== '--version'))
    expect(text).toContain(shell === 'fish' ? `-l ${flag.slice(2)}` : flag);
});

const groff = has('groff') ? undefined : 'skipped: groff is not installed';
describe.skipIf(groff !== undefined)(groff ?? 'groff has no warning for', () => {
  test.each(PAGES.filter((name) => /\d$/.test(name)))('%s', (name) => {
    const { status, stdout, stderr } = spawnSync('groff', ['-man', '-Tascii', '-ww'], {
      input: render(name, vifd),
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toContain('vifd');
  });
});

const bash = has('bash') ? undefined : 'skipped: bash is not installed';
describe.skipIf(bash !== undefined)(bash ?? 'bash completes', () => {
  const complete = (...words: string[]) => {
    const script = `${render('bash', vifd)}
COMP_WORDS=(vifd "$@"); COMP_CWORD=$#; _vifd; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout } = spawnSync('bash', ['-euc', script, 'bash', ...words], { encoding: 'utf8' });
    return stdout.trim().split('\n').sort();
  };
  test.each<[string[], string[]]>([
    [['mon'], ['monitor']],
    [
      ['config', ''],
      ['--help', 'check', 'show'],
    ],
    [['run', '--log-f'], ['--log-format']],
    [
      ['run', '--log-format', 'j'],
      ['journal', 'json'],
    ],
    [['config', 'show', '--d'], ['--defaults']],
    [['run', '--pidfile', ''], ['']],
    [['manual', 'vifd.t'], ['vifd.toml.5']],
  ])('%j', (words, expected) => expect(complete(...words)).toEqual(expected));
});
