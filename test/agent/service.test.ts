/** The agent under a service manager: systemd's words through a stand-in for systemd-notify, and the SysV script. */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { ip, showLink } from '../netns/namespace.js';
import { AgentProcess, eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-service-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

function program(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
}

/** What is in force for programs started during the test. */
function environment(values: Record<string, string>): void {
  const before = { ...process.env };
  Object.assign(process.env, values);
  onTestFinished(() => {
    for (const name of Object.keys(values)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  });
}

test('systemd hears READY when the vifs that were there are connected, then counts, signs of life and the end', async () => {
  const directory = scratch();
  const said = () => (existsSync(join(directory, 'said')) ? readFileSync(join(directory, 'said'), 'utf8') : '');
  program(join(directory, 'systemd-notify'), `echo "$*" >>${directory}/said`);
  environment({
    PATH: `${directory}:${process.env.PATH}`,
    NOTIFY_SOCKET: join(directory, 'unused'),
    WATCHDOG_USEC: '900000',
  });
  await world.start({ agent: false });
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '2');
  await world.startAgent();
  await eventually(() => said().startsWith('READY=1 STATUS=1 vifs connected\n'));
  await eventually(() => said().split('WATCHDOG=1\n').length > 3);
  await world.host.createGuest(6, [{ bridge: 'none' }]);
  await eventually(() => said().includes('STATUS=1 vifs connected, 1 failed\n'));
  await world.agent.kill('SIGTERM');
  await eventually(() => said().includes('STOPPING=1\n'));
});

test('a session that ends during its first look at the vifs is not READY', async () => {
  const directory = scratch();
  const said = () => (existsSync(join(directory, 'said')) ? readFileSync(join(directory, 'said'), 'utf8') : '');
  program(join(directory, 'systemd-notify'), `echo "$*" >>${directory}/said`);
  environment({ PATH: `${directory}:${process.env.PATH}`, NOTIFY_SOCKET: 'unused' });
  await world.start({ agent: false });
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  const path = join(directory, 'xenstore');
  const between = createServer((agent) => {
    const store = connect(world.host.socketOf(NICDOM));
    for (const socket of [agent, store]) socket.on('error', () => undefined);
    store.on('data', (bytes) => agent.write(bytes));
    agent.on('data', (bytes) => {
      if (!String(bytes).includes('backend/vif/5/0')) return store.write(bytes);
      between.close();
      store.destroy();
      return agent.destroy();
    });
  });
  between.listen(path);
  world.agent = new AgentProcess(path);
  await world.agent.saw(({ msg }) => msg.startsWith('no xenstore yet'));
  expect(said()).toBe('STATUS=the connection to xenstore is lost\n');
  symlinkSync(world.host.socketOf(NICDOM), path);
  await eventually(() => said().includes('READY=1 STATUS=1 vifs connected\n'));
});

test('JSON that goes to the journal has its priority there', async () => {
  await world.start();
  await world.agent.kill('SIGTERM');
  const words = `dist/main.js run --log-format json --xenstore ${world.host.socketOf(NICDOM)}`;
  const stream = 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/3)';
  const child = spawn('sh', ['-c', `exec 3>&1; ${stream} VIFD_RUN_DIR= exec ${process.execPath} ${words}`]);
  onTestFinished(() => void child.kill());
  let text = '';
  child.stdout.on('data', (bytes) => {
    text += bytes;
  });
  await eventually(() => text.includes('ready on'));
  expect(text).toMatch(/^<6>\{"level":"info"/m);
  expect(JSON.parse(text.slice(3, text.indexOf('\n')))).toMatchObject({ level: 'info' });
});

const missing = ['strace', 'systemd-analyze', 'systemd-notify', 'socat'].filter(
  (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
);
test.skipIf(missing.length > 0)(
  missing.length > 0
    ? `skipped: not installed: ${missing.join(', ')}`
    : 'the unit lets vifd and its children make every system call they need',
  async () => {
    const directory = scratch();
    const [socket, calls] = [join(directory, 'notify'), join(directory, 'calls')];
    let said = '';
    const receiver = spawn('socat', ['-u', `UNIX-RECV:${socket}`, 'STDOUT']);
    onTestFinished(() => void receiver.kill());
    receiver.stdout.on('data', (bytes) => {
      said += bytes;
    });
    await eventually(() => existsSync(socket));
    // Without --no-block it waits until the message's descriptor is closed, which socat never does.
    program(join(directory, 'systemd-notify'), 'exec /usr/bin/systemd-notify --no-block "$@"');
    environment({ PATH: `${directory}:${process.env.PATH}`, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '3000000' });
    environment({ VIFD_RUN_DIR: join(directory, 'run') });
    await world.start({ agent: false });
    AgentProcess.prefix = ['strace', '-D', '-f', '-qq', '-o', calls, '-e', `inject=${REFUSED.join()}:error=EPERM`];
    onTestFinished(() => {
      AgentProcess.prefix = [];
    });
    world.agent = new AgentProcess(world.host.socketOf(NICDOM));
    await world.agent.saw(({ msg }) => msg.startsWith('ready'), 20_000);
    await world.host.createGuest(5, [{ bridge: 'br0', vifname: 'wan' }]);
    await world.connected(5, 0, 15_000);
    await eventually(() => /READY=1[\s\S]*WATCHDOG=1/.test(said), 15_000);
    expect(await world.host.detachVif(5, 0)).toMatchObject({ ok: true });
    await world.agent.kill('SIGTERM');
    const made = new Set([...readFileSync(calls, 'utf8').matchAll(/^\d+ +(\w+)\(/gm)].map(([, name]) => name ?? ''));
    const allowed = allowedSystemCalls();
    expect(made.size).toBeGreaterThan(30);
    expect([...made].filter((name) => !REFUSED.includes(name) && !allowed.has(name))).toEqual([]);
  },
);

/**
 * V8 asks whether there are memory protection keys, and libnuma in Debian's ovs-vsctl what memory policies there are. Both do
 * without; here, too, they are told EPERM.
 */
const REFUSED = ['pkey_alloc', 'set_mempolicy'];

/** What the unit's SystemCallFilter= lines leave, by systemd's own tables. */
function allowedSystemCalls(): Set<string> {
  const { stdout } = spawnSync('systemd-analyze', ['syscall-filter', '--no-pager'], { encoding: 'utf8' });
  const sets = new Map<string, string[]>();
  for (const block of stdout.split(/\n(?=@)/)) {
    const [name = '', ...members] = block.split('\n').map((line) => line.trim());
    const calls = members.filter((member) => member !== '' && !member.startsWith('#'));
    sets.set(name, calls);
  }
  const expand = (name: string): string[] => (name.startsWith('@') ? (sets.get(name) ?? []).flatMap(expand) : [name]);
  const allowed = new Set(expand('@default'));
  const unit = readFileSync('scripts/service/vifd.service', 'utf8');
  for (const [, minus, names = ''] of unit.matchAll(/^SystemCallFilter=(~?)(.*)$/gm))
    for (const call of names.split(' ').flatMap(expand)) minus === '~' ? allowed.delete(call) : allowed.add(call);
  return allowed;
}

test('a domain that does not know its number lives all the same, by the watchdog’s measure', async () => {
  const directory = scratch();
  const said = () => (existsSync(join(directory, 'said')) ? readFileSync(join(directory, 'said'), 'utf8') : '');
  program(join(directory, 'systemd-notify'), `echo "$*" >>${directory}/said`);
  environment({ PATH: `${directory}:${process.env.PATH}`, NOTIFY_SOCKET: 'unused', WATCHDOG_USEC: '900000' });
  await world.start({ agent: false });
  await world.host.dom0.rm('/local/domain/1/domid');
  await world.startAgent();
  await eventually(() => said().split('WATCHDOG=1\n').length > 2);
});

test('a second vifd on the same pid file is refused, and the first one’s file stays', async () => {
  const pidfile = join(scratch(), 'vifd.pid');
  await world.start({ agent: false });
  await world.startAgent('--pidfile', pidfile);
  const words = ['dist/main.js', 'run', '--xenstore', world.host.socketOf(NICDOM), '--pidfile', pidfile];
  const second = spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 10_000 });
  expect(second).toMatchObject({
    status: 1,
    stderr: `vifd: vifd is running already: ${pidfile} names process ${world.agent.pid}\n`,
  });
  expect(readFileSync(pidfile, 'utf8')).toBe(`${world.agent.pid}\n`);
  await world.agent.kill('SIGTERM');
  expect(existsSync(pidfile)).toBe(false);
});

test('a second vifd in the same network is refused: two would undo each other’s work', async () => {
  await world.start();
  const words = ['dist/main.js', 'run', '--xenstore', world.host.socketOf(NICDOM)];
  const second = spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 10_000 });
  expect(second).toMatchObject({
    status: 1,
    stderr: `vifd: vifd runs here already (pid ${world.agent.pid}); one is enough\n`,
  });
});

test('the SysV script starts, reports, reloads and stops vifd; where there is no Xen it does nothing, quietly', async () => {
  await world.start();
  await world.agent.kill('SIGTERM');
  const directory = scratch();
  mkdirSync(join(directory, 'dev/xen'), { recursive: true });
  writeFileSync(join(directory, 'dev/xen/xenbus'), '');
  mkdirSync(join(directory, 'proc/self'), { recursive: true });
  const vifd = join(directory, 'vifd');
  program(vifd, `exec ${process.execPath} ${resolve('dist/main.js')} "$@"`);
  const env = {
    ...process.env,
    VIFD: vifd,
    VIFD_ROOT: directory,
    VIFD_LIB: resolve('scripts/service'),
    VIFD_PIDFILE: join(directory, 'pid'),
    VIFD_LOG: join(directory, 'log'),
    VIFD_ARGS: `--xenstore ${world.host.socketOf(NICDOM)}`,
  };
  const script = (word: string, more = {}) => {
    const { status, stdout, stderr } = spawnSync('sh', ['scripts/service/vifd.sysv', word], {
      encoding: 'utf8',
      env: { ...env, ...more },
      timeout: 20_000,
    });
    return { status, stdout, stderr };
  };
  onTestFinished(() => void script('stop'));
  // A spawn that waits would keep the simulated store from answering; the script only waits for the pid file.
  expect(script('status')).toMatchObject({ status: 3, stdout: 'vifd is not running\n' });
  expect(script('start')).toEqual({ status: 0, stdout: '', stderr: '' });
  expect(readFileSync(join(directory, 'proc/self/oom_score_adj'), 'utf8')).toBe('-500\n');
  expect(script('status').stdout).toMatch(/^vifd is running \(process \d+\)\n$/);
  expect(script('start').stdout).toMatch(/^vifd is running already/);
  await eventually(() => readFileSync(join(directory, 'log'), 'utf8').includes('"ready on'));
  expect(script('reload').status).toBe(0);
  await eventually(() => readFileSync(join(directory, 'log'), 'utf8').includes('configuration read again'));
  expect(script('stop').status).toBe(0);
  expect(existsSync(env.VIFD_PIDFILE)).toBe(false);
  expect(script('status', { VIFD_ROOT: scratch() })).toEqual({ status: 0, stdout: '', stderr: '' });
});

const notRoot =
  process.getuid?.() === 0 && spawnSync('setpriv', ['--version']).status === 0
    ? undefined
    : 'skipped: needs root and setpriv';
test.skipIf(notRoot !== undefined)(
  notRoot ?? 'an own user with CAP_NET_ADMIN alone attaches, repairs and removes',
  async () => {
    await world.start({ agent: false });
    const socket = world.host.socketOf(NICDOM);
    chmodSync(dirname(socket), 0o755);
    chmodSync(socket, 0o777);
    const user = ['--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs'];
    const capability = [
      '--bounding-set=-all,+net_admin',
      '--inh-caps=-all,+net_admin',
      '--ambient-caps=-all,+net_admin',
    ];
    AgentProcess.prefix = ['setpriv', ...user, ...capability];
    onTestFinished(() => {
      AgentProcess.prefix = [];
    });
    await world.startAgent();
    await world.host.createGuest(5, [{ bridge: 'br0', vifname: 'wan', mtu: 1400 }]);
    await world.until(5, 0, 'state', '4');
    ip('link', 'set', 'wan', 'txqueuelen', '32');
    await eventually(() => showLink('wan')?.txqlen === 1000);
    expect(await world.host.detachVif(5, 0)).toMatchObject({ ok: true, errors: [] });
    expect(world.agent.log.filter(({ level }) => level === 'error')).toEqual([]);
  },
);
