/**
 * The scripts for SysV init and OpenRC on a root of their own, with a shell script in the place of vifd. That vifd itself runs
 * under the SysV script is in test/agent/service.test.ts; a real OpenRC is tried by hand.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vifd-init-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, content: string, mode = 0o644): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content, { mode });
}
const inDomain = () => put('dev/xen/xenbus', '');

function sh(words: string[], env: Record<string, string> = {}): [string, number | null] {
  const { stdout, stderr, status } = spawnSync('sh', words, {
    encoding: 'utf8',
    timeout: 15_000,
    env: { ...process.env, VIFD_ROOT: root, VIFD_LIB: resolve('scripts/service'), ...env },
  });
  return [stdout + stderr, status];
}

describe('SysV', () => {
  const pidfile = () => join(root, 'vifd.pid');
  const log = () => readFileSync(join(root, 'vifd.log'), 'utf8');
  const init = (word: string, args = '', file = 'vifd.pid') =>
    sh(['scripts/service/vifd.sysv', word], {
      VIFD: join(root, 'vifd'),
      VIFD_PIDFILE: join(root, file),
      VIFD_LOG: join(root, 'vifd.log'),
      VIFD_ARGS: args,
    });

  beforeEach(() =>
    put(
      'vifd',
      `#!/bin/sh
echo "called: $*"
case "$*" in *--fails*) echo "vifd: no good" >&2; exit 4 ;; esac
trap 'rm "$3"; exit 0' TERM
trap 'echo hup' HUP
case "$*" in *--stays*) trap '' TERM ;; esac
echo $$ >"$3"
while :; do sleep 0.1; done
`,
      0o755,
    ),
  );
  afterEach(() => void init('stop'));

  test('start, start again, reload, restart, stop, stop again', () => {
    inDomain();
    expect(init('status')).toEqual(['vifd is not running\n', 3]);
    expect(init('reload')).toEqual(['vifd is not running\n', 7]);
    expect(init('start', '--log-level debug')).toEqual(['', 0]);
    const pid = readFileSync(pidfile(), 'utf8').trim();
    expect(init('start')).toEqual([`vifd is running already (process ${pid})\n`, 0]);
    expect(init('force-reload')).toEqual(['', 0]);
    expect(init('restart')).toEqual(['', 0]);
    expect(readFileSync(pidfile(), 'utf8').trim()).not.toBe(pid);
    expect(init('stop')).toEqual(['', 0]);
    expect(init('stop')).toEqual(['', 0]);
    expect(existsSync(pidfile())).toBe(false);
    const called = `called: run --pidfile ${pidfile()}`;
    expect(log()).toBe(`${called} --log-level debug\nhup\n${called}\n`);
  });

  test('a pid file that names another program by now is no vifd, and that program is left alone', () => {
    inDomain();
    put('vifd.pid', `${process.pid}\n`);
    expect(init('status')).toEqual(['vifd is not running\n', 3]);
    expect(init('stop')).toEqual(['', 0]);
    expect(init('start')).toEqual(['', 0]);
    expect(readFileSync(pidfile(), 'utf8')).not.toBe(`${process.pid}\n`);
  });

  test('one that ends at once is a failure, and the log has the reason', () => {
    inDomain();
    expect(init('start', '--fails')).toEqual([`vifd has not started; see ${root}/vifd.log\n`, 1]);
    expect(log()).toContain('vifd: no good\n');
  });

  test('where no pid file can be written vifd is found all the same, and nothing else', () => {
    inDomain();
    const where = 'none/vifd.pid'; // there is no such directory
    const [said, status] = init('start', '', where);
    expect(status).toBe(0);
    const pid = Number(/^vifd runs \(process (\d+)\), but without its pid file \S+; see \S+$/m.exec(said)?.[1]);
    expect(init('status', '', where)).toEqual([`vifd is running (process ${pid})\n`, 0]);
    expect(init('status')).toEqual(['vifd is not running\n', 3]); // that of another pid file
    expect(init('start', '', where)).toEqual([`vifd is running already (process ${pid})\n`, 0]);
    expect(init('reload', '', where)).toEqual(['', 0]);
    expect(init('stop', '', where)).toEqual(['', 0]);
    expect(existsSync(`/proc/${pid}/cmdline`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toBeFalsy();
    expect(init('status', '', where)).toEqual(['vifd is not running\n', 3]);
  });

  test('one that does not end when asked to is ended', () => {
    inDomain();
    init('start', '--stays');
    const pid = Number(readFileSync(pidfile(), 'utf8'));
    expect(init('stop')).toEqual(['', 0]);
    expect(existsSync(pidfile())).toBe(false);
    const state = () => (existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : 'gone');
    return vi.waitFor(() => expect(state()).toMatch(/^gone$|\) Z /)); // a container's init may not bury it
  });

  test.each<[string, () => void]>([
    ['where there is no Xen', () => {}],
    [
      'in dom0',
      () => {
        inDomain();
        put('proc/xen/capabilities', 'control_d\n');
      },
    ],
  ])('%s it is silent and a success', (_, place) => {
    place();
    for (const word of ['start', 'restart', 'reload', 'status', 'stop']) expect(init(word)).toEqual(['', 0]);
    expect(existsSync(join(root, 'vifd.log'))).toBe(false);
  });

  test('anything else is wrong usage', () => {
    inDomain();
    expect(init('begin')).toEqual([
      'usage: scripts/service/vifd.sysv {start|stop|restart|reload|force-reload|status}\n',
      2,
    ]);
  });
});

describe('OpenRC', () => {
  /** Reads the script and calls its functions, as openrc-run does; the programs of OpenRC only say that they are called. */
  const openrc = (calls: string, settings = '') =>
    sh([
      '-c',
      `say() { echo "$*"; }
for name in einfo ebegin eend modprobe need use after; do eval "$name() { say $name \\"\\$@\\"; }"; done
supervise() { say supervise-daemon "$@"; }
alias supervise-daemon=supervise
RC_SVCNAME=vifd ${settings}
. scripts/service/vifd.openrc
${calls}`,
    ]);

  test('runs vifd in the foreground under the supervisor, with the settings', () => {
    const [text] = openrc('echo "$supervisor $command $command_args"', 'VIFD_ARGS="--log-level debug"');
    expect(text).toBe('supervise-daemon /usr/bin/vifd run --log-format json --log-level debug\n');
  });

  test.each([
    ['as the systemd unit has it', '', '-500'],
    ['or as the admin has it', 'SSD_OOM_SCORE_ADJ=-900', '-900'],
  ])('the kernel’s OOM score: %s', (_, settings, score) => {
    expect(openrc('env', settings)[0].split('\n')).toContain(`SSD_OOM_SCORE_ADJ=${score}`);
  });

  test('loads netback where it has something to do', () => {
    inDomain();
    expect(openrc('start_pre && echo starts')).toEqual(['modprobe -q xen-netback\nstarts\n', 0]);
  });

  test('has nothing to do where there is no Xen driver domain', () => {
    expect(openrc('start_pre && echo starts')).toEqual(['einfo no Xen driver domain: vifd is not needed here\n', 0]);
  });

  test('reload sends SIGHUP through the supervisor', () => {
    expect(openrc('reload')[0]).toContain('supervise-daemon vifd --signal HUP\n');
  });
});
