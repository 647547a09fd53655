/**
 * EDGE: runs a program that the admin has put here: a hotplug script or a hook.
 *
 * INVARIANTS
 * - Only a file that belongs to root and that nobody else may write or exchange; looked at before each use.
 * - In a process group of its own, which is killed as a whole at the limit and when vifd ends.
 * - Whatever it starts and leaves behind may keep its output open; what counts is its own end.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { realpath, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { killGroup } from '../child.js';
import { AttachError, printable } from '../errors.js';
import { identityOf } from '../processes.js';
import { faultOnWay } from '../trusted-way.js';

export interface Program {
  /** For messages: `script vif-mine`. */
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
  /** What stands beside vifd's own environment, and counts more. */
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** Those of one place run one after the other, in the order in which they were asked for. */
  readonly place?: string | undefined;
}

export interface Run {
  /** Resolves when it has ended well. Rejects with AttachError. */
  readonly ended: Promise<void>;
  /** Also what it has started. */
  kill(): void;
}

const LINE_MAX = 200;
const LINE_KEPT = 4096;
/** Of one run; a script in an endless loop must not fill the log. */
const LINES_MAX = 200;
/** What its output may take to arrive after its end. */
const OUTPUT_MS = 200;
/** The service manager's word to vifd, what libxl gives for emulated cards only, and what means something to hooks. */
const NOT_INHERITED = /^(NOTIFY_SOCKET|WATCHDOG_PID|WATCHDOG_USEC|INTERFACE|VIFD_.*)$/;
const LIMITS = 'what vifd may not do its scripts may not do either: see "User scripts" in the README';

export class Programs {
  private readonly running = new Set<ChildProcess>();
  /** The end of the last one of each place. */
  private readonly ends = new Map<string, Promise<void>>();
  private stopped = false;

  /** `onLine` gets each line of its output, clipped and printable. */
  run(program: Program, onLine: (line: string) => void): Run {
    let child: ChildProcess | undefined;
    let wanted = true;
    const { place = '' } = program;
    const turn = this.ends.get(place);
    const start = async () => {
      await turn;
      const file = await checkFile(program);
      if (!wanted || this.stopped) throw ended(program);
      child = spawnProgram(file, program);
      this.running.add(child);
      await finish(child, program, onLine)
        .catch((error) => {
          throw wanted && !this.stopped ? error : ended(program);
        })
        .finally(() => this.running.delete(child as ChildProcess));
    };
    const kill = () => {
      wanted = false;
      if (child !== undefined && this.running.has(child)) killGroup(child.pid);
    };
    const run = { ended: start(), kill };
    if (place !== '') this.keepEnd(place, run);
    return run;
  }

  private keepEnd(place: string, { ended }: Run): void {
    const end = ended
      .catch(() => undefined)
      .finally(() => {
        if (this.ends.get(place) === end) this.ends.delete(place);
      });
    this.ends.set(place, end);
  }

  /** Kills all that run, and lets no other begin. */
  stop(): void {
    this.stopped = true;
    for (const { pid } of this.running) killGroup(pid);
  }
}

function spawnProgram(file: string, program: Program): ChildProcess {
  const { args, name } = program;
  try {
    return spawn(file, args, {
      cwd: '/',
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: environment(program),
    });
  } catch (error) {
    throw cannotRun(name, error as NodeJS.ErrnoException);
  }
}

function cannotRun(name: string, { code }: NodeJS.ErrnoException): AttachError {
  const remedy =
    code === 'ENOENT' || code === 'EACCES' || code === 'ENOEXEC'
      ? `the interpreter in its first line must be there; ${LIMITS}`
      : 'this domain lacks memory, processes or file descriptors: see free, ps and ulimit';
  return new AttachError('ESCRIPTRUN', `${name} cannot be run (${code})`, remedy);
}

/** In a program's environment, as identityOf() has it: whose it is, should that be killed. */
export const VIFD_PID = 'VIFD_PID';

function environment({ env }: Program): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !NOT_INHERITED.test(name));
  return { ...Object.fromEntries(own), [VIFD_PID]: identityOf(process.pid) ?? '', ...env };
}

/** The file behind all links. */
async function checkFile({ name, file }: Program): Promise<string> {
  const fault = (what: string, remedy: string) =>
    new AttachError('ESCRIPTFILE', `${name} cannot be used: its file ${what}`, `${remedy}: ${printable(file)}`);
  try {
    const real = await realpath(file);
    const { uid, mode, ...status } = await stat(real).then((one) => ({ ...one, isFile: one.isFile() }));
    if (!status.isFile) throw fault('is no regular file', 'name the program itself');
    if (uid !== 0) throw fault(`belongs to user ${uid}`, 'give it to root with chown root');
    if (mode & 0o022) throw fault('may be written by others than root', 'chmod go-w');
    if (!(mode & 0o111)) throw fault('is not executable', 'chmod +x');
    const onWay = await faultOnWay(file);
    if (onWay)
      throw fault('could be exchanged by others', `${printable(onWay.path)} ${onWay.what}; chown or chmod that`);
    return real;
  } catch (error) {
    if (error instanceof AttachError) throw error;
    throw fault(`cannot be found (${(error as NodeJS.ErrnoException).code})`, 'put it there, readable for vifd');
  }
}

async function finish(child: ChildProcess, program: Program, onLine: (line: string) => void): Promise<void> {
  const { name, timeoutMs } = program;
  let lines = 0;
  let lastError = '';
  const ending = endOf(child);
  // Without a descriptor for them there are none, and the error is still to come.
  const hear = (stream: Readable | null | undefined, mark: (line: string) => void) => {
    if (!stream) return;
    hearLines(stream, (line) => {
      if (line.trim() !== '') mark(line.trim());
      if (++lines <= LINES_MAX) onLine(printable(line, LINE_MAX));
      else if (lines === LINES_MAX + 1) onLine('(its further output is left out)');
    });
  };
  hear(child.stdout, () => undefined);
  hear(child.stderr, (line) => {
    lastError = line;
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    killGroup(child.pid);
  }, timeoutMs);
  const end = await ending.finally(() => clearTimeout(timer));
  if (late)
    throw new AttachError(
      'ESCRIPTLIMIT',
      `${name} did not end within ${timeoutMs / 1000} s and was killed`,
      'see its output in the log, or give it a longer timeout',
    );
  if (end.error !== undefined) throw cannotRun(name, end.error);
  if (end.code === 0) return;
  const status = end.signal === null ? `exit status ${end.code}` : `ended by ${end.signal}`;
  const why = lastError === '' ? status : printable(lastError, LINE_MAX).slice(1, -1);
  const refused = /permission denied|not permitted|read-only file system/i.test(lastError);
  throw new AttachError('ESCRIPTFAILED', `${name} failed: ${why}`, refused ? LIMITS : 'its output is in the log');
}

/** One that never ends costs no memory: what nobody will see of it is dropped. */
function hearLines(stream: Readable, onLine: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    const lines = `${rest}${text}`.split(/\r?\n/);
    rest = (lines.pop() ?? '').slice(0, LINE_KEPT);
    for (const line of lines) onLine(line);
  });
  stream.on('end', () => rest !== '' && onLine(rest));
}

const ended = ({ name }: Program): AttachError =>
  new AttachError('ECANCELED', `${name} was killed`, 'it is run again when the vif is looked at');

interface End {
  readonly code: number | null;
  readonly signal: string | null;
  readonly error?: NodeJS.ErrnoException;
}

function endOf(child: ChildProcess): Promise<End> {
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ code: null, signal: null, error }));
    child.on('exit', (code, signal) => {
      const done = () => resolve({ code, signal });
      const timer = setTimeout(() => {
        // What it left running has its output still; that must not keep vifd from ending.
        for (const stream of [child.stdout, child.stderr])
          (stream as (Readable & { unref?(): void }) | null)?.unref?.();
        done();
      }, OUTPUT_MS);
      child.on('close', () => {
        clearTimeout(timer);
        done();
      });
    });
  });
}
