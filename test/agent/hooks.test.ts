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

const hook = (before = '') =>
  writeFileSync(
    join(dir, 'hooks/10-note'),
    `#!/bin/sh\n${before}\necho "$VIFD_EVENT $VIFD_VIF $VIFD_MAC" >>${dir}/told\n`,
    { mode: 0o755 },
  );
const told = () => (existsSync(join(dir, 'told')) ? readFileSync(join(dir, 'told'), 'utf8').trim().split('\n') : []);
const startAgent = () => world.startAgent('-c', join(dir, 'vifd.toml'));
const recorded = () => readFileSync(join(dir, 'run/hooks.json'), 'utf8');

/** Guest 5 is connected, and hooks have been told so. */
async function start(): Promise<void> {
  hook();
  await world.start({ agent: false });
  await startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await world.connected(5);
  await eventually(() => recorded().includes(MAC));
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
    await eventually(() => recorded().includes(MAC));
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
  await eventually(() => !recorded().includes(MAC));
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
    await eventually(() => recorded().includes(OTHER) && recorded().includes(MAC)); // the one of which an earlier vifd has told
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

test('a directory that is open to others: a sentence, and nothing is written there', async () => {
  mkdirSync(join(dir, 'run'), { mode: 0o755 });
  hook();
  await world.start({ agent: false });
  await startAgent();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: MAC }]);
  await eventually(() => told().length === 1);
  await world.agent.saw(({ msg }) =>
    msg.startsWith(`hooks do not hear of what happens while no vifd runs: ${dir}/run is open to`),
  );
  await sleep(100);
  expect(existsSync(join(dir, 'run/hooks.json'))).toBe(false);
});
