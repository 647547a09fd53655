/** Processes that end when nobody expects it: vifd while a script of the admin's runs, and the children of vifd. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execaSync } from 'execa';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { killGroup } from '../../src/child.js';
import { identityOf } from '../../src/processes.js';
import { endOrphans } from '../../src/service/orphans.js';
import { AgentProcess, eventually } from '../agent/agent-process.js';
import { useWorld } from '../agent/world.js';
import { ip, showLink } from '../netns/namespace.js';
import { measured } from '../support/measured.js';

const world = useWorld();
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-killed-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
});
const calls = (): string[] =>
  existsSync(join(dir, 'calls')) ? readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n') : [];

async function start(script: string): Promise<void> {
  writeFileSync(join(dir, 'vif-mine'), `#!/bin/sh\necho $1 >>${dir}/calls\n${script}\necho $1-ended >>${dir}/calls\n`, {
    mode: 0o755,
  });
  writeFileSync(join(dir, 'vifd.toml'), `[script.vif-mine]\nfile = "${dir}/vif-mine"\n`);
  await world.start({ agent: false });
  await startAgent();
}
const startAgent = () => world.startAgent('-c', join(dir, 'vifd.toml'));
const GUEST = { bridge: 'br0', script: '/etc/xen/scripts/vif-mine' };

/** Or waits only for its parent, which is not vifd any more, to hear of it. */
const hasEnded = (pid: string): boolean =>
  !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');

test('a script that outlives a killed vifd has no word after that of the next one', async () => {
  await start(`[ $1 = offline ] || { echo $$ >${dir}/pid; while [ ! -e ${dir}/go ]; do sleep 0.1; done; }`);
  await world.host.createGuest(5, [GUEST]);
  const pid = () => (existsSync(join(dir, 'pid')) ? readFileSync(join(dir, 'pid'), 'utf8').trim() : '');
  await eventually(() => pid() !== '');
  const script = pid();
  await world.agent.kill('SIGKILL');
  expect(hasEnded(script)).toBe(false);
  await measured('vifd killed while a script runs: its next start, and the end of that script', 5_000, async () => {
    await startAgent();
    await eventually(() => hasEnded(script));
  });
  expect(await world.host.destroyGuest(5)).toMatchObject({ ok: true });
  writeFileSync(join(dir, 'go'), '');
  await sleep(500); // the first one would end by now
  expect(calls().at(-1)).toBe('offline-ended');
  expect(calls()).not.toContain('online-ended');
});

/** As vifd runs a script: in a group of its own, with these words. */
async function scriptOf(identity: string): Promise<{ readonly ended: boolean }> {
  const state = { ended: false };
  const child = spawn('sh', ['-c', 'echo; exec >&-; sleep 60; :', 'online', 'type_if=vif'], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, VIFD_PID: identity },
  });
  child.once('exit', () => {
    state.ended = true;
  });
  onTestFinished(() => void killGroup(child.pid));
  await once(child.stdout, 'data'); // it has its environment
  return state;
}

test('a script of a vifd whose process id is another’s by now is an orphan, and one of a vifd that lives is none', async () => {
  const own = identityOf(process.pid) as string;
  const living = await scriptOf(own);
  const orphan = await scriptOf(`${process.pid} ${Number(own.split(' ')[1]) - 1}`);
  expect(await endOrphans()).toBe(1);
  await eventually(() => orphan.ended);
  expect(living.ended).toBe(false);
});

test('a script that somebody kills: an error that says so, and it is run again', async () => {
  await start(`[ $1 = offline ] || [ -e ${dir}/once ] || { : >${dir}/once; kill -KILL $$; }`);
  await measured('a script killed: run again, and the vif connected', 5_000, async () => {
    await world.host.createGuest(5, [GUEST]);
    await world.agent.saw(({ level, msg }) => level === 'error' && /vif-mine .*SIGKILL/.test(msg));
    await world.connected(5);
  });
  expect(calls()).toEqual(['online', 'online', 'online-ended']);
});

test('what a script has left behind for good goes on', async () => {
  await start(`[ $1 = offline ] || { setsid sh -c 'while sleep 0.2; do date +%s%N >${dir}/alive; done' </dev/null >/dev/null 2>&1 & }
echo $! >${dir}/daemon`);
  await world.host.createGuest(5, [GUEST]);
  await world.connected(5);
  onTestFinished(() => void process.kill(Number(readFileSync(join(dir, 'daemon'), 'utf8')), 'SIGKILL'));
  await world.agent.kill('SIGKILL');
  await startAgent();
  const before = readFileSync(join(dir, 'alive'), 'utf8');
  await eventually(() => readFileSync(join(dir, 'alive'), 'utf8') > before, 2_000);
});

test('ip monitor, killed again and again: drift while nobody listens is repaired, and drift later as well', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', mtu: 1400 }]);
  await world.until(5, 0, 'state', '4');
  for (let round = 0; round < 3; round++) {
    const monitor = await eventually(() => childOf(world.agent.pid, 'monitor'));
    process.kill(monitor, 'SIGKILL');
    ip('link', 'set', 'vif5.0', 'txqueuelen', '32');
    await measured('ip monitor killed: drift meanwhile is repaired', 10_000, () =>
      eventually(() => showLink('vif5.0')?.txqlen === 1000, 10_000),
    );
  }
  await eventually(() => childOf(world.agent.pid, 'monitor'));
  ip('link', 'set', 'vif5.0', 'nomaster');
  await eventually(() => showLink('vif5.0')?.master === 'br0', 10_000);
});

function childOf(parent: number, word: string): number | undefined {
  const pids = execaSync('pgrep', ['-P', String(parent), '-f', word], { reject: false }).stdout.split('\n');
  return pids[0] ? Number(pids[0]) : undefined;
}

test('nft, killed with its rules in hand: the guard is in force all the same, and before the vif is up', async () => {
  const real = execaSync('which', ['nft']).stdout;
  const wrapper = `#!/bin/sh
[ "$1" = -f ] && [ ! -e ${dir}/killed ] || exec ${real} "$@"
cat >/dev/null; : >${dir}/killed; kill -KILL $$
`;
  writeFileSync(join(dir, 'nft'), wrapper, { mode: 0o755 });
  AgentProcess.prefix = ['env', `PATH=${dir}:${process.env.PATH}`];
  onTestFinished(() => {
    AgentProcess.prefix = [];
  });
  execaSync('nft', ['flush', 'ruleset']);
  await world.start();
  await measured('nft killed with a guard in hand: the vif is connected, with its guard', 10_000, async () => {
    await world.host.createGuest(5, [{ bridge: 'br0', ip: '192.0.2.7' }]);
    await world.connected(5, 0, 10_000);
  });
  expect(existsSync(join(dir, 'killed'))).toBe(true);
  expect(execaSync('nft', ['list', 'table', 'bridge', 'vifd']).stdout).toMatch(/"vif5\.0" : jump guard_/);
  expect(world.agent.log.filter(({ msg }) => msg.startsWith('repaired'))).toEqual([]); // it was there from the start
});
