/** What another user of this machine could do to the files that vifd makes, reads and runs; SECURITY.md has the list. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { LiveConfig } from '../../src/config/live.js';
import { loadConfig, lookAtConfig } from '../../src/config/load.js';
import { filesIn } from '../../src/dhcp/dnsmasq-text.js';
import { DhcpServer } from '../../src/dhcp/server.js';
import { findPrograms } from '../../src/doctor/programs.js';
import type { AttachError } from '../../src/errors.js';
import { Recorder } from '../../src/monitor/recorder.js';
import { Programs } from '../../src/network/hotplug-script.js';
import { Pidfile } from '../../src/service/pidfile.js';
import { ensureRunDirectory, ensureStateDirectory } from '../../src/service/run-directory.js';
import { ScriptRequests } from '../../src/service/script-requests.js';
import { writeWhole } from '../../src/service/whole-file.js';
import { faultOnWay } from '../../src/trusted-way.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { eventually } from '../agent/agent-process.js';
import { backend } from './vif-seen.js';

/** Whose a file is, where a test says so: path → user. */
const owners = vi.hoisted(() => new Map<string, number>());
/** Of the command lines that were read as a whole. */
const longest = vi.hoisted(() => ({ bytes: 0 }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const lstat = async (path: string) => {
    const status = await real.lstat(path);
    return Object.assign(status, { uid: owners.get(path) ?? status.uid });
  };
  const readFile = async (...args: Parameters<typeof real.readFile>) => {
    const text = await real.readFile(...args);
    if (/^\/proc\/\d+\/cmdline$/.test(String(args[0]))) longest.bytes = Math.max(longest.bytes, text.length);
    return text;
  };
  return { ...real, lstat, readFile };
});
const MALLORY = 4711;

let dir: string;
let precious: string;
const at = (...names: string[]) => join(dir, ...names);
beforeEach(() => {
  owners.clear();
  dir = mkdtempSync(join(tmpdir(), 'vifd-files-'));
  precious = at('precious');
  writeFileSync(precious, 'as it was', { mode: 0o640 });
});
afterEach(() => {
  const text = readFileSync(precious, 'utf8');
  const { mode } = statSync(precious);
  rmSync(dir, { recursive: true });
  expect([text, mode & 0o777]).toEqual(['as it was', 0o640]);
});

function open(name: string, mode: number): string {
  mkdirSync(at(name));
  chmodSync(at(name), mode);
  return at(name);
}

const files = (readdirSync('src', { recursive: true }) as string[]).filter((file) => file.endsWith('.ts'));

test('these make, change or remove files, and no others: whoever adds one adds its defence', () => {
  const calls =
    /\b(writeFile|appendFile|mkdir|mkdtemp|symlink|link|rename|createWriteStream|copyFile|chown|truncate)(Sync)?\(/;
  const names = /from 'node:fs(?:\/promises)?'/;
  const code = (file: string) => readFileSync(join('src', file), 'utf8');
  const makes = files.filter(
    (file) => names.test(code(file)) && (calls.test(code(file)) || /O_CREAT|'mkfifo'/.test(code(file))),
  );
  expect(makes.sort()).toEqual([
    'monitor/recorder.ts', // O_EXCL, 0600
    'network/sysctl.ts', // below /proc/sys
    'service/pidfile.ts',
    'service/run-directory.ts',
    'service/script-requests.ts', // in the run directory
    'service/whole-file.ts',
    'simulator/host.ts', // mkdtemp
  ]);
});

describe('the way to a file', () => {
  test('of root and us alone is good, also below a directory such as /tmp', async () => {
    open('sticky', 0o1777);
    writeFileSync(at('sticky', 'file'), '');
    symlinkSync(at('sticky', 'file'), at('link'));
    expect([await faultOnWay(at('sticky', 'file')), await faultOnWay(at('link')), await faultOnWay('/bin/sh')]).toEqual(
      [undefined, undefined, undefined],
    );
    expect(await faultOnWay(at('none', 'such'))).toBeUndefined();
  });

  test('everybody may write a directory on it, be it behind links, or the file', async () => {
    mkdirSync(join(open('loose', 0o777), 'deep'));
    writeFileSync(at('loose', 'deep', 'file'), '');
    symlinkSync('../loose/deep', join(open('tight', 0o755), 'link'));
    symlinkSync('link', at('tight', 'link2'));
    const fault = { path: at('loose'), what: 'may be written by everybody', remedy: `chmod o-w ${at('loose')}` };
    for (const way of [at('loose', 'deep', 'file'), at('tight', 'link', 'file'), at('tight', 'link2', 'file')])
      expect(await faultOnWay(way)).toEqual(fault);
    chmodSync(precious, 0o666);
    expect(await faultOnWay(precious)).toMatchObject({ path: precious });
    chmodSync(precious, 0o640);
  });

  test.each(['dir', 'dir/file', 'link'])('%s is another user’s', async (whose) => {
    writeFileSync(join(open('dir', 0o755), 'file'), '');
    symlinkSync('dir/file', at('link'));
    owners.set(at(whose), MALLORY);
    const way = at(whose === 'link' ? 'link' : 'dir/file');
    expect(await faultOnWay(way)).toEqual({
      path: at(whose),
      what: 'belongs to user 4711',
      remedy: whose === 'dir' ? 'put it where root alone may write' : `chown root ${at(whose)}`, // it may be a home
    });
  });

  test('links in a circle', async () => {
    symlinkSync('a', at('b'));
    symlinkSync('b', at('a'));
    await expect(faultOnWay(at('a'))).rejects.toThrow('ELOOP');
  });
});

describe('a file that is written whole', () => {
  test('follows no link and writes into no file that is there, whatever the umask; nothing is left beside it', async () => {
    symlinkSync(precious, at('file'));
    linkSync(precious, at('file.new'));
    const umask = process.umask(0o077);
    await writeWhole(at('file'), 'text', 0o644).finally(() => process.umask(umask));
    expect([readFileSync(at('file'), 'utf8'), lstatSync(at('file')).mode]).toEqual(['text', 0o100644]);
    expect(existsSync(at('file.new'))).toBe(false);
  });

  test('while somebody puts links there as fast as possible', { timeout: 20_000 }, async () => {
    const loop = `while :; do ln -sf "$0" "$1"; ln -f "$0" "$1"; ln -sf "$0" "$2"; done`;
    const racer = spawn('sh', ['-c', loop, precious, at('file.new'), at('file')], { stdio: 'ignore' });
    onTestFinished(() => void racer.kill());
    let lost = 0;
    for (let i = 0; i < 500; i++) await writeWhole(at('file'), `text ${i}`, 0o644).catch(() => lost++);
    racer.kill();
    expect(lost).toBeGreaterThan(0); // it was a race; what was to stay is looked at after each test
  });
});

describe('the run directory', () => {
  test.each([
    [
      'below one that everybody may write',
      () => join(open('loose', 0o777), 'run'),
      /loose may be written by everybody, who could put another directory in place of/,
    ],
    [
      'behind another user’s link',
      () => {
        open('place', 0o755);
        symlinkSync('place', at('link'));
        owners.set(at('link'), MALLORY);
        return at('link', 'run');
      },
      /link belongs to user 4711, who could/,
    ],
    [
      'that is a link',
      () => {
        open('run', 0o700);
        symlinkSync('run', at('link'));
        return at('link');
      },
      /link is a symbolic link, not a directory; remove it, or name another in VIFD_RUN_DIR$/,
    ],
    [
      'that is a link to nothing',
      () => {
        symlinkSync('nothing', at('link'));
        return at('link');
      },
      /link is a symbolic link, not a directory; remove it, or name another in VIFD_RUN_DIR$/,
    ],
    [
      'that is a file',
      () => {
        writeFileSync(at('file'), '', { mode: 0o600 });
        return at('file');
      },
      /file is no directory; remove it, or name another in VIFD_RUN_DIR$/,
    ],
    [
      'that was open to others, who have put something there',
      () => {
        writeFileSync(join(open('run', 0o700), 'reader'), '');
        owners.set(at('run', 'reader'), MALLORY);
        return at('run');
      },
      /run\/reader" belongs to user 4711, not to the one that runs vifd; remove it$/,
    ],
  ])('%s', async (_, prepare, sentence) => {
    await expect(ensureRunDirectory(prepare())).rejects.toMatchObject({
      code: 'EINSECURE',
      message: expect.stringMatching(sentence),
    });
  });

  test('is made with all above it, by several at once; where none can be made that is said', async () => {
    const dir = at('a', 'b', 'run');
    await Promise.all([ensureRunDirectory(dir), ensureRunDirectory(dir)]);
    expect(lstatSync(dir).mode).toBe(0o40700);
    await expect(ensureRunDirectory('/proc/none/run')).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringMatching(/^\/proc\/none\/run cannot be made \(ENOENT\); make it/),
    });
  });

  test('holds whatever was there before: links, files and directories under all its names are replaced', async () => {
    const run = open('run', 0o700);
    for (const name of ['reader', 'reader.new', 'requests']) symlinkSync(precious, join(run, name));
    const warnings: string[] = [];
    const log = pino({ base: null }, { write: (line: string) => void warnings.push(line) });
    const requests = await ScriptRequests.open({ dir: run, log, answer: async () => ({ is: 'unavailable' }) });
    expect(warnings).toEqual([]);
    expect([lstatSync(join(run, 'reader')).mode, lstatSync(join(run, 'requests')).mode]).toEqual([0o100600, 0o10600]);
    await requests?.close();
  });

  test('an answer goes into no file and through no link', async () => {
    const run = open('run', 0o700);
    const log = pino({ base: null }, { write: () => undefined });
    const requests = await ScriptRequests.open({
      dir: run,
      log,
      answer: async () => ({ is: 'failed', sentence: 'x' }),
    });
    symlinkSync(precious, join(run, 'reply.1'));
    linkSync(precious, join(run, 'reply.2'));
    spawnSync('mkfifo', [at('fifo')]);
    const other = openSync(at('fifo'), constants.O_RDWR | constants.O_NONBLOCK);
    onTestFinished(() => closeSync(other));
    symlinkSync(at('fifo'), join(run, 'reply.3'));
    writeFileSync(join(run, 'requests'), 'online 5/0 1\nonline 5/0 3\nonline 5/0 2\n');
    await eventually(() => !existsSync(join(run, 'reply.2')));
    expect(() => readSync(other, Buffer.alloc(10))).toThrow('EAGAIN');
    await requests?.close();
  });
});

describe('the state directory', () => {
  test.each([
    ['open to its group', () => open('state', 0o775), /nobody else may write there$/],
    [
      'a link',
      () => {
        symlinkSync('.', at('state'));
        return at('state');
      },
      /state is a symbolic link, not a directory; remove it, or name another in VIFD_STATE_DIR$/,
    ],
    [
      'below one that everybody may write',
      () => join(open('loose', 0o777), 'state'),
      /loose may be written by everybody/,
    ],
  ])('%s', async (_, prepare, sentence) => {
    await expect(ensureStateDirectory(prepare())).rejects.toMatchObject({
      code: 'EINSECURE',
      message: expect.stringMatching(sentence),
    });
  });

  test('what dnsmasq reads and writes is made anew, whatever was there', async () => {
    const bin = open('bin', 0o755);
    writeFileSync(join(bin, 'dnsmasq'), '#!/bin/sh\necho "dnsmasq[1]: started, x" >&2\nexec sleep 60\n', {
      mode: 0o755,
    });
    vi.stubEnv('PATH', `${bin}:${process.env.PATH}`);
    onTestFinished(() => void vi.unstubAllEnvs());
    const state = open('state', 0o755);
    const seen: string[] = [];
    const log = pino({ base: null, level: 'debug' }, { write: (line: string) => void seen.push(JSON.parse(line).msg) });
    const server = new DhcpServer(state, log);
    const { pid: _, ...own } = filesIn(state);
    writeFileSync(at('empty'), '');
    for (const file of Object.values(own)) symlinkSync(file === own.leases ? at('empty') : precious, file);
    const want = resolveAttachment(backend({}), { vif: { mode: 'nat', dhcp: true }, rules: [] });
    server.serve({ domid: 5, devid: 0 }, want, [{ family: 'ipv4', address: '10.0.5.128', length: 32 }]);
    await eventually(
      () => seen.some((line) => line.startsWith('dnsmasq answers')),
      5_000,
      () => seen.join('\n'),
    );
    expect(Object.values(own).map((file) => lstatSync(file).mode)).toEqual([0o100644, 0o100644, 0o100644, 0o100644]);
    await server.stop();
  });
});

describe('the pid file', () => {
  test('nobody else can open it, and so lock it, nor one that was open to others before', async () => {
    for (const prepare of [() => undefined, () => writeFileSync(at('pid'), '1\n', { mode: 0o666 })]) {
      prepare();
      const pidfile = await Pidfile.take(at('pid'));
      expect(statSync(at('pid')).mode & 0o777).toBe(0o600);
      await pidfile.release();
    }
  });

  test('a second name of another file is refused and not written', async () => {
    writeFileSync(at('number'), '1234567\n', { mode: 0o644 });
    linkSync(at('number'), at('pid'));
    await expect(Pidfile.take(at('pid'))).rejects.toThrow('is there and is no pid file; remove it');
    expect([readFileSync(at('number'), 'utf8'), statSync(at('number')).mode & 0o777]).toEqual(['1234567\n', 0o644]);
  });

  test('another user’s is refused', async () => {
    writeFileSync(at('pid'), '');
    vi.spyOn(process, 'geteuid').mockReturnValue(MALLORY);
    onTestFinished(() => void vi.restoreAllMocks());
    await expect(Pidfile.take(at('pid'))).rejects.toThrow(
      /^the pid file \S+ belongs to user \d+, who could change it; remove it$/,
    );
  });

  test.skipIf(process.geteuid?.() !== 0)('an ordinary user who asks the init script hears that only root knows', () => {
    chmodSync(dir, 0o755);
    writeFileSync(at('pid'), '1\n', { mode: 0o600 });
    const status = 'exec setpriv --reuid=65534 --regid=65534 --clear-groups sh "$0" status';
    const env = { ...process.env, VIFD: '/bin/sh', VIFD_PIDFILE: at('pid'), VIFD_ROOT: dir, VIFD_LIB: at('lib') };
    mkdirSync(at('lib'));
    writeFileSync(at('lib', 'domain-check.sh'), 'vifd_is_wanted() { :; }\n');
    writeFileSync(at('sysv'), readFileSync('scripts/service/vifd.sysv'), { mode: 0o644 });
    const result = spawnSync('sh', ['-c', status, at('sysv')], { encoding: 'utf8', env });
    expect([result.stderr, result.status]).toEqual([`only root may read ${at('pid')}\n`, 4]);
  });
});

test('a record is never written into what is there, nor through a link', () => {
  symlinkSync(precious, at('link'));
  symlinkSync(at('nowhere'), at('dangling'));
  for (const name of ['precious', 'link', 'dangling'])
    expect(() => Recorder.create(at(name), '1', 1_000, () => undefined)).toThrow(
      'is there already and is not overwritten',
    );
  Recorder.create(at('record'), '1', 1_000, () => undefined).close();
  expect(statSync(at('record')).mode & 0o777).toBe(0o600);
});

describe('the configuration', () => {
  const load = () => loadConfig(undefined, dir);
  test('that others can change is not read, and each fault says what to do', async () => {
    writeFileSync(at('vifd.toml'), '[vif]\nqlen = 7\n', { mode: 0o644 });
    expect((await load()).config.vif.qlen).toBe(7);
    chmodSync(at('vifd.toml'), 0o666);
    await expect(load()).rejects.toThrow(
      `${at('vifd.toml')}: cannot be trusted: it may be written by everybody (chmod o-w ${at('vifd.toml')}); expected a file that only root or the user that runs vifd can change`,
    );
    chmodSync(at('vifd.toml'), 0o644);
    writeFileSync(join(open('vifd.d', 0o755), 'a.toml'), '');
    owners.set(at('vifd.d', 'a.toml'), MALLORY);
    await expect(load()).rejects.toThrow('a.toml: cannot be trusted: it belongs to user 4711 (chown root ');
    owners.clear();
    chmodSync(at('vifd.d'), 0o777);
    await expect(load()).rejects.toThrow(`vifd.d may be written by everybody (chmod o-w ${at('vifd.d')})`);
  });

  test('may be anybody’s where it is only looked at', async () => {
    writeFileSync(at('draft.toml'), '[vif]\nqlen = 7\n');
    owners.set(at('draft.toml'), MALLORY);
    await expect(loadConfig(at('draft.toml'))).rejects.toThrow('cannot be trusted');
    expect((await lookAtConfig(at('draft.toml'))).config.vif.qlen).toBe(7);
  });

  test('a running agent keeps the one it has', async () => {
    const file = at('x.toml');
    writeFileSync(file, '[vif]\nqlen = 7\n', { mode: 0o644 });
    const errors: string[] = [];
    const live = await LiveConfig.load(file, pino({ base: null }, { write: (line: string) => void errors.push(line) }));
    writeFileSync(file, '[vif]\nqlen = 8\n');
    chmodSync(file, 0o666);
    await live.reload();
    expect([live.current.vif.qlen, errors.join()]).toEqual([7, expect.stringContaining('cannot be trusted')]);
  });
});

describe('a script or hook', () => {
  const run = (file: string) =>
    new Programs().run({ name: 'hook x', file, args: [], env: {}, timeoutMs: 5_000 }, () => undefined).ended;

  test('whose directory others can write is not run, nor root’s own program by another’s link', async () => {
    const root = statSync('/bin/sh').uid === 0;
    expect(root).toBe(true);
    symlinkSync('/bin/true', join(open('loose', 0o777), 'x'));
    await expect(run(at('loose', 'x'))).rejects.toMatchObject({
      code: 'ESCRIPTFILE',
      message: 'hook x cannot be used: its file could be exchanged by others',
      hint: `"${at('loose')}" may be written by everybody; chown or chmod that: "${at('loose', 'x')}"`,
    } satisfies Partial<AttachError>);
    renameSync(at('loose', 'x'), at('x'));
    owners.set(at('x'), MALLORY);
    await expect(run(at('x'))).rejects.toMatchObject({ hint: expect.stringContaining('belongs to user 4711') });
    owners.clear();
    await run(at('x'));
  });
});

test('a process with megabytes of arguments is known by their beginning', async () => {
  writeFileSync(at('vifd'), 'console.log("is here"); setInterval(() => 0, 1_000)');
  const words = [at('vifd'), 'run', ...Array.from({ length: 12 }, () => 'x'.repeat(100_000))];
  const other = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void other.kill());
  await once(other.stdout, 'data');
  expect(await findPrograms()).toContainEqual({ pid: other.pid, command: 'vifd run' });
  expect(longest.bytes).toBeLessThan(10_000);
});
