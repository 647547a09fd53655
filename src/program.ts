/** Every command, its options and its words. No logic: an action loads its command's file when it is called. */
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { SOURCES, type Source } from './monitor/entry.js';

const EXIT_CODES = `
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  no xenstore here, no permission to use it, or it cannot be reached
  4  the configuration is not valid`;

const CONFIG_FILES = '/etc/xen/vifd.toml and /etc/xen/vifd.d/*.toml';

const RECORD_HELP = `
A record has the MAC and IP addresses of guests in it, and the names of interfaces here; no passwords or packets.
A line that cannot be read is named and left out.`;

export const PAGES = ['vifd.8', 'vifd.toml.5', 'bash', 'zsh', 'fish'] as const;
export const LOG_FORMATS = ['auto', 'json', 'pretty', 'journal'] as const;
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

export function program(version: string): Command {
  const vifd = new Command('vifd')
    .description(
      "connects the network interfaces of Xen guests in a network driver domain, instead of 'xl devd' and the vif scripts",
    )
    .version(version)
    .addHelpText('after', EXIT_CODES)
    .showHelpAfterError("(try 'vifd --help')")
    .exitOverride();
  const xenstore = () =>
    new Option(
      '--xenstore <path>',
      'socket or device of xenstore (default: $XENSTORED_PATH, or where it is found)',
    ).argParser(nonEmpty);
  const configFile = () =>
    new Option('-c, --config <file>', `configuration file, instead of ${CONFIG_FILES}`).argParser(nonEmpty);

  vifd
    .command('run')
    .description(
      'the agent: attach every vif to its bridge, keep it right, remove it when the guest leaves; stays in the foreground',
    )
    .option('--foreground', 'stay in the foreground (the default; accepted for service files)')
    .addOption(configFile())
    .addOption(xenstore())
    .addOption(new Option('--log-level <level>', 'how much to log').choices(LEVELS).default('info'))
    .addOption(
      new Option(
        '--log-format <format>',
        'JSON lines, pretty for terminals, or sentences with priority for the journal; auto: what fits stdout',
      )
        .choices(LOG_FORMATS)
        .default('auto'),
    )
    .option('--pidfile <file>', 'write the process id there; a vifd that runs already is an error', nonEmpty)
    .addOption(
      new Option(
        '--metrics-file <file>',
        "keep metrics there for Prometheus' textfile collector; an absolute path, which should end in .prom",
      ).argParser(absolutePath),
    )
    .addHelpText(
      'after',
      '\nEnvironment:\n  VIFD_RUN_DIR    where vif scripts and vifd status ask (default: /run/vifd; empty: nowhere)\n  VIFD_STATE_DIR  where the leases of DHCP are kept (default: /var/lib/vifd)',
    )
    .action(async (options) => (await import('./commands/run.js')).run(options, version));

  vifd
    .command('monitor')
    .description(
      "debug mode: one time line of xenstore, the kernel and the agent's decisions for every vif, with the meaning; changes nothing",
    )
    .addOption(xenstore())
    .option('--only <sources>', `of ${SOURCES.join(',')} these only`, sourceList)
    .option('--json', 'one JSON object a line, {"version":1,...}')
    .option('--record <file>', 'write all that is seen there as well, for --replay; must be a new file', nonEmpty)
    .addOption(
      new Option('--record-max <mib>', 'no more is recorded when the file has so many MiB').argParser(size).default(64),
    )
    .addOption(
      new Option('--replay <file>', 'the time line of a record instead; needs no xenstore and no root')
        .argParser(nonEmpty)
        .conflicts(['record', 'xenstore']),
    )
    .addHelpText('after', RECORD_HELP)
    .action(async (options) => (await import('./commands/monitor.js')).monitor(options, version));

  const config = vifd.command('config').description('check and show the configuration; needs no xenstore');
  config
    .command('check')
    .description('say every fault of the configuration files: those that would keep the agent from starting')
    .argument('[file]', `the one file to check, instead of ${CONFIG_FILES}`, nonEmpty)
    .option('--strict', 'as vifd run takes it: that others could change FILE is a fault, too')
    .addHelpText('after', '\nExit codes: 0 the files are valid, or there are none; 4 they are not')
    .action(async (file, { strict }) => (await import('./commands/config.js')).checkConfig(file, strict));
  config
    .command('show')
    .description('every setting with the value that the files give it now, and where that comes from')
    .addOption(configFile())
    .addOption(new Option('--defaults', 'the defaults with their meaning instead: a sample file').conflicts('config'))
    .option('--json', 'one JSON object, {"version":1,...}')
    .action(async (options) => (await import('./commands/config.js')).showConfig(options));

  vifd
    .command('status')
    .description(
      'all vifs: interface, bridge, states, packets, and what keeps one from working; how [bridge] and [bind] stand; with or without an agent',
    )
    .addOption(configFile())
    .addOption(xenstore())
    .option('--json', 'one JSON object, {"version":1,...}')
    .option('--watch', 'again every 2 seconds, until SIGINT or SIGTERM')
    .addOption(
      new Option(
        '--prometheus',
        "as metrics for Prometheus, with the agent's own counters where one runs; the exit code is 0 then",
      ).conflicts(['json', 'watch']),
    )
    .addHelpText('after', '\nExit codes: 0 no vif has failed; 1 one has; 2, 3 and 4 as of vifd')
    .action(async (options) => (await import('./commands/status.js')).status(options));

  vifd
    .command('explain')
    .description(
      "the way of one vif from dom0's write to the guest's carrier: the first thing on it that is wrong, and the remedy",
    )
    .argument('<vif>', 'vif5.0, 5/0, a path in xenstore, or the name of its interface', nonEmpty)
    .addOption(configFile())
    .addOption(xenstore())
    .option('--json', 'one JSON object, {"version":1,...}')
    .addHelpText(
      'after',
      '\nExit codes: 0 it works, or waits for the guest; 1 something is wrong;\n2, 3 and 4 as of vifd',
    )
    .action(async (vif, options) => (await import('./commands/explain.js')).explain(vif, options));

  vifd
    .command('doctor')
    .description('what on this machine keeps vifs from working, or may; changes nothing')
    .addOption(configFile())
    .addOption(xenstore())
    .option('--json', 'one JSON object, {"version":1,...}')
    .addHelpText('after', '\nExit codes: 0 nothing, or warnings only; 1 errors; 2 and 4 as of vifd')
    .action(async (options) => (await import('./commands/doctor.js')).doctor(options));

  vifd
    .command('vif-script')
    .description(
      'what scripts/vif-vifd calls when no agent runs: does the work for one vif once and prints one line about it',
    )
    .addArgument(new Argument('<command>', 'what has happened to the vif').choices(['online', 'offline']))
    .argument('<path>', 'the backend in xenstore, as in $XENBUS_PATH: backend/vif/5/0', nonEmpty)
    .addOption(configFile())
    .addOption(xenstore())
    .option('--bridge <name>', 'the bridge, if dom0 names none')
    .addHelpText('after', '\nExit codes: 0 done; 1 failed, as hotplug-error says; 2, 3 and 4 as of vifd')
    .action(async (command, path, options) =>
      (await import('./commands/vif-script.js')).vifScript(command, path, options),
    );

  const dom0 = vifd
    .command('dom0')
    .description('in dom0: wait for the network of a guest, give it back after a restart of the driver domain');
  const timeout = (what: string, value: number) =>
    new Option('--timeout <seconds>', what).argParser(seconds).default(value);
  dom0
    .command('wait')
    .description('wait until every vif of a guest is connected, which xl does not, or say what is in the way')
    .argument('<guest>', 'name or domain id; it may come later', nonEmpty)
    .addOption(
      new Option(
        '--until <what>',
        "guest: both sides are connected; hotplug: the driver domain's is, for a guest without a driver yet; serving: GUEST is a driver domain, and its vifd has begun",
      )
        .choices(['guest', 'hotplug', 'serving'])
        .default('guest'),
    )
    .addOption(timeout('how long', 60))
    .addOption(xenstore())
    .addHelpText(
      'after',
      '\nExit codes: 0 connected, or the guest has no vif; 1 not in time, or a reason has stood for 5 s;\n2 and 3 as of vifd',
    )
    .action(async (guest, options) => (await import('./commands/dom0.js')).wait(guest, options));
  dom0
    .command('recover')
    .description(
      'after a restart of the driver domain: print the xl commands that give running guests their network back',
    )
    .argument('<backend>', 'the driver domain that runs again, by name or domain id', nonEmpty)
    .option('--yes', 'do it')
    .option(
      '--guest <guest>',
      'only this guest, by name or domain id, also where xl has no record of the name of its backend; once for each',
      collected,
    )
    .addOption(timeout('how long for vifd to begin there, and then for each vif', 60))
    .addOption(xenstore())
    .addHelpText(
      'after',
      '\nExit codes: 0 every vif has its network again, or nothing was to do, or without --yes;\n1 one has not; 2 and 3 as of vifd',
    )
    .action(async (backend, options) => (await import('./commands/dom0.js')).recover(backend, options));
  dom0
    .command('units')
    .description('print systemd units for dom0: driver domains start before the guests of xendomains and stop last')
    .argument('<nicdom...>', 'the name of each driver domain; some of the files are for all of them', collected)
    .addOption(
      new Option(
        '--config <file>',
        "the driver domain's configuration, for a single one (default: /etc/xen/NICDOM.cfg)",
      ).argParser(absolutePath),
    )
    .action(async (names, options) => (await import('./commands/dom0.js')).units(names, options));

  vifd
    .command('demo')
    .description(
      'show the main job here and now, without Xen: simulated dom0 and guests, real interfaces in a private namespace',
    )
    .option('--keep', 'instead of the story: one guest, until Ctrl-C, to look at and to try a configuration with')
    .addOption(new Option('-c, --config <file>', 'its configuration; implies --keep').implies({ keep: true }))
    .addOption(
      new Option(
        '--vif <line...>',
        "the guest's vifs, each as a vif line: bridge=br_lan,ip=10.0.0.5; implies --keep",
      ).implies({
        keep: true,
      }),
    )
    .action(async (options) => (await import('./commands/demo.js')).demo(options));

  vifd
    .command('manual')
    .description('print a manual page (read it with: vifd manual | man -l -) or a completion file for a shell')
    .addArgument(new Argument('[page]', 'what to print').choices(PAGES).default('vifd.8'))
    .action(async (page) => (await import('./commands/manual.js')).manual(page, vifd));
  for (const command of [...vifd.commands, ...config.commands, ...dom0.commands]) {
    const words = command.parent === vifd ? command.name() : `${command.parent?.name()} ${command.name()}`;
    command.showHelpAfterError(`(try 'vifd ${words} --help')`);
  }
  return vifd;
}

function absolutePath(value: string): string {
  if (!value.startsWith('/')) throw new InvalidArgumentError('it must be an absolute path.');
  return value;
}

function nonEmpty(value: string): string {
  if (value === '') throw new InvalidArgumentError('it must not be empty.');
  return value;
}

function seconds(value: string): number {
  if (/^\d{1,5}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('expected a whole number of seconds.');
}

const collected = (value: string, before: readonly string[] = []): string[] => [...before, nonEmpty(value)];

function sourceList(value: string): Source[] {
  const words = value.split(',') as Source[];
  if (words.every((word) => SOURCES.includes(word))) return words;
  throw new InvalidArgumentError(`expected some of ${SOURCES.join(', ')}, with commas between.`);
}

function size(value: string): number {
  if (/^[1-9]\d{0,5}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('expected a whole number of MiB from 1 to 999999.');
}
