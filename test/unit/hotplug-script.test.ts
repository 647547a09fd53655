/** Scripts and hooks of the admin's: which are run, how, and what is said of those that fail. Word for word. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import type { AttachError } from '../../src/errors.js';
import { type Program, Programs } from '../../src/network/hotplug-script.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { eventually } from '../agent/agent-process.js';
import { backend } from './vif-seen.js';

/** Whoever runs the tests, the files are root's, unless a test says otherwise. */
const owner = vi.hoisted(() => ({ uid: 0 }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const stat = async (path: string) => Object.assign(await real.stat(path), owner);
  return { ...real, stat };
});
beforeEach(() => {
  owner.uid = 0;
});

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-script-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
});
function program(text: string, more: Partial<Program> = {}, mode = 0o755): Program {
  const file = join(dir, 'vif-mine');
  writeFileSync(file, text, { mode });
  return { name: 'script vif-mine', file, args: [], env: {}, timeoutMs: 5_000, ...more };
}
const sh = (text: string, more: Partial<Program> = {}) => program(`#!/bin/sh\n${text}\n`, more);

async function run(one: Program): Promise<{ lines: string[]; error?: string; hint?: string }> {
  const lines: string[] = [];
  const { ended } = new Programs().run(one, (line) => lines.push(line));
  return ended.then(
    () => ({ lines }),
    ({ message, hint }: AttachError) => ({ lines, error: message, hint }),
  );
}

describe('a program', () => {
  test('gets its arguments, its environment and no input; its output comes line by line, printable', async () => {
    vi.stubEnv('NOTIFY_SOCKET', '/run/x');
    vi.stubEnv('INTERFACE', 'x');
    onTestFinished(() => void vi.unstubAllEnvs());
    const text =
      'echo "$1,$2"; echo "$vif $(env | grep -c -e ^INTERFACE= -e ^NOTIFY_SOCKET=) $(pwd)"; cat; printf "a\\033[1mb" >&2';
    const { lines, error } = await run(sh(text, { args: ['online', 'type_if=vif'], env: { vif: 'vif5.0' } }));
    expect(error).toBeUndefined();
    expect(lines.sort()).toEqual(['"a\\u001b[1mb"', '"online,type_if=vif"', '"vif5.0 0 /"']);
  });

  test('that says too much is cut off', async () => {
    const { lines } = await run(sh('seq 1000; printf "%01000d" 1'));
    expect(lines).toHaveLength(201);
    expect(lines.at(-1)).toBe('(its further output is left out)');
  });

  test.each([
    ['exit 3', 'script vif-mine failed: exit status 3', 'its output is in the log'],
    [
      'echo one >&2; echo "no such thing" >&2; exit 1',
      'script vif-mine failed: no such thing',
      'its output is in the log',
    ],
    [
      'echo "RTNETLINK answers: Operation not permitted" >&2; exit 2',
      'script vif-mine failed: RTNETLINK answers: Operation not permitted',
      'what vifd may not do its scripts may not do either: see "User scripts" in the README',
    ],
    ['kill -TERM $$', 'script vif-mine failed: ended by SIGTERM', 'its output is in the log'],
    ['kill -KILL $$', 'script vif-mine failed: ended by SIGKILL', 'its output is in the log'],
  ])('%s', async (text, error, hint) => expect(await run(sh(text))).toMatchObject({ error, hint }));

  test('that never ends its line costs no memory', async () => {
    const before = process.memoryUsage();
    let most = 0;
    const timer = setInterval(() => {
      const { heapUsed, external } = process.memoryUsage();
      most = Math.max(most, heapUsed + external - before.heapUsed - before.external);
    }, 10);
    const { lines } = await run(sh("head -c 200000000 /dev/zero | tr '\\0' x; echo; echo end"));
    clearInterval(timer);
    expect(lines.at(-1)).toBe('"end"');
    expect(most).toBeLessThan(100e6);
  });

  test('that hangs is killed with all that it has started', async () => {
    const one = sh(`sleep 60 & echo $! >${dir}/pid; wait`, { timeoutMs: 300 });
    expect(await run(one)).toMatchObject({
      error: 'script vif-mine did not end within 0.3 s and was killed',
      hint: 'see its output in the log, or give it a longer timeout',
    });
    const pid = readFileSync(join(dir, 'pid'), 'utf8').trim();
    await eventually(() => !isAlive(pid));
  });

  test('that leaves a daemon behind has ended when it has', async () => {
    const startedAt = performance.now();
    expect((await run(sh(`sleep 3 & echo $! >${dir}/pid; echo done`))).lines).toEqual(['"done"']);
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect(isAlive(readFileSync(join(dir, 'pid'), 'utf8').trim())).toBe(true);
  });

  test('is killed with the rest when vifd ends, and none begins then', async () => {
    const programs = new Programs();
    const { ended } = programs.run(sh(`echo $$ >${dir}/pid; sleep 60`), () => undefined);
    const result = ended.catch(({ code }: AttachError) => code);
    const pid = await eventually(
      () => readFileSync(join(dir, 'pid'), { encoding: 'utf8', flag: 'a+' }).trim() || undefined,
    );
    programs.stop();
    expect(await result).toBe('ECANCELED');
    await eventually(() => !isAlive(pid));
    await expect(programs.run(sh('true'), () => undefined).ended).rejects.toMatchObject({ code: 'ECANCELED' });
  });
});

test('of one place one program runs after the other, also after one that is killed before its turn; elsewhere none waits', async () => {
  const programs = new Programs();
  const lines: string[] = [];
  const one = sh('echo $1 begins; sleep $2; echo $1 ends');
  const start = (place: string, name: string, seconds: string) =>
    programs.run({ ...one, place, args: [name, seconds] }, (line) => lines.push(line));
  const first = start('a', 'first', '0.3');
  const killed = start('a', 'killed', '0');
  const third = start('a', 'third', '0');
  const elsewhere = start('b', 'elsewhere', '0');
  killed.kill();
  await expect(killed.ended).rejects.toMatchObject({ code: 'ECANCELED' });
  await Promise.all([first, third, elsewhere].map(({ ended }) => ended));
  expect(lines.filter((line) => !line.includes('elsewhere'))).toEqual(
    ['first begins', 'first ends', 'third begins', 'third ends'].map((line) => `"${line}"`),
  );
  expect(lines.indexOf('"elsewhere ends"')).toBeLessThan(lines.indexOf('"first ends"'));
});

/** A zombie is none. */
function isAlive(pid: string): boolean {
  try {
    return !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

describe('a file that is not used', () => {
  const fault = async (one: Program) => {
    const { error, hint } = await run(one);
    return `${error}; ${hint}`;
  };
  test('is missing, a directory, not executable, not only root’s', async () => {
    const said = 'script vif-mine cannot be used: its file';
    expect(await fault(sh('', { file: '/nowhere/x' }))).toBe(
      `${said} cannot be found (ENOENT); put it there, readable for vifd: "/nowhere/x"`,
    );
    expect(await fault(sh('', { file: '/tmp' }))).toBe(`${said} is no regular file; name the program itself: "/tmp"`);
    rmSync(join(dir, 'vif-mine'));
    expect(await fault(program('', {}, 0o644))).toContain(`${said} is not executable; chmod +x: "`);
    rmSync(join(dir, 'vif-mine'));
    owner.uid = 1000;
    expect(await fault(sh(''))).toContain(`${said} belongs to user 1000; give it to root with chown root: "`);
  });

  test('others may write it', async () => {
    const one = sh('true');
    Object.assign(owner, { mode: 0o100775 });
    onTestFinished(() => void Reflect.deleteProperty(owner, 'mode'));
    expect(await fault(one)).toContain('its file may be written by others than root; chmod go-w: "');
  });

  test('has no interpreter', async () => {
    expect(await fault(program('#!/nowhere/sh\n'))).toMatch(
      /^script vif-mine cannot be run \(ENOENT\); the interpreter in its first line must be there; what vifd may/,
    );
  });
});

describe('how libxl runs a script', () => {
  const scripts = [{ name: 'vif-mine', file: '/etc/xen/scripts/vif-mine' }];
  const call = (nodes: Record<string, string>, config = {}) => {
    const want = resolveAttachment(backend({ script: '/etc/xen/scripts/vif-mine', ...nodes }), {
      ...DEFAULTS,
      scripts,
      ...config,
    });
    return want.mode === 'script' ? want.script : undefined;
  };

  test('the file is the admin’s, the environment dom0’s', () => {
    expect(call({ script: '/elsewhere/vif-mine', gatewaydev: 'eth0' })).toEqual({
      name: 'script vif-mine',
      file: '/etc/xen/scripts/vif-mine',
      timeoutMs: 8_000,
      args: ['type_if=vif'],
      env: {
        script: '/elsewhere/vif-mine',
        XENBUS_TYPE: 'vif',
        XENBUS_PATH: 'backend/vif/5/0',
        XENBUS_BASE_PATH: 'backend',
        netdev: 'eth0',
        vif: 'vif5.0',
      },
    });
    expect(call({})?.env.netdev).toBe('');
    expect(call({ type: 'vif_ioemu' })?.env.INTERFACE).toBe('vif5.0-emu');
  });

  test('a mode counts more than the table, and the table more than Xen’s own names', () => {
    expect(call({}, { vif: { mode: 'bridge' } })).toBeUndefined();
    expect(call({ script: 'vif-bridge'.padStart(11, '/') })).toBeUndefined();
    expect(
      call({ script: '/vif-bridge' }, { scripts: [{ name: 'vif-bridge', file: '/x', timeout: 40 }] }),
    ).toMatchObject({
      file: '/x',
      timeoutMs: 40_000,
    });
  });

  test('one that is not allowed', () => {
    expect(() => call({ script: '/x/vif-other' }, { vif: { mode: 'script' } })).toThrow(
      expect.objectContaining({
        message: 'script "vif-other" is not allowed',
        hint: 'say which file of this domain it is: [script.vif-other] with file = "/etc/xen/scripts/vif-other"',
      }),
    );
  });
});

test('the limit is not waited for', async () => {
  const startedAt = performance.now();
  await run(sh('true', { timeoutMs: 5_000 }));
  await sleep(0);
  expect(performance.now() - startedAt).toBeLessThan(3_000);
});
