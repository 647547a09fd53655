/** scripts/vif-vifd on the simulated host: beside the daemon, after its end, and without any. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { clearLinks, ip, showLink } from '../netns/namespace.js';
import { AgentProcess, eventually } from './agent-process.js';
import { World } from './world.js';

let dir: string;
let world: World;
const runDir = () => join(dir, 'run');

beforeEach(() => {
  clearLinks();
  ip('link', 'add', 'br0', 'type', 'bridge');
  ip('link', 'set', 'br0', 'up');
  dir = mkdtempSync(join(tmpdir(), 'vifd-script-'));
  process.env.VIFD_RUN_DIR = runDir();
  writeFileSync(join(dir, 'vifd'), `#!/bin/sh\nexec ${process.execPath} ${resolve('dist/main.js')} "$@"\n`);
  chmodSync(join(dir, 'vifd'), 0o755);
  world = new World();
});
afterEach(async () => {
  await world.agent?.kill('SIGTERM');
  await world.host.close();
  expect(world.agent?.stderr ?? '').toBe('');
  delete process.env.VIFD_RUN_DIR;
  rmSync(dir, { recursive: true });
});

/** Agents of this test are started by these words. */
function prefix(...words: string[]): void {
  AgentProcess.prefix = words;
  onTestFinished(() => {
    AgentProcess.prefix = [];
  });
}

/** As `xl devd` runs it; VIFD names nothing unless the script may do the work itself. */
async function script(command: string, options: { itself?: boolean; domid?: number; env?: NodeJS.ProcessEnv } = {}) {
  const { itself = false, domid = 5, env = {} } = options;
  const startedAt = performance.now();
  const { exitCode, stderr } = await execa(resolve('scripts/vif-vifd'), [command, 'type_if=vif'], {
    reject: false,
    extendEnv: false,
    env: {
      script: '/etc/xen/scripts/vif-vifd',
      XENBUS_TYPE: 'vif',
      XENBUS_PATH: `backend/vif/${domid}/0`,
      XENBUS_BASE_PATH: 'backend',
      netdev: '',
      vif: `vif${domid}.0`,
      VIFD_RUN_DIR: runDir(),
      VIFD: itself ? join(dir, 'vifd') : '/nowhere/vifd',
      XENSTORED_PATH: world.host.socketOf(NICDOM),
      ...env,
    },
  });
  return { code: exitCode, stderr, ms: performance.now() - startedAt };
}

const port = (domid: number) => {
  const link = showLink(`vif${domid}.0`);
  return { master: link?.master, txqlen: link?.txqlen, up: link?.flags.includes('UP') };
};
const CONNECTED = { master: 'br0', txqlen: 1000, up: true };
/** The socket `status` has its own tests. */
const files = () =>
  readdirSync(runDir())
    .filter((name) => name !== 'status')
    .sort();

describe('with the daemon', () => {
  test('online waits for its work, and is answered again when all is done', async () => {
    await world.start();
    const [outcome] = await Promise.all([
      eventually(async () => (await world.node(5, 0, 'state')) === '2').then(() => script('online')),
      world.host.createGuest(5, [{ bridge: 'br0' }]),
    ]);
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
    expect(port(5)).toEqual(CONNECTED);
    expect((await script('online')).code).toBe(0);
    expect(files()).toEqual(['reader', 'requests']);
    expect(lstatSync(join(runDir(), 'requests')).mode & 0o777).toBe(0o600);
    expect(lstatSync(runDir()).mode & 0o777).toBe(0o700);
  });

  test('sixteen scripts at once get an answer each', async () => {
    await world.start();
    const domids = Array.from({ length: 16 }, (_, i) => 5 + i);
    await Promise.all(domids.map((domid) => world.host.createGuest(domid, [{ bridge: 'br0' }])));
    const outcomes = await Promise.all(domids.map((domid) => script('online', { domid })));
    expect(outcomes.map(({ code }) => code)).toEqual(domids.map(() => 0));
    expect(domids.map(port)).toEqual(domids.map(() => CONNECTED));
    expect(files()).toEqual(['reader', 'requests']);
  });

  test('a failure: the sentence of hotplug-error', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br9' }]);
    expect(await script('online')).toMatchObject({
      code: 1,
      stderr: 'vif-vifd: backend/vif/5/0: bridge "br9" does not exist',
    });
    expect(await world.node(5, 0, 'hotplug-status')).toBe('error');
    expect(await world.node(5, 0, 'hotplug-error')).toBe('bridge "br9" does not exist');
  });

  test('a vif that is not there', async () => {
    await world.start();
    expect(await script('online')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is no vif "backend/vif/5/0" in xenstore'),
    });
  });

  test('offline ends when dom0 has seen state 6, for xl devd then removes the directory, and vifd must not', async () => {
    await world.start({ toolstack: { eventMs: 100 } });
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'state', '4');
    const detached = world.host.detachVif(5, 0);
    await world.until(5, 0, 'state', '6');
    expect((await script('offline')).code).toBe(0);
    // Were it gone, devd would remove the one that dom0 makes next.
    expect(await world.node(5, 0, 'state')).toBe('6');
    await world.host.nicdom.rm('backend/vif/5/0'); // devd
    expect(await detached).toMatchObject({ ok: true, errors: [] });
  });

  test('offline, and xl devd dies: vifd removes the directory after all', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'state', '4');
    const detached = world.host.detachVif(5, 0);
    await world.until(5, 0, 'state', '6');
    expect((await script('offline')).code).toBe(0);
    expect(await detached).toMatchObject({ ok: true, errors: [] });
  });

  test('offline of a vif that stays is answered at once', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.connected(5);
    const { code, ms } = await script('offline');
    expect(code).toBe(0);
    expect(ms).toBeLessThan(500);
    expect(port(5)).toEqual(CONNECTED);
  });

  test('hooks know the interface and the bridge', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0', vifname: 'web0', ip: '10.0.0.5' }]);
    mkdirSync(join(dir, 'vif-post.d'));
    const noted = join(dir, 'noted');
    writeFileSync(join(dir, 'vif-post.d/a.hook'), `echo $command $dev $bridge $ip >>${noted}\n`, { mode: 0o755 });
    const link = join(dir, 'vif-bridge');
    await execa('ln', ['-s', resolve('scripts/vif-vifd'), link]);
    const env = { XENBUS_PATH: 'backend/vif/5/0', vif: 'vif5.0', VIFD_RUN_DIR: runDir() };
    await execa(link, ['online', 'type_if=vif'], { env, extendEnv: false });
    await execa(link, ['offline', 'type_if=vif'], { env, extendEnv: false });
    expect(readFileSync(noted, 'utf8')).toBe('online web0 br0 10.0.0.5\noffline web0 br0 10.0.0.5\n');
  });

  test('what is no request is left alone', async () => {
    await world.start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    const junk = ['online 5/0 ../../x', 'online 05/0 1', 'x'.repeat(3_000), '\0\0', 'online 5/0', ''].join('\n');
    writeFileSync(join(runDir(), 'requests'), `${junk}\n`);
    expect((await script('online')).code).toBe(0);
  });

  test('its end: a script that waits does the work itself', async () => {
    await world.start({ netback: { links: { create: async () => {}, remove: async () => {} } } });
    void world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'state', '2');
    const asked = script('online', { itself: true });
    await eventually(() => files().some((name) => name.startsWith('reply.')));
    await world.agent.kill('SIGTERM');
    expect(await asked).toMatchObject({ code: 1, stderr: expect.stringContaining('made no interface vif5.0') });
    expect(files()).toEqual(['requests']);
  });

  test('a second one leaves the scripts to the first', async () => {
    await world.start();
    const first = world.agent;
    prefix('unshare', '--net'); // beside each other in one namespace they refuse to run at all
    const second = await world.startAgent();
    await second.saw(({ msg }) => msg.includes(`vifd (pid ${first.pid}) reads their requests in`));
    await second.kill('SIGTERM');
    expect(files()).toEqual(['reader', 'requests']);
    world.agent = first;
  });

  test.each([0o777, 0o755, 0o750])(
    'a directory of mode %o, in which others could answer, is not used',
    async (mode) => {
      mkdirSync(runDir());
      chmodSync(runDir(), mode);
      await world.start();
      await world.agent.saw(({ level, msg }) => level === 'warn' && msg.includes('is open to others'));
      expect(files()).toEqual([]);
    },
  );

  test('one that cannot be made: the remedy', async () => {
    writeFileSync(runDir(), '');
    await world.start();
    await world.agent.saw(({ level, msg }) => level === 'warn' && msg.includes('or name another in VIFD_RUN_DIR'));
  });
});

const notRoot =
  process.getuid?.() === 0 && spawnSync('setpriv', ['--version']).status === 0
    ? undefined
    : 'skipped: needs root and setpriv';
test.skipIf(notRoot !== undefined)(notRoot ?? 'a daemon with a user of its own answers root’s script', async () => {
  await world.start({ agent: false });
  for (const path of [dir, dirname(world.host.socketOf(NICDOM))]) chmodSync(path, 0o755);
  chmodSync(world.host.socketOf(NICDOM), 0o777);
  mkdirSync(runDir(), { mode: 0o700 }); // as systemd does for RuntimeDirectory=
  chownSync(runDir(), 65534, 65534);
  const capability = ['--bounding-set', '--inh-caps', '--ambient-caps'].map((set) => `${set}=-all,+net_admin`);
  prefix('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs', ...capability);
  await world.startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  const { code, stderr, ms } = await script('online');
  expect([code, stderr]).toEqual([0, '']);
  expect(ms).toBeLessThan(1_000);
  expect(port(5)).toEqual(CONNECTED);
  expect(files()).toEqual(['reader', 'requests']);
});

describe('after a SIGKILL of the daemon, with the FIFO left behind', () => {
  test('the script does the work; the next daemon answers again', async () => {
    await world.start();
    await world.agent.kill('SIGKILL');
    writeFileSync(join(runDir(), 'reply.99999999'), '');
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    expect(await script('online', { itself: true })).toMatchObject({ code: 0, stderr: '' });
    expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
    expect(port(5)).toEqual(CONNECTED);
    await world.startAgent();
    expect(files()).toEqual(['reader', 'requests']);
    expect((await script('online')).code).toBe(0);
  });
});

describe('without a daemon', () => {
  const itself = true;
  const start = () => world.start({ agent: false });

  test('online', async () => {
    await start();
    await world.host.createGuest(5, [{ bridge: 'br0', vifname: 'web0', mtu: 1400 }]);
    expect(await script('online', { itself })).toMatchObject({ code: 0, stderr: '' });
    expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
    expect(showLink('web0')).toMatchObject({ master: 'br0', mtu: 1400, txqlen: 1000 });
    expect((await script('online', { itself })).code).toBe(0); // vif-bridge fails here
    await eventually(async () => (await world.node(5, 0, 'state')) === '4');
  });

  test('a failure is in xenstore, on stderr with its remedy, and in the exit code', async () => {
    await start();
    await world.host.createGuest(5, [{ bridge: 'br9' }]);
    const { code, stderr } = await script('online', { itself });
    expect(code).toBe(1);
    expect(stderr).toContain('vifd: vif5.0: bridge "br9" does not exist; bridges here: br0');
    expect(await world.node(5, 0, 'hotplug-status')).toBe('error');
    expect(await world.node(5, 0, 'hotplug-error')).toBe('bridge "br9" does not exist');
  });

  test('the caller’s bridge counts where dom0 names none', async () => {
    ip('link', 'add', 'br7', 'type', 'bridge');
    await start();
    await world.host.createGuest(5, [{}, { bridge: 'br0' }].slice(0, 1));
    await world.host.nicdom.rm('backend/vif/5/0/bridge');
    expect((await script('online', { itself, env: { bridge: 'br7' } })).code).toBe(0);
    expect(port(5).master).toBe('br7');
  });

  test('offline takes the interface out of the bridge, and leaves the directory to libxl', async () => {
    await start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await script('online', { itself });
    expect((await script('offline', { itself })).code).toBe(0);
    expect(port(5)).toEqual({ master: undefined, txqlen: 1000, up: false });
    expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
    await world.host.nicdom.rm('backend/vif/5/0');
    expect((await script('offline', { itself })).code).toBe(0);
  });

  test('offline with a configuration that cannot be used takes the vif out all the same, and says what may stay', async () => {
    await start();
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await script('online', { itself });
    writeFileSync(join(dir, 'vifd.toml'), '[vif]\nqlen = "many"\nguard = 7\n');
    writeFileSync(
      join(dir, 'vifd'),
      `#!/bin/sh\nexec ${process.execPath} ${resolve('dist/main.js')} "$@" -c ${dir}/vifd.toml\n`,
    );
    const { code, stderr } = await script('offline', { itself });
    expect(stderr).toMatch(
      /^vifd: the configuration cannot be used, so the vif is taken out as without one, and a guard, .* until vifd runs: \S+vifd\.toml:2: vif\.qlen is "many"; expected [^\n]+$/,
    );
    expect(code).toBe(0);
    expect(port(5)).toEqual({ master: undefined, txqlen: 1000, up: false });
  });

  test.each([
    ['udev', { UDEV_CALL: '1' }, undefined],
    ['xl devd, which removes it', {}, '6'],
  ])('by %s: the directory stays for the grace that dom0 needs', async (_, env, left) => {
    await world.start({ agent: false, toolstack: { eventMs: 100 } });
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    const online = await script('online', { itself, env });
    expect([online.code, online.stderr.replace(/^Warning: .*expose_wasm.*$/m, '')]).toEqual([0, '']);
    await world.until(5, 0, 'state', '4', 5_000);
    const detached = world.host.detachVif(5, 0);
    await world.until(5, 0, 'state', '6');
    expect((await script('offline', { itself, env })).code).toBe(0);
    expect(await world.node(5, 0, 'state')).toBe(left);
    if (left !== undefined) await world.host.nicdom.rm('backend/vif/5/0');
    expect(await detached).toMatchObject({ ok: true, errors: [] });
  });

  test('no xenstore', async () => {
    await start();
    const { code, stderr } = await script('online', { itself, env: { XENSTORED_PATH: '/nowhere' } });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^vifd: .*\/nowhere.*\nvif-vifd: vifd vif-script online backend\/vif\/5\/0 failed$/s);
  });

  test('a guest’s description that cannot be used', async () => {
    await start();
    await world.host.createGuest(5, [{ bridge: '$(touch canary)' }]);
    expect((await script('online', { itself })).code).toBe(1);
    expect(await world.node(5, 0, 'hotplug-error')).toContain('node "bridge" is');
    expect(existsSync('canary')).toBe(false);
  });
});
