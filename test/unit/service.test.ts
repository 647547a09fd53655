/** What a service manager is told, and the files that make vifd a service. */

import { spawn, spawnSync } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { aborted } from '../../src/aborted.js';
import { ConnectionError } from '../../src/errors.js';
import { journalLine, withPriority } from '../../src/logger.js';
import { Pidfile } from '../../src/service/pidfile.js';
import { describe as describeCounts, ServiceReport } from '../../src/service/report.js';

const none = { new: 0, waiting: 0, connected: 0, failed: 0, leaving: 0 };
const has = (program: string) => spawnSync(program, ['--version']).status === 0;

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-service-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

test('the counts as a sentence', () => {
  expect(describeCounts({ ...none, connected: 3 })).toBe('3 vifs connected');
  expect(describeCounts({ new: 1, waiting: 1, connected: 0, failed: 2, leaving: 1 })).toBe(
    '0 vifs connected, 2 failed, 2 waiting, 1 leaving',
  );
});

describe('the report to a service manager', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function report(watchdogMs?: number) {
    const sent: string[] = [];
    const warned: string[] = [];
    const log = pino({ base: null }, { write: (line: string) => void warned.push(JSON.parse(line).msg) });
    const service = new ServiceReport(
      { watchdogMs, send: async (...assignments) => void sent.push(...assignments) },
      log,
    );
    return { service, sent, warned };
  }

  test('ready, counts when they change, stopping', async () => {
    const { service, sent } = report();
    const counts = { ...none };
    await service.begin({ counts: () => counts, prove: async () => undefined });
    await vi.advanceTimersByTimeAsync(10_000);
    counts.connected = 2;
    service.changed();
    service.changed();
    await vi.advanceTimersByTimeAsync(10_000);
    service.pause('the connection to xenstore is lost');
    await vi.advanceTimersByTimeAsync(10_000);
    await service.end();
    expect(sent).toEqual([
      'READY=1',
      'STATUS=0 vifs connected',
      'STATUS=2 vifs connected',
      'STATUS=the connection to xenstore is lost',
      'STOPPING=1',
    ]);
  });

  test('where nothing changes nothing wakes it but the watchdog', async () => {
    const { service, sent } = report();
    await service.begin({ counts: () => none, prove: async () => undefined });
    expect(vi.getTimerCount()).toBe(0);
    service.changed();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(vi.getTimerCount()).toBe(0);
    expect(sent).toEqual(['READY=1', 'STATUS=0 vifs connected']);
  });

  test('a sign of life follows a proof, at least twice within the limit', async () => {
    const { service, sent } = report(6_000);
    let proofs = 0;
    await service.begin({ counts: () => none, prove: async () => proofs++ });
    await vi.advanceTimersByTimeAsync(12_100);
    expect(sent.filter((line) => line === 'WATCHDOG=1').length).toBeGreaterThanOrEqual(4);
    expect(proofs).toBe(sent.filter((line) => line === 'WATCHDOG=1').length);
  });

  test.each<[string, () => Promise<unknown>]>([
    ['does not answer', () => new Promise(() => undefined)],
    ['answers with an error', () => Promise.reject(new Error('ETIMEDOUT'))],
  ])('none when xenstore or the kernel %s', async (_, prove) => {
    const { service, sent } = report(6_000);
    await service.begin({ counts: () => none, prove });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sent).not.toContain('WATCHDOG=1');
  });

  test('why there is none is said once, and again when it comes again', async () => {
    const { service, sent, warned } = report(6_000);
    const sentence =
      'systemd gets no sign of life, and ends and restarts vifd when that lasts 6 s: xenstore READ "domid": ETIMEDOUT';
    let answers = false;
    const prove = async () => {
      if (!answers) throw new Error('xenstore READ "domid": ETIMEDOUT');
    };
    await service.begin({ counts: () => none, prove });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(warned).toEqual([sentence]);
    answers = true;
    await vi.advanceTimersByTimeAsync(6_000);
    expect(sent).toContain('WATCHDOG=1');
    answers = false;
    await vi.advanceTimersByTimeAsync(6_000);
    expect(warned).toEqual([sentence, sentence]);
  });

  test.each<[string, (service: ServiceReport) => unknown, Error]>([
    ['that vifd closes', () => undefined, new ConnectionError('ECANCELED', '/dev/xen/xenbus', 'closed by vifd')],
    ['that is lost', () => undefined, new ConnectionError('ECONNRESET', '/dev/xen/xenbus', 'closed by xenstored')],
    ['to a kernel whose socket the end closes', (service) => service.end(), new Error('ECANCELED')],
  ])('a connection %s during a proof is no silence', async (_, meanwhile, error) => {
    const { service, sent, warned } = report(6_000);
    let reject: (error: Error) => void = () => undefined;
    const prove = () => new Promise((_resolve, no) => (reject = no));
    await service.begin({ counts: () => none, prove });
    await vi.advanceTimersByTimeAsync(2_000);
    await meanwhile(service);
    reject(error);
    await vi.advanceTimersByTimeAsync(0);
    expect(warned).toEqual([]);
    expect(sent).not.toContain('WATCHDOG=1');
  });

  test('none while there is no connection', async () => {
    const { service, sent } = report(6_000);
    await service.begin({ counts: () => none, prove: async () => undefined });
    service.pause('lost');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sent).not.toContain('WATCHDOG=1');
  });
});

/** Takes one file after the other, each at its moment, and says how that went. Stays alive, as what it owns says. */
const RACER = `
  import { join } from 'node:path';
  import { Pidfile } from './src/service/pidfile.ts';
  const [, , , directory, rounds, begin] = process.argv;
  const results = [];
  for (let i = 0; i < Number(rounds); i++) {
    while (Date.now() < Number(begin) + 50 * i);
    results.push(await Pidfile.take(join(directory, String(i))).catch(({ code }) => code));
  }
  console.log(JSON.stringify(results.map((result) => (typeof result === 'string' ? result : 'won'))));
  setInterval(() => results, 1_000);
`;

describe('the pid file', () => {
  test('is written, and removed at the end', async () => {
    const path = join(scratch(), 'vifd.pid');
    const pidfile = await Pidfile.take(path);
    expect(readFileSync(path, 'utf8')).toBe(`${process.pid}\n`);
    await pidfile.release();
    expect(() => readFileSync(path)).toThrow('ENOENT');
  });

  test.each(['99999999\n', '', '1\n'])('one that was left behind is replaced: %j', async (text) => {
    const path = join(scratch(), 'vifd.pid');
    writeFileSync(path, text); // process 1 lives, but is no vifd
    await (await Pidfile.take(path)).release();
  });

  test('of several vifds that find the same file left behind at the same time one gets it', async () => {
    const directory = scratch();
    const ROUNDS = 20;
    for (let i = 0; i < ROUNDS; i++) writeFileSync(join(directory, String(i)), '99999999\n');
    const script = join(directory, 'vifd.mjs');
    buildSync({
      stdin: { contents: RACER, resolveDir: '.' },
      bundle: true,
      platform: 'node',
      format: 'esm',
      outfile: script,
    });
    const begin = Date.now() + 1_000;
    const racers = Array.from({ length: 4 }, () => {
      const racer = spawn(process.execPath, [script, 'run', directory, String(ROUNDS), String(begin)]);
      onTestFinished(() => void racer.kill());
      return once(racer.stdout, 'data');
    });
    const results = (await Promise.all(racers)).map(([text]) => JSON.parse(String(text)) as string[]);
    for (let i = 0; i < ROUNDS; i++)
      expect(results.map((codes) => codes[i]).sort()).toEqual(['EALREADY', 'EALREADY', 'EALREADY', 'won']);
  });

  test('what is no pid file is refused and stays: a text, a link, a directory, a pipe', async () => {
    const directory = scratch();
    const at = (name: string) => join(directory, name);
    writeFileSync(at('precious'), 'as it was');
    symlinkSync(at('precious'), at('link'));
    mkdirSync(at('directory'));
    spawnSync('mkfifo', [at('pipe')]);
    for (const name of ['precious', 'link', 'directory', 'pipe'])
      await expect(Pidfile.take(at(name))).rejects.toThrow(
        `${at(name)} is there and is no pid file; remove it, or name another with --pidfile`,
      );
    expect(readFileSync(at('precious'), 'utf8')).toBe('as it was');
  });

  test('of a vifd that has not written it yet has no process to name', async () => {
    const path = join(scratch(), 'vifd.pid');
    const fd = openSync(path, 'w');
    onTestFinished(() => closeSync(fd));
    spawnSync('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
    await expect(Pidfile.take(path)).rejects.toThrow(`vifd is running already: ${path} names no process yet`);
  });

  test('without the program flock the sentence says what to install', async () => {
    const path = join(scratch(), 'vifd.pid');
    vi.stubEnv('PATH', '/nowhere');
    onTestFinished(() => void vi.unstubAllEnvs());
    await expect(Pidfile.take(path)).rejects.toThrow(
      /^the pid file \S+ cannot be locked \(spawnSync flock ENOENT\); install flock \(util-linux or busybox\)$/,
    );
  });

  test('another’s by now is left alone', async () => {
    const path = join(scratch(), 'vifd.pid');
    const pidfile = await Pidfile.take(path);
    writeFileSync(path, '12345\n');
    await pidfile.release();
    expect(readFileSync(path, 'utf8')).toBe('12345\n');
  });

  test('a directory that is not there is a sentence', async () => {
    await expect(Pidfile.take(join(scratch(), 'none', 'vifd.pid'))).rejects.toThrow(
      /^the pid file \S+ cannot be written \(ENOENT\); \S+\/none must be there and vifd's to write$/,
    );
  });
});

test('the journal has the sentence with its priority, on every line', () => {
  const line = (level: string, msg: string) => journalLine(JSON.stringify({ level, msg, domid: 5 }));
  expect(line('info', 'connected vif5.0')).toBe('<6>connected vif5.0\n');
  expect(line('warn', 'w') + line('error', 'e') + line('debug', 'd')).toBe('<4>w\n<3>e\n<7>d\n');
  expect(line('error', 'one\ntwo')).toBe('<3>one\n<3>two\n');
  const attach = { level: 'info', msg: 'connected vif5.0', domid: 5, attach: '1a2b-7' };
  expect(journalLine(JSON.stringify(attach))).toBe('<6>connected vif5.0 [attach 1a2b-7]\n');
  expect(withPriority('{"level":"warn","msg":"w","domid":5}\n')).toBe('<4>{"level":"warn","msg":"w","domid":5}\n');
});

const systemd = has('systemd-analyze') ? undefined : 'skipped: systemd-analyze is not installed';
describe.skipIf(systemd !== undefined)(systemd ?? 'the systemd unit', () => {
  const analyze = (...words: string[]) => spawnSync('systemd-analyze', words, { encoding: 'utf8' });

  test('is valid, and its exposure at most 2.5', () => {
    const directory = scratch();
    const unit = readFileSync('scripts/service/vifd.service', 'utf8').replace(/\/usr\/bin\/vifd .*/g, '/bin/true');
    const file = join(directory, 'vifd.service');
    writeFileSync(file, unit);
    const verified = analyze('verify', '--man=no', file);
    expect(verified.stderr.split('\n').filter((line) => line.includes('vifd.service'))).toEqual([]);
    const { status, stdout, stderr } = analyze('security', '--offline=true', '--threshold=25', file);
    expect(status, stdout.split('\n').slice(-3).join('\n') + stderr).toBe(0);
    expect(analyze('security', '--offline=true', '--threshold=10', file).status).not.toBe(0); // the threshold counts
  });

  test('with the drop-in for bindings it is valid, lets vifd ping, connect, forward and start units, and no more', () => {
    const directory = scratch();
    const unit = readFileSync('scripts/service/vifd.service', 'utf8').replace(/\/usr\/bin\/vifd .*/g, '/bin/true');
    const file = join(directory, 'vifd.service');
    writeFileSync(file, `${unit.split('[Install]')[0]}${readFileSync('scripts/service/vifd-bindings.conf', 'utf8')}`);
    const verified = analyze('verify', '--man=no', file);
    expect(verified.stderr.split('\n').filter((line) => line.includes('vifd.service'))).toEqual([]);
    const { stdout } = analyze('security', '--offline=true', '--json=short', file);
    const isSet = (name: string) =>
      (JSON.parse(stdout) as { json_field: string; set: boolean }[]).find((one) => one.json_field === name)?.set;
    const granted = ['UserOrDynamicUser', 'ProtectKernelTunables', 'RestrictAddressFamilies_AF_INET_INET6'];
    expect(granted.map(isSet)).toEqual([false, false, false]);
    const kept = ['NoNewPrivileges', 'ProtectKernelModules', 'CapabilityBoundingSet_CAP_SYS_ADMIN', 'ProtectSystem'];
    expect(kept.map(isSet)).toEqual([true, true, true, true]);
  });

  test('with the drop-in for DHCP it is valid, lets dnsmasq have port 67, and no more', () => {
    const directory = scratch();
    const unit = readFileSync('scripts/service/vifd.service', 'utf8').replace(/\/usr\/bin\/vifd .*/g, '/bin/true');
    const file = join(directory, 'vifd.service');
    writeFileSync(file, `${unit.split('[Install]')[0]}${readFileSync('scripts/service/vifd-dhcp.conf', 'utf8')}`);
    const verified = analyze('verify', '--man=no', file);
    expect(verified.stderr.split('\n').filter((line) => line.includes('vifd.service'))).toEqual([]);
    const { stdout } = analyze('security', '--offline=true', '--json=short', file);
    const isSet = (name: string) =>
      (JSON.parse(stdout) as { json_field: string; set: boolean }[]).find((one) => one.json_field === name)?.set;
    expect(['RestrictAddressFamilies_AF_INET_INET6', 'IPAddressDeny'].map(isSet)).toEqual([false, false]);
    const kept = ['UserOrDynamicUser', 'NoNewPrivileges', 'ProtectKernelTunables', 'ProtectSystem', 'PrivateTmp'];
    expect(kept.map(isSet)).toEqual(kept.map(() => true));
    expect(isSet('CapabilityBoundingSet_CAP_SET_UID_GID_PCAP')).toBe(true);
  });
});

const shellcheck = has('shellcheck') ? undefined : 'skipped: shellcheck is not installed';
test.skipIf(shellcheck !== undefined)(shellcheck ?? 'shellcheck has nothing to say of the init scripts', () => {
  const files = ['vifd.sysv', 'vifd.openrc', 'domain-check.sh'].map((name) => `scripts/service/${name}`);
  const { status, stdout } = spawnSync('shellcheck', ['-s', 'sh', '-x', ...files], { encoding: 'utf8' });
  expect(stdout).toBe('');
  expect(status).toBe(0);
});

describe('whether an init script has something to do', () => {
  test.each<[string, Record<string, string>, Record<string, string>, boolean]>([
    ['no Xen', {}, {}, false],
    ['a domain', { 'dev/xen/xenbus': '' }, {}, true],
    ['a domain with xenfs', { 'proc/xen/xenbus': '', 'proc/xen/capabilities': '' }, {}, true],
    ['dom0 without xenfs', { 'dev/xen/xenbus': '', 'sys/hypervisor/properties/features': '00002f05\n' }, {}, false],
    ['a domain without xenfs', { 'dev/xen/xenbus': '', 'sys/hypervisor/properties/features': '00002705\n' }, {}, true],
    ['dom0', { 'dev/xen/xenbus': '', 'proc/xen/capabilities': 'control_d\n' }, {}, false],
    [
      'dom0, asked for',
      { 'dev/xen/xenbus': '', 'proc/xen/capabilities': 'control_d\n' },
      { VIFD_IN_DOM0: 'yes' },
      true,
    ],
    [
      'dom0, where vifd observes',
      {
        'dev/xen/xenbus': '',
        'proc/xen/capabilities': 'control_d\n',
        'etc/xen/vifd.d/a.toml': '[agent]\n mode = "observe"\n',
      },
      {},
      true,
    ],
    [
      'dom0, where it does not',
      { 'dev/xen/xenbus': '', 'proc/xen/capabilities': 'control_d\n', 'etc/xen/vifd.toml': '# mode = "observe"\n' },
      {},
      false,
    ],
  ])('%s', (_, files, env, wanted) => {
    const root = scratch();
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(root, path, '..'), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    const script = '. scripts/service/domain-check.sh; vifd_is_wanted';
    const { status } = spawnSync('sh', ['-c', script], { env: { ...process.env, ...env, VIFD_ROOT: root } });
    expect(status === 0).toBe(wanted);
  });
});

test('however often somebody waits for the end, it is listened for once', async () => {
  const end = new AbortController();
  const waiting = Array.from({ length: 20 }, () => aborted(end.signal));
  expect(getEventListeners(end.signal, 'abort')).toHaveLength(1);
  end.abort();
  await Promise.all([...waiting, aborted(end.signal), aborted(AbortSignal.abort())]);
});
