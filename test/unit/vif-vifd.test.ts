/** scripts/vif-vifd against the contract of Xen's vif-bridge, with stand-ins for the daemon and for `vifd`. */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const SCRIPT = resolve('scripts/vif-vifd');
type Env = Record<string, string | undefined>;
/**
 * Arguments and whole environment that the real callers gave, but for what their own starter gave them: recorded by
 * test/xen/script-scenarios.ts on Xen 4.17.7, Linux 6.1 and systemd-udevd 252 of Debian 12. A run there compares them again.
 */
const recorded = (caller: string): { args: string; env: Env }[] =>
  JSON.parse(readFileSync(`test/unit/fixtures/vif-script-xen-4.17-${caller}.json`, 'utf8'));
const LIBXL = recorded('libxl')[0]?.env ?? {};
const UDEV = recorded('udev')[0]?.env ?? {};

let dir: string;
const file = (name: string) => join(dir, name);
const read = (name: string) => (existsSync(file(name)) ? readFileSync(file(name), 'utf8') : undefined);

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-script-'));
  mkdirSync(file('scripts'));
  symlinkSync(SCRIPT, file('scripts/vif-vifd'));
  answer('done vif5.0 br0 10.0.0.5 10.0.0.6');
});
afterEach(() => rmSync(dir, { recursive: true }));

function program(name: string, text: string): void {
  writeFileSync(file(name), text);
  chmodSync(file(name), 0o755);
}

/** What `vifd vif-script` says; it notes its arguments. */
function answer(line: string, code = 0): void {
  program('vifd', `#!/bin/sh\nprintf '%s\\n' "$@" >${file('asked')}\necho '${line}'\nexit ${code}\n`);
}

function run(args: string[], env: Env = LIBXL, shell: string[] = []) {
  const [command = '', ...rest] = [...shell, file('scripts/vif-vifd'), ...args];
  const result = spawnSync(command, rest, {
    env: { VIFD: file('vifd'), VIFD_RUN_DIR: file('run'), ...env },
    encoding: 'utf8',
    timeout: 15_000,
  });
  return { code: result.status, stderr: result.stderr, asked: read('asked')?.split('\n').slice(0, -1) };
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

const ONLINE = ['vif-script', 'online', 'backend/vif/5/0'];

describe.each(['libxl', 'devd', 'udev'])('as the real %s calls it', (caller) => {
  const calls = recorded(caller);
  test('first online, then offline', () =>
    expect(calls.map(({ args }) => args)).toEqual(['online type_if=vif', 'offline type_if=vif']));
  test.each(calls)('$args', ({ args, env }) => {
    const words = args.split(' ');
    expect(run(words, env)).toEqual({ code: 0, stderr: '', asked: ['vif-script', words[0], 'backend/vif/5/0'] });
  });
});

describe.each<[string, string[], Env, { code: number; asked?: string[]; says?: RegExp }]>([
  ['xend: no type_if', ['online'], {}, { code: 0, asked: ONLINE }],
  ['words in any order', ['type_if=vif', 'online'], {}, { code: 0, asked: ONLINE }],
  ['the first command counts', ['online', 'offline'], {}, { code: 0, asked: ONLINE }],
  ['type_if from the environment', ['online'], { type_if: 'tap' }, { code: 0 }],
  ['an argument before the environment', ['online', 'type_if=vif'], { type_if: 'tap' }, { code: 0, asked: ONLINE }],
  [
    'the vif as arguments',
    ['online', 'vif=vif5.0', 'XENBUS_PATH=backend/vif/5/0'],
    { vif: undefined, XENBUS_PATH: undefined },
    { code: 0, asked: ONLINE },
  ],
  ['bridge as argument', ['online', 'bridge=br7'], { bridge: 'br8' }, { code: 0, asked: [...ONLINE, '--bridge=br7'] }],
  ['bridge in the environment', ['online'], { bridge: 'br8' }, { code: 0, asked: [...ONLINE, '--bridge=br8'] }],
  ['other variables', ['online', 'PATH=/nowhere', 'dev=x', '=y'], {}, { code: 0, asked: ONLINE }],
  ['tap', ['add', 'type_if=tap'], { INTERFACE: 'vif5.0-emu' }, { code: 0 }],
  ['tap', ['remove', 'type_if=tap'], { INTERFACE: 'vif5.0-emu' }, { code: 0 }],
  ['add of a vif', ['add', 'type_if=vif'], {}, { code: 0 }],
  ['remove of a vif', ['remove'], {}, { code: 0 }],
  ['online of a tap', ['online', 'type_if=tap'], { INTERFACE: 'vif5.0-emu' }, { code: 0 }],
  ['no command', [], {}, { code: 1, says: /the command is not set; expected online, offline, add or remove/ }],
  ['another command', ['move'], {}, { code: 1, says: /the command is "move"/ }],
  ['another type', ['online', 'type_if=vbd'], {}, { code: 1, says: /type_if is "vbd"; expected vif or tap/ }],
  ['no XENBUS_PATH', ['online'], { XENBUS_PATH: undefined }, { code: 1, says: /XENBUS_PATH is not set/ }],
  ['no vif', ['online'], { vif: undefined }, { code: 1, says: /vif is not set/ }],
])('%s: %j %j', (_, args, env, { code, asked, says }) => {
  test('', () => {
    const result = run(args, { ...LIBXL, ...env });
    expect(result.stderr).toMatch(says ?? /^$/);
    expect(result).toMatchObject({ code, asked });
  });
});

describe('hostile values', () => {
  const canary = '$(touch canary)`touch canary`;touch canary\ntouch canary\u001b[2J';

  test.each(['XENBUS_PATH', 'vif', 'bridge', 'ip', 'type_if', 'script', 'netdev', 'command', 'answer', 'key'])(
    '%s is never run, and never reaches the terminal',
    (name) => {
      for (const { stderr } of [run(['online'], { ...LIBXL, [name]: canary }), run(['online', `${name}=${canary}`])]) {
        expect(existsSync('canary')).toBe(false);
        expect(stderr).not.toContain('\u001b');
      }
    },
  );

  test.each([
    'backend/vif/5/0/',
    'backend/vif/5/0/../1',
    'backend/vif/05/0',
    'backend/vif/5',
    'backend/vif/5/',
    'backend/vif//0',
    'backend/vif/1234567/0',
    'backend/vif/5/0 1',
    'backend/vif/5/0\n1',
    'backend/vif/*/0',
    'backend/vbd/5/0',
    '/local/domain/3/backend/vif/5/0',
    '5/0',
    '-rf',
  ])('XENBUS_PATH %j is refused', (path) => {
    const { code, stderr, asked } = run(['online'], { ...LIBXL, XENBUS_PATH: path });
    expect([code, asked]).toEqual([1, undefined]);
    expect(stderr).toMatch(/^vif-vifd: XENBUS_PATH is .*; expected backend\/vif\/DOMID\/DEVID/);
  });

  test('a bridge stays one word', () => {
    expect(run(['online'], { ...LIBXL, bridge: '* --config=x' }).asked).toEqual([...ONLINE, '--bridge=* --config=x']);
  });
});

test('from udev, whose programs may make no code executable, Node runs without its compiler', () => {
  program('vifd', `#!/bin/sh\necho "$NODE_OPTIONS" >${file('asked')}\necho done - -\n`);
  expect(run(['online'], UDEV).asked).toEqual(['--jitless']);
  expect(run(['online']).asked).toEqual(['']);
});

describe('the outcome', () => {
  test('a failure is told with its sentence and exit code 1', () => {
    answer('failed bridge "br9" does not exist', 1);
    expect(run(['online'])).toMatchObject({
      code: 1,
      stderr: 'vif-vifd: backend/vif/5/0: bridge "br9" does not exist\n',
    });
  });

  test('a program without a word', () => {
    answer('', 3);
    expect(run(['online'])).toMatchObject({
      code: 1,
      stderr: 'vif-vifd: vifd vif-script online backend/vif/5/0 failed\n',
    });
  });

  test('no program at all', () => {
    const { code, stderr } = run(['online'], { ...LIBXL, VIFD: '/nowhere/vifd' });
    expect(code).toBe(1);
    expect(stderr).toMatch(/no vifd runs, and the program \/nowhere\/vifd is not in .*; install vifd or set VIFD/);
  });
});

describe('hooks of vif-post.d', () => {
  const hook = (name: string, text: string, mode = 0o755) => {
    mkdirSync(file('scripts/vif-post.d'), { recursive: true });
    writeFileSync(file(`scripts/vif-post.d/${name}`), text);
    chmodSync(file(`scripts/vif-post.d/${name}`), mode);
  };
  const note = () => `echo "$command|$type_if|$dev|$bridge|$ip|$main_ip|$XENBUS_PATH" >>${file('noted')}`;

  test.each(['online', 'offline'])('%s: those that may be executed, with the variables of vif-bridge', (command) => {
    hook('10-a.hook', note());
    hook('20-b.hook', note(), 0o644);
    hook('30-c', note());
    expect(run([command]).code).toBe(0);
    expect(read('noted')).toBe(`${command}|vif|vif5.0|br0|10.0.0.5 10.0.0.6||backend/vif/5/0\n`);
  });

  test('what is not known comes from the caller', () => {
    answer('done - -');
    hook('a.hook', note());
    run(['offline', 'ip=10.0.0.7'], { ...LIBXL, bridge: 'br8' });
    expect(read('noted')).toBe('offline|vif|vif5.0|br8|10.0.0.7||backend/vif/5/0\n');
  });

  test('values are no program', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's, were it to see it
    answer('done $(touch${IFS}canary) *');
    hook('a.hook', `cd ${dir}; ${note()}`);
    run(['online']);
    expect(read('noted')).toMatch(/^online\|vif\|\$\(touch\$\{IFS\}canary\)\|\*\|/);
    expect(read('canary')).toBeUndefined();
  });

  test('files they make may be read as ever', () => {
    hook('a.hook', `umask >${file('noted')}`);
    expect(run(['online'], LIBXL, ['sh', '-c', 'umask 022; exec "$@"', 'sh']).code).toBe(0);
    expect(read('noted')).toBe('0022\n');
  });

  test('one that fails makes the script fail', () => {
    hook('a.hook', 'false\ntrue');
    const { code, stderr } = run(['online']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/a\.hook failed after online of "vif5\.0"/);
  });

  test('its failure puts no hostile name on the terminal', () => {
    answer('done - -');
    hook('a.hook', 'false');
    const { code, stderr } = run(['online'], { ...LIBXL, vif: 'vif\u001b[2J' });
    expect(code).toBe(1);
    expect(stderr).toMatch(/a\.hook failed after online of not printable here/);
  });

  test('not after a failure', () => {
    hook('a.hook', note());
    answer('failed x', 1);
    run(['online']);
    expect(read('noted')).toBeUndefined();
  });
});

const SHELLS = [
  ['bash', '--posix'],
  ['busybox', 'sh'],
] as const;

describe('the daemon', () => {
  /** A process that can be named in `reader`; it holds the FIFO and does what `work` says with each line in $line. */
  async function daemon(work: string) {
    mkdirSync(file('run'), { mode: 0o700 });
    spawnSync('mkfifo', [file('run/requests')]);
    program(
      'daemon',
      `#!/bin/sh\ncd ${file('run')}\nexec 3<>requests\necho ready\nwhile read -r line <&3; do ${work}; done\n`,
    );
    const child = spawn(file('daemon'), { stdio: ['ignore', 'pipe', 'ignore'] });
    await new Promise((ready) => child.stdout.once('data', ready));
    const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8');
    const began = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    writeFileSync(file('run/reader'), `${child.pid} ${began}\n`);
    return child;
  }
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
  const REPLY = 'echo "$line" >>../heard; echo "done vif5.0 br0" >"reply.${line##* }"; rm "reply.${line##* }"';

  test('is asked, and the program is not', async () => {
    const child = await daemon(REPLY);
    expect(run(['online'])).toMatchObject({ code: 0, stderr: '', asked: undefined });
    expect(read('heard')).toMatch(/^online 5\/0 [0-9]+\n$/);
    expect(run(['online'], UDEV)).toMatchObject({ code: 0, asked: undefined });
    expect(read('heard')?.split('\n')).toHaveLength(2); // udev's event was none for it
    child.kill('SIGKILL');
  });

  test.for(SHELLS)('%s runs the script as well, by both ways', async ([name, option], { skip }) => {
    if (spawnSync(name, ['--help'], { stdio: 'ignore' }).error !== undefined) skip(`${name} is not installed`);
    expect(run(['online'], LIBXL, [name, option])).toMatchObject({ code: 0, asked: ONLINE, stderr: '' });
    rmSync(file('asked'));
    const child = await daemon(REPLY);
    expect(run(['online'], LIBXL, [name, option])).toMatchObject({ code: 0, asked: undefined, stderr: '' });
    child.kill('SIGKILL');
  });

  test('that cannot do it now: the program does', async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
    const child = await daemon('echo unavailable >"reply.${line##* }"');
    expect(run(['online'])).toMatchObject({ code: 0, asked: ONLINE });
    child.kill('SIGKILL');
  });

  test('that has put a link to a file of root’s there: it is not written to', async () => {
    const child = await daemon(REPLY);
    writeFileSync(file('passwd'), 'root:x:0:0\n');
    rmSync(file('run/requests'));
    symlinkSync(file('passwd'), file('run/requests'));
    expect(run(['online'])).toMatchObject({ code: 0, asked: ONLINE });
    expect(read('passwd')).toBe('root:x:0:0\n');
    child.kill('SIGKILL');
  });

  /** The script's own is fixed; so a copy of it. */
  function replacePath(path: string): void {
    mkdirSync(file('bin'));
    const script = readFileSync(SCRIPT, 'utf8').replace(/^PATH=.*/m, `PATH=${path}`);
    rmSync(file('scripts/vif-vifd'));
    program('scripts/vif-vifd', script);
  }
  function replaceMkfifo(work: string): void {
    replacePath(`${file('bin')}:/usr/bin:/bin`);
    program('bin/mkfifo', `#!/bin/sh\n${work}\n`);
  }

  const notRoot =
    process.getuid?.() === 0 && spawnSync('setpriv', ['--version']).status === 0
      ? undefined
      : 'skipped: needs root and setpriv';
  describe.skipIf(notRoot !== undefined)(notRoot ?? 'of another user, as root calls', () => {
    /** The directory and its daemon are nobody's, who may go through all others. */
    async function nobodysDaemon(work: string) {
      for (const path of [dir, file('scripts')]) chmodSync(path, 0o755);
      const child = await daemon(work);
      for (const name of ['run', 'run/requests', 'run/reader']) chownSync(file(name), 65534, 65534);
      return child;
    }

    test('is asked, by libxl and by udev', async () => {
      const child = await nobodysDaemon(REPLY);
      expect(run(['online'])).toMatchObject({ code: 0, stderr: '', asked: undefined });
      expect(run(['online'], UDEV)).toMatchObject({ code: 0, stderr: '', asked: undefined });
      expect(read('heard')?.split('\n')).toHaveLength(2);
      child.kill('SIGKILL');
    });

    test('that puts a link where the reply’s FIFO is to be: root makes nothing there', async () => {
      const child = await nobodysDaemon(REPLY);
      replaceMkfifo(`ln -s ${file('made')} "$3"`);
      const outcome = run(['online']);
      expect(existsSync(file('made'))).toBe(false);
      expect(outcome).toMatchObject({ code: 0, stderr: '', asked: ONLINE });
      expect(read('heard')).toBeUndefined();
      child.kill('SIGKILL');
    });

    test('that names as its process what only root may read: nothing of root’s is opened', async () => {
      const child = await nobodysDaemon(REPLY);
      const [pid, began] = read('run/reader')?.split(' ') ?? [];
      writeFileSync(file('secret'), `${pid} ${began}`, { mode: 0o600 });
      rmSync(file('run/reader'));
      symlinkSync(file('secret'), file('run/reader'));
      expect(run(['online'])).toMatchObject({ code: 0, asked: ONLINE });
      child.kill('SIGKILL');
    });

    test('without setpriv: a sentence, and the program does it', async () => {
      const child = await nobodysDaemon(REPLY);
      replacePath(file('bin'));
      for (const name of ['sh', 'stat']) symlinkSync(`/bin/${name}`, file(`bin/${name}`));
      const { code, stderr, asked } = run(['online']);
      expect([code, asked]).toEqual([0, ONLINE]);
      expect(stderr).toBe(
        `vif-vifd: ${file('run')} is another user's, and setpriv is missing to ask vifd there; install util-linux\n`,
      );
      child.kill('SIGKILL');
    });

    test('that hangs: told within dom0’s 10 s', async () => {
      const child = await nobodysDaemon(':');
      const { code, stderr, asked } = run(['online']);
      expect([code, asked]).toEqual([1, undefined]);
      expect(stderr).toBe(`vif-vifd: backend/vif/5/0: vifd (pid ${child.pid}) runs but does not answer; see its log\n`);
      child.kill('SIGKILL');
    });
  });

  test('whose directory goes with it: the program does it', async () => {
    const child = await daemon(REPLY);
    replaceMkfifo(`rm -rf ${file('run')}`);
    expect(run(['online'])).toMatchObject({ code: 0, asked: ONLINE });
    child.kill('SIGKILL');
  });

  test('killed before: the program does it, at once', async () => {
    const child = await daemon(REPLY);
    child.kill('SIGKILL');
    await new Promise((ended) => child.once('close', ended));
    const startedAt = performance.now();
    expect(run(['online'])).toMatchObject({ code: 0, asked: ONLINE });
    expect(performance.now() - startedAt).toBeLessThan(900);
  });

  test('killed, its id used by another process: the program does it', async () => {
    const child = await daemon(REPLY);
    writeFileSync(file('run/reader'), `${child.pid} 1\n`);
    expect(run(['online'])).toMatchObject({ code: 0, asked: ONLINE });
    child.kill('SIGKILL');
  });

  test('killed with the request in its hands: the program does it, within two seconds', async () => {
    const child = await daemon('kill -KILL $$');
    const startedAt = performance.now();
    expect(run(['online'])).toMatchObject({ code: 0, asked: ONLINE });
    expect(performance.now() - startedAt).toBeLessThan(2_500);
    expect(existsSync(file(`run/reply.${child.pid}`))).toBe(false);
  });

  test('that hangs: told within dom0’s 10 s', async () => {
    const child = await daemon(':');
    const startedAt = performance.now();
    const { code, stderr, asked } = run(['online']);
    expect(performance.now() - startedAt).toBeLessThan(9_500);
    expect([code, asked]).toEqual([1, undefined]);
    expect(stderr).toBe(`vif-vifd: backend/vif/5/0: vifd (pid ${child.pid}) runs but does not answer; see its log\n`);
    child.kill('SIGKILL');
  });

  test('a script that xl kills leaves nothing that runs', async () => {
    const child = await daemon(':');
    const env = { ...LIBXL, VIFD_RUN_DIR: file('run') };
    const script = spawn(file('scripts/vif-vifd'), ['online'], { env, stdio: 'ignore' });
    const running = () => readdirSync('/proc').filter((pid) => commandLine(pid).includes(file('scripts/vif-vifd')));
    // While it starts others there is one more for a moment, before exec.
    const until = async (count: number) => {
      let times = 0;
      for (let i = 0; i < 400 && times < 3; i++) {
        times = running().length === count ? times + 1 : 0;
        await sleep(30);
      }
      expect(times).toBe(3);
    };
    await until(2);
    script.kill('SIGKILL');
    await until(0);
    child.kill('SIGKILL');
  });

  test.each(['pid', '', '1', '12 x', '* *', '99999999 1'])('a reader file with %j: the program does it', (text) => {
    mkdirSync(file('run'));
    writeFileSync(file('run/reader'), text);
    expect(run(['online'])).toMatchObject({ code: 0, asked: ONLINE, stderr: '' });
  });
});

const shellcheck = spawnSync('shellcheck', ['--version']).error === undefined;
test.skipIf(!shellcheck)(
  `shellcheck has nothing to say${shellcheck ? '' : ' (skipped: shellcheck is not installed)'}`,
  () => {
    expect(spawnSync('shellcheck', [SCRIPT], { encoding: 'utf8' }).stdout).toBe('');
  },
);
