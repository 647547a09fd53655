/** Debian 13 systems to install the package in: one root, and fresh overlays of it, booted or not. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { eventually } from '../agent/agent-process.js';

const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8' });

export const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
export const packageFile = (architecture: string): string => `build/vifd_${version}_${architecture}.deb`;

/** Everything is below a file system of its own, which goes with the mount namespace. */
const work = mkdtempSync(join(tmpdir(), 'vifd-package-'));
run('mount', '-t', 'tmpfs', 'tmpfs', work);
let made = 0;
export const scratch = (): string => {
  const directory = join(work, `${made++}`);
  mkdirSync(directory);
  return directory;
};

/** Debian 13 with what the package depends on; `npm run test:package` has it made beforehand. */
const baseRoot = run('bash', 'test/package-install/root.sh').trim();

export interface Outcome {
  readonly status: number | undefined;
  /** What is on stdout and stderr. */
  readonly output: string;
}

/** An overlay of the root: what is done in one is not seen in another. */
export class Debian {
  readonly root: string;
  private init: ChildProcess | undefined;
  private pid = 0;

  constructor() {
    const directory = scratch();
    for (const name of ['upper', 'work', 'root']) mkdirSync(join(directory, name));
    this.root = join(directory, 'root');
    const layers = `lowerdir=${baseRoot},upperdir=${directory}/upper,workdir=${directory}/work`;
    run('mount', '-t', 'overlay', 'overlay', '-o', layers, this.root);
  }

  write(path: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text, { mode });
  }

  read(path: string): string {
    return readFileSync(join(this.root, path), 'utf8');
  }

  has(path: string): boolean {
    return existsSync(join(this.root, path));
  }

  /** Runs systemd there, in this network namespace. */
  async boot(xenstore: string): Promise<void> {
    const namespaces = ['--mount', '--pid', '--fork', '--kill-child', '--uts', '--ipc', '--cgroup'];
    const boot = ['bash', 'test/package-install/boot.sh', this.root, xenstore];
    const child = spawn('unshare', [...namespaces, ...boot], { stdio: 'ignore' });
    this.init = child;
    const children = `/proc/${child.pid}/task/${child.pid}/children`;
    this.pid = Number(
      await eventually(() => (existsSync(children) && readFileSync(children, 'utf8').trim()) || undefined),
    );
    // Degraded: no modules can be loaded there.
    await eventually(
      async () => /^(running|degraded)$/.test((await this.sh('systemctl is-system-running')).output),
      30_000,
    );
  }

  /** Runs a line of shell there: under systemd if that was booted, else as in a container that is being built. */
  async sh(line: string): Promise<Outcome> {
    const inside = ['sh', '-c', `exec 2>&1; ${line}`];
    const [command, ...args] =
      this.init === undefined
        ? ['unshare', '--pid', '--fork', '--mount', 'sh', '-c', CHROOT, 'sh', this.root, ...inside]
        : ['nsenter', '-t', `${this.pid}`, '-m', '-p', '-u', '-i', '-C', '-r', '-w', ...inside];
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
    // Not synchronous: the simulated xenstore answers from this process.
    const { exitCode, stdout } = await execa(command as string, args, { env, extendEnv: false, reject: false });
    return { status: exitCode, output: stdout };
  }

  /** As sh; what fails is an error with all that was said. */
  async must(line: string): Promise<string> {
    const { status, output } = await this.sh(line);
    if (status !== 0) throw new Error(`${line}: status ${status}\n${output}`);
    return output;
  }

  copy(file: string, path: string): void {
    run('cp', file, join(this.root, path));
  }

  /** `dpkg -i`; without dpkg's own lines. */
  async install(file: string): Promise<string> {
    const name = `/root/${file.split('/').at(-1)}`;
    this.copy(file, name);
    return own(await this.must(`dpkg -i ${name}`));
  }

  async dpkg(...words: string[]): Promise<string> {
    return own(await this.must(`dpkg ${words.join(' ')}`));
  }

  end(): void {
    this.init?.kill('SIGKILL');
  }
}

const CHROOT = 'mount -t proc proc "$1/proc"; exec chroot "$@"';

/** What vifd's scripts say. */
const own = (output: string): string =>
  output
    .split('\n')
    .filter((line) => line.startsWith('vifd: '))
    .join('\n');

/** The same package under another version, as the next release. */
export function nextVersion(file: string): string {
  const directory = scratch();
  run('dpkg-deb', '-R', file, join(directory, 'tree'));
  const control = join(directory, 'tree/DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*/m, `Version: ${version}+next`));
  const next = join(directory, 'next.deb');
  run('dpkg-deb', '--build', '--root-owner-group', '-Znone', join(directory, 'tree'), next);
  return next;
}
