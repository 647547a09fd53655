/** Which processes attach vifs, by their command lines. Pure. */
import type { Program } from '../vif/seen.js';

export interface CommandLine {
  readonly pid: number;
  /** argv[0] and on. */
  readonly argv: readonly string[];
  /** The program is this very installation of vifd, whatever its file is called. */
  readonly isSelf: boolean;
}

/** Conservative: what is not plainly `vifd run` or `xl devd` is neither. */
export function recognise({ pid, argv, isSelf }: CommandLine): Program | undefined {
  const [program, ...args] = behindInterpreter(argv);
  if (program === undefined) return undefined;
  const command = args.find((arg) => !arg.startsWith('-'));
  if (basename(program) === 'xl' && command === 'devd') return { pid, command: 'xl devd' };
  if ((isSelf || isVifd(program)) && command === 'run') {
    const config = configOf(args);
    return { pid, command: 'vifd run', ...(config !== undefined && { config }) };
  }
  return undefined;
}

/** As commander reads `-c FILE`, `-cFILE`, `--config FILE` and `--config=FILE`. */
function configOf(args: readonly string[]): string | undefined {
  const i = args.findIndex((arg) => /^(-c|--config$|--config=)/.test(arg));
  const option = args[i] ?? '';
  return option === '-c' || option === '--config' ? args[i + 1] : /^(?:-c|--config=)(.+)$/.exec(option)?.[1];
}

const isVifd = (program: string): boolean =>
  basename(program) === 'vifd' || /(^|\/)vifd\/(dist\/)?main\.m?js$/.test(program);

/** Without `node` and its options: the script and its arguments. */
export function behindInterpreter(argv: readonly string[]): readonly string[] {
  if (!/^(node|nodejs)(-?\d+)?$/.test(basename(argv[0] ?? ''))) return argv;
  const script = argv.findIndex((arg, i) => i > 0 && !arg.startsWith('-'));
  return script < 0 ? [] : argv.slice(script);
}

const basename = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
