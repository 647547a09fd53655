/** What hooks hear across the ends of vifd, at the least once. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { measured } from '../support/measured.js';
import { eventually } from './agent-process.js';
import { environment, sleep } from './recovery.js';
import { useWorld } from './world.js';

const world = useWorld();
const MAC = '00:16:3e:00:00:01';
const OTHER = '00:16:3e:00:00:02';
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-hooks-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'hooks'));
  writeFileSync(join(dir, 'vifd.toml'), `hooks.directory = "${dir}/hooks"\n`);
  environment({ VIFD_RUN_DIR: join(dir, 'run') });
});

const executable = (name: string, text: string) =>
  writeFileSync(join(dir, 'hooks', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
const NOTE = () => `echo "$1 $2 $VIFD_MAC" >>${dir}/told`;
const hook = (before = '') => executable('10-note', `${before}\n${NOTE()}`);
/** For the hook alone; Node has no streams where it had no descriptors for them, and tells a moment later. */
const instead = (body: string) => `const processes = require('node:child_process'), { spawn } = processes;
processes.spawn = (file, ...rest) => { if (!String(file).includes('/hooks/')) return spawn(file, ...rest); ${body} };
require('node:module').syncBuiltinESMExports();
`;
const PRELOAD = {
  EMFILE: instead(`
    const child = new (require('node:events'))();
    setImmediate(() => child.emit('error', Object.assign(new Error('spawn EMFILE'), { code: 'EMFILE' })));
    return child;`),
  ENOMEM: instead("throw Object.assign(new Error('spawn ENOMEM'), { code: 'ENOMEM' });"),
};
const told = () => read('told').split('\n').slice(0, -1);
const startAgent = () => world.startAgent('-c', join(dir, 'vifd.toml'));
const read = (name: string) => (existsSync(join(dir, name)) ? readFileSync(join(dir, name), 'utf8') : '');
const recorded = () => read('run/hooks.json');
const heard = (mac: string) => !recorded().includes('telling') && recorded().includes(mac);

/** Guest 5 is connected, and hooks have been told so. */
async function start(): Promise<void> {
  hook();
  await world.start({ agent: false });
  await startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await world.connected(5);
  await eventually(() => heard(MAC));
}

test.each(['SIGKILL', 'SIGTERM'] as const)(
  '%s during a hook: the next vifd runs it again, and once only',
  async (signal) => {
    hook(`[ -e ${dir}/quick ] || exec sleep 30`);
    await world.start({ agent: false });
    await startAgent();
    await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
    await world.connected(5);
    await sleep(200);
    await world.agent.kill(signal);
    writeFileSync(join(dir, 'quick'), '');
    await measured('ended during a hook: it has heard, after the start of the next vifd', 5_000, async () => {
      await startAgent();
      await eventually(() => told().length === 1);
    });
    await eventually(() => heard(MAC));
    await world.agent.kill(signal);
    await startAgent();
    await sleep(300);
    expect(told()).toEqual([`connected vif5.0 ${MAC}`]);
  },
);

test('a vif that left while no vifd ran: told at the next start', async () => {
  await start();
  await world.agent.kill('SIGKILL');
  await world.host.dom0.rm('/local/domain/1/backend/vif/5');
  await measured('a vif left while no vifd ran: hooks have heard, after the start of the next', 5_000, async () => {
    await startAgent();
    await eventually(() => told().length === 2);
  });
  await eventually(() => recorded() === '[]\n');
  expect(told()).toEqual([`connected vif5.0 ${MAC}`, `left vif5.0 ${MAC}`]);
});

test('one that was replaced while no vifd ran: of both', async () => {
  await start();
  await world.agent.kill('SIGTERM');
  const detached = world.host.detachVif(5, 0);
  detached.catch(() => undefined);
  await world.host.dom0.rm('/local/domain/1/backend/vif/5');
  await world.host.dom0.rm('/libxl/5/device/vif');
  await world.host.dom0.rm('/local/domain/5/device/vif');
  world.host.attachVif(5, { bridge: 'br0', mac: OTHER, devid: 0 }).catch(() => undefined);
  await world.until(5, 0, 'mac', OTHER);
  await startAgent();
  await eventually(() => told().length === 3);
  expect(told()).toEqual([`connected vif5.0 ${MAC}`, `left vif5.0 ${MAC}`, `connected vif5.0 ${OTHER}`]);
});

test.each(['[{"vif": 5}]', '{', '7', '[null]'])(
  'a record that says %s: a sentence, and it is written anew',
  async (text) => {
    await start();
    await world.agent.kill('SIGTERM');
    writeFileSync(join(dir, 'run/hooks.json'), text);
    await startAgent();
    const sentence = `hooks may not hear of what happened while no vifd ran: ${dir}/run/hooks.json is not what vifd writes; it is written anew`;
    await world.agent.saw(({ msg }) => msg === sentence);
    await world.host.createGuest(6, [{ bridge: 'br0', mac: OTHER }]);
    await eventually(() => heard(OTHER) && heard(MAC)); // the one of which an earlier vifd has told
    expect(told()).toEqual([`connected vif5.0 ${MAC}`, `connected vif6.0 ${OTHER}`]);
  },
);

test('a record that cannot be written: a sentence, once, and hooks are told all the same', async () => {
  await start();
  mkdirSync(join(dir, 'run/hooks.json.new')); // nothing can be written under that name
  for (const domid of [6, 7]) {
    await world.host.createGuest(domid, [{ bridge: 'br0', mac: OTHER }]);
    await eventually(() => told().includes(`connected vif${domid}.0 ${OTHER}`));
  }
  await sleep(200);
  const sentence = `hooks may hear twice, or not at all, of what happens around the end of this vifd: ${dir}/run/hooks.json cannot be written (`;
  expect(world.agent.log.filter(({ msg }) => msg.startsWith(sentence))).toHaveLength(1);
});

test('what an earlier hook has heard it hears the end of, though a later one was cut short', async () => {
  executable('10-note', NOTE());
  executable('20-slow', `[ -e ${dir}/quick ] || exec sleep 30`);
  await world.start({ agent: false });
  await startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await eventually(() => told().length === 1);
  await sleep(200);
  await world.agent.kill('SIGTERM');
  await world.host.dom0.rm('/local/domain/1/backend/vif/5');
  writeFileSync(join(dir, 'quick'), '');
  await startAgent();
  await eventually(() => recorded() === '[]\n');
  expect(told()).toEqual([`connected vif5.0 ${MAC}`, `left vif5.0 ${MAC}`]);
});

test('`left` cut short, and the same vif is there again when the next vifd comes: of both', async () => {
  await start();
  executable('20-slow', `[ -e ${dir}/quick ] || exec sleep 30`);
  world.host.detachVif(5, 0).catch(() => undefined);
  await eventually(() => told().length === 2);
  await world.agent.kill('SIGTERM');
  await eventually(async () => (await world.node(5, 0, 'state')) === undefined);
  world.host.attachVif(5, { bridge: 'br0', mac: MAC, devid: 0 }).catch(() => undefined);
  await world.until(5, 0, 'state', '2');
  await world.host.dom0.write('/local/domain/1/backend/vif/5/0/hotplug-status', 'connected'); // by a vif script
  writeFileSync(join(dir, 'quick'), '');
  await startAgent();
  await eventually(() => told().length === 4);
  expect(told().map((line) => line.split(' ')[0])).toEqual(['connected', 'left', 'left', 'connected']);
});

test('hooks that come while vifd runs: from then on, and nothing of what was before', async () => {
  await world.start({ agent: false });
  await startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await world.connected(5);
  await sleep(200);
  hook();
  await world.host.createGuest(6, [{ bridge: 'br0', mac: OTHER }]);
  await eventually(() => heard(OTHER));
  await world.agent.kill('SIGKILL');
  await startAgent();
  await world.host.detachVif(5, 0);
  await eventually(() => told().length === 2);
  expect(told()).toEqual([`connected vif6.0 ${OTHER}`, `left vif5.0 ${MAC}`]);
});

test('a hook that a killed vifd has left running is ended before the next one runs it', async () => {
  hook(`[ -e ${dir}/quick ] || { sleep 30; }`);
  await world.start({ agent: false });
  await startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await eventually(() => recorded().includes('"telling":"connected"'));
  await sleep(100);
  await world.agent.kill('SIGKILL');
  writeFileSync(join(dir, 'quick'), '');
  await startAgent();
  await eventually(() => told().length === 1);
  await world.agent.saw(
    ({ msg }) =>
      msg ===
      'scripts and hooks that a killed vifd had left running were killed (1); they are run again where that is still due',
  );
});

test('dom0 changes the permissions of a vif that is connected: nobody hears that it has left', async () => {
  await start();
  const path = '/local/domain/1/backend/vif/5/0';
  for (const more of ['n6', 'n7']) {
    await world.host.dom0.setPerms(path, ['n1', 'r5', more]);
    await sleep(200);
  }
  expect(told()).toEqual([`connected vif5.0 ${MAC}`]);
  expect(world.agent.log.filter(({ msg }) => msg.includes('has left'))).toEqual([]);
});

test.each(['EMFILE', 'ENOMEM'])('a hook that cannot be started (%s): a sentence, and vifd goes on', async (code) => {
  hook();
  const preload = join(dir, 'preload.cjs');
  writeFileSync(preload, PRELOAD[code as 'EMFILE' | 'ENOMEM']);
  environment({ NODE_OPTIONS: `--require=${preload}` });
  await world.start({ agent: false });
  await startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await world.connected(5);
  await world.agent.saw(
    ({ msg }) =>
      msg ===
      `vif5.0 connected: hook "10-note" cannot be run (${code}); this domain lacks memory, processes or file descriptors: see free, ps and ulimit`,
  );
  await world.host.createGuest(6, [{ bridge: 'br0', mac: OTHER }]);
  await world.connected(6);
});

test('a directory that is open to others: a sentence, and nothing is written there', async () => {
  mkdirSync(join(dir, 'run'), { mode: 0o755 });
  hook();
  await world.start({ agent: false });
  await startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await eventually(() => told().length === 1);
  await world.agent.saw(({ msg }) =>
    msg.startsWith(
      `hooks may hear twice, or not at all, of what happens around the end of this vifd: ${dir}/run is open to`,
    ),
  );
  await sleep(100);
  expect(existsSync(join(dir, 'run/hooks.json'))).toBe(false);
});
