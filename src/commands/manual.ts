/** `vifd manual`: the manual pages and completions, made from the program and the configuration's schema themselves. */
import type { Argument, Command, Option } from 'commander';
import { type Setting, TABLES, type Table } from '../config/schema.js';
import type { PAGES } from '../program.js';
import {
  DIAGNOSTICS,
  ENVIRONMENT,
  FILES,
  FINDINGS,
  JSON_TEXT,
  LIFE,
  METRICS,
  type Part,
  SCRIPT,
  SIGNALS,
} from './manual-text.js';

export function manual(page: (typeof PAGES)[number], program: Command): void {
  process.stdout.write(render(page, program));
}

export function render(page: (typeof PAGES)[number], program: Command): string {
  switch (page) {
    case 'vifd.8':
      return programPage(program);
    case 'vifd.toml.5':
      return configurationPage(program);
    case 'bash':
      return bashCompletion(program);
    case 'zsh':
      return zshCompletion(program);
    case 'fish':
      return fishCompletion(program);
    default:
      return page satisfies never;
  }
}

/** Every command that does something, with the words that lead to it: `config show`. */
function leaves(command: Command, words: readonly string[] = []): { words: readonly string[]; command: Command }[] {
  return command.commands.flatMap((one) => {
    const all = [...words, one.name()];
    return one.commands.length > 0 ? leaves(one, all) : [{ words: all, command: one }];
  });
}

/** Text as roff takes it: no backslash and no dot or apostrophe at the start of a line means anything else. */
const roff = (text: string): string =>
  text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/^([.'])/gm, '\\&$1');
const bold = (text: string): string => `\\fB${roff(text)}\\fR`;

function page(title: string, section: number, version: string, parts: [string, string[]][]): string {
  const head = `.TH "${title.toUpperCase()}" "${section}" "" "vifd ${version}" "Xen network driver domains"`;
  const plain = ['.nh', '.ad l']; // commands are not to be hyphenated or spread
  return `${[head, ...plain, ...parts.flatMap(([heading, lines]) => [`.SH "${heading}"`, ...lines])].join('\n')}\n`;
}

function programPage(program: Command): string {
  const commands = leaves(program);
  const named = ({ words, command }: (typeof commands)[number]) => ({ usage: usage(words, command), command });
  return page('vifd', 8, program.version() ?? '', [
    ['NAME', [`vifd \\- ${roff(program.description())}`]],
    ['SYNOPSIS', commands.flatMap((one) => ['.PP', named(one).usage])],
    [
      'COMMANDS',
      commands.flatMap((one) => [
        `.SS "${roff(`vifd ${one.words.join(' ')}`)}"`,
        named(one).usage,
        '.PP',
        `${roff(capital(one.command.description()))}.`,
        ...one.command.registeredArguments.flatMap(argumentItem),
        ...one.command.options.flatMap(optionItem),
        ...helpAfter(one.command),
      ]),
    ],
    ['EXIT STATUS', helpAfter(program)],
    ['SIGNALS', parts(SIGNALS)],
    ['LIFE OF A VIF', parts(LIFE)],
    ['THE SCRIPT VIF-VIFD', parts(SCRIPT)],
    ['DIAGNOSTICS', parts(DIAGNOSTICS)],
    ['FINDINGS OF DOCTOR', parts(FINDINGS)],
    ['JSON', parts(JSON_TEXT)],
    ['METRICS', parts(METRICS)],
    ['FILES', parts(FILES)],
    ['ENVIRONMENT', parts(ENVIRONMENT)],
    ['SEE ALSO', ['vifd.toml(5), xl.cfg(5), xl\\-network\\-configuration(5), xenstore(1)']],
  ]);
}

const parts = (all: readonly Part[]): string[] =>
  all.flatMap((part) =>
    typeof part === 'string'
      ? ['.PP', roff(part)]
      : ['.TP', bold(part[0]), ...part.slice(1).map(roff).join('\n.br\n').split('\n')],
  );

const usage = (words: readonly string[], command: Command): string =>
  [
    bold(['vifd', ...words].join(' ')),
    ...(command.options.length > 0 ? ['[options]'] : []),
    ...command.registeredArguments.map((one) => roff(placeholder(one))),
  ].join(' ');

const placeholder = (one: Argument): string => {
  const name = one.variadic ? `${one.name()}...` : one.name();
  return one.required ? `<${name}>` : `[${name}]`;
};

/** What begins with a word as it is typed, such as vif5.0, keeps its small letter. */
const item = (term: string, text: string): string[] => [
  '.TP',
  bold(term),
  roff(/^\S*\d/.test(text) ? text : capital(text)),
];
const argumentItem = (one: Argument): string[] => item(placeholder(one), described(one));
const optionItem = (one: Option): string[] => item(one.flags, described(one));

/** As --help says it. */
function described({ description, argChoices, defaultValue }: Argument | Option): string {
  const more = [
    ...(argChoices === undefined ? [] : [`one of ${argChoices.join(', ')}`]),
    ...(defaultValue === undefined ? [] : [`default ${defaultValue}`]),
  ];
  return more.length === 0 ? description : `${description} (${more.join('; ')})`;
}

/** What --help has behind its list: the exit codes, and what else there is to say. */
function helpAfter(command: Command): string[] {
  const help = command.createHelp().formatHelp(command, command.createHelp());
  const text = captured(command).slice(help.length).trim();
  return text === '' ? [] : ['.PP', '.nf', ...roff(text).split('\n'), '.fi'];
}

function captured(command: Command): string {
  let text = '';
  const { writeOut, ...others } = command.configureOutput();
  command.configureOutput({ writeOut: (part) => (text += part) });
  command.outputHelp();
  command.configureOutput({ ...others, ...(writeOut && { writeOut }) });
  return text;
}

function configurationPage(program: Command): string {
  return page('vifd.toml', 5, program.version() ?? '', [
    ['NAME', ['vifd.toml \\- configuration of vifd(8)']],
    [
      'DESCRIPTION',
      [
        roff(
          'TOML. vifd reads /etc/xen/vifd.toml and then /etc/xen/vifd.d/*.toml in order of their names; what comes later counts, and what no file gives has its default. No file is needed.',
        ),
        '.PP',
        roff(
          "A fault in any file keeps vifd from starting; while it runs, SIGHUP makes it read them again, and a fault then leaves the configuration as it was. 'vifd config check' says every fault, 'vifd config show' what is in force and where it comes from, 'vifd config show --defaults' makes a file to begin with.",
        ),
      ],
    ],
    ...Object.entries<Table>(TABLES).map(([name, { about, named, settings }]): [string, string[]] => [
      `[${name}${named ? '.NAME' : ''}]`,
      [roff(about), ...Object.entries(settings).flatMap(([key, one]) => settingItem(key, one))],
    ]),
    ['SEE ALSO', ['vifd(8)']],
  ]);
}

const settingItem = (key: string, { about, type, default: value }: Setting): string[] => [
  '.TP',
  bold(key),
  ...roff(about).split('\n'),
  roff(
    `${capital(type.expected)}; ${value === undefined ? 'not set by default' : `default ${JSON.stringify(value)}`}.`,
  ),
];

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** The words that may follow these, by the words before them: one line of a table each. */
function completions(program: Command): { after: string; words: string[] }[] {
  const inner = (command: Command, words: readonly string[]): { after: string; words: string[] }[] => {
    const subcommands = command.commands.map((one) => one.name());
    const flags = command.options.flatMap(({ short, long }) => [short, long].filter((flag) => flag !== undefined));
    const choices = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
    return [
      { after: words.join(' '), words: [...subcommands, ...choices, ...flags, '--help'] },
      ...command.commands.flatMap((one) => inner(one, [...words, one.name()])),
    ];
  };
  return inner(program, ['vifd']);
}

/** Options that take one of a few words. */
function optionChoices(program: Command): Map<string, readonly string[]> {
  const choices = leaves(program).flatMap(({ command }) =>
    command.options.flatMap(({ long, argChoices }) => (long && argChoices ? [[long, argChoices] as const] : [])),
  );
  return new Map(choices);
}

function bashCompletion(program: Command): string {
  const cases = completions(program).map(({ after, words }) => `    '${after}') words='${words.join(' ')}' ;;`);
  const choices = [...optionChoices(program)].map(([flag, words]) => `    ${flag}) words='${words.join(' ')}' ;;`);
  return `# vifd: completion for bash. Made by: vifd manual bash
_vifd() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path=vifd words='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in -*) ;; *) path="$path $word" ;; esac
  done
  case $path in
${cases.join('\n')}
  esac
  case $prev in
${choices.join('\n')}
    --config | -c | --guest | --only | --pidfile | --record | --record-max | --replay | --timeout | --xenstore) words='' ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _vifd vifd
`;
}

function zshCompletion(program: Command): string {
  return `#compdef vifd\n# vifd: completion for zsh. Made by: vifd manual zsh\nautoload -U +X bashcompinit && bashcompinit\n${bashCompletion(program).split('\n').slice(1).join('\n')}`;
}

function fishCompletion(program: Command): string {
  const quoted = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`;
  const lines = leaves(program).flatMap(({ words, command }) => {
    const seen = words.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ');
    return command.options.map(({ short, long, description, argChoices, required }) =>
      [
        `complete -c vifd -n ${quoted(seen)}`,
        ...(short ? [`-s ${short.slice(1)}`] : []),
        ...(long ? [`-l ${long.slice(2)}`] : []),
        ...(argChoices ? [`-x -a ${quoted(argChoices.join(' '))}`] : required ? ['-r'] : []),
        `-d ${quoted(description)}`,
      ].join(' '),
    );
  });
  const groups = [program, ...program.commands.filter(({ commands }) => commands.length > 0)].flatMap((group) =>
    group.commands.map((one) => {
      const when = group === program ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${group.name()}`;
      return `complete -c vifd -f -n ${quoted(when)} -a ${one.name()} -d ${quoted(one.description())}`;
    }),
  );
  return `# vifd: completion for fish. Made by: vifd manual fish\n${[...groups, ...lines].join('\n')}\n`;
}
