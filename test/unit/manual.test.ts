/** The manual pages and completions say what the program has; a program other than ours reads them. */
import { spawnSync } from 'node:child_process';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { render } from '../../src/commands/manual.js';
import { TABLES, type Table } from '../../src/config/schema.js';
import { PAGES, program } from '../../src/program.js';

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
