/** `vifd monitor` beside the agent, xenstore and the kernel: one time line, its record, and the replay of that. */
import { copyFileSync, readFileSync, statSync } from 'node:fs';
import { execaSync } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { vethLinks } from '../../src/simulator/links.js';
import { ip } from '../netns/namespace.js';
import { vifUevent, withUevents } from '../netns/uevents.js';
import { temporaryDirectory } from '../store/support.js';
import { eventually } from './agent-process.js';
import type { MonitorProcess } from './monitor-process.js';
import { useRunDirectory, useWorld } from './world.js';

useRunDirectory();
const world = useWorld();
const start = () => world.start({ netback: { links: withUevents(vethLinks({ txqueuelen: 32 })) } });
/** The indexes of the first line that each finds, which has to be behind that of the one before. */
const inOrder = (lines: readonly string[], ...such: RegExp[]) => {
  const found: number[] = [];
  for (const one of such) found.push(lines.findIndex((line, i) => i > (found.at(-1) ?? -1) && one.test(line)));
  expect(found, `${such.join('\n')}\nin\n${lines.join('\n')}`).not.toContain(-1);
};

/** Two vifs come, one for a bridge that comes later; another bridge changes, and one vif leaves. */
async function life(seen: MonitorProcess): Promise<void> {
  await seen.has(/here now/);
  await world.host.createGuest(5, [{ bridge: 'br0' }, { bridge: 'br_dmz' }]);
  await world.until(5, 0, 'state', '4');
  await seen.has(/hotplug-error = /);
  ip('link', 'add', 'br_dmz', 'up', 'type', 'bridge');
  await world.until(5, 1, 'state', '4');
  await seen.has(/ br0 .* carrier$/);
  ip('link', 'set', 'br0', 'mtu', '1400');
  await seen.has(/ br0 .*mtu 1500 -> 1400/);
  await world.host.detachVif(5, 0);
  await seen.has(/\(directory\) {2}the directory is gone/);
  await seen.has(/ vif5\.0 {2}gone$/);
}

test('xenstore, the kernel and its links in one line of time, and the same from the record', async () => {
  await start();
  const record = `${temporaryDirectory()}/a.record`;
  const seen = world.monitor('--record', record);
  await life(seen);
  seen.child.kill('SIGINT');
  expect(await seen.exited).toEqual([0, null]);
  // Between two sources the order is that of arrival, which on a busy machine is nobody's; within each it is the kernel's.
  const order = (...such: RegExp[]) => inOrder(seen.lines, ...such);
  order(/^listening on .*uevents.*interfaces and bridges.*log; changes nothing; Ctrl-C ends it$/, / vif5\.0 /);
  order(
    / store {3}vif5\.0 {2}backend {3}state = "2" {2}InitWait/,
    / store {3}vif5\.0 {2}backend {3}hotplug-status = "connected"/,
    / store {3}vif5\.0 {2}backend {3}\(directory\) {2}the directory is gone/,
  );
  order(
    / link {4}vif5\.0 {2}made: down, no carrier, mtu 1500, qlen 32$/,
    / link {4}vif5\.0 {2}joined br0$/,
    / link {4}br0 {5}is here: up, .*mtu 1500, qlen 1000$/,
    / link {4}vif5\.0 {2}qlen 32 -> 1000$/,
    / link {4}vif5\.1 {2}joined br_dmz$/,
    / link {4}br0 {5}mtu 1500 -> 1400$/,
    / link {4}vif5\.0 {2}gone$/,
  );
  order(/ uevent {2}vif5\.0 {2}offline {2}xen-netback lets the interface go$/, / uevent {2}vif5\.0 {2}remove {2}/);
  order(
    / vifd {4}vif5\.1 {2}error: vif5\.1: bridge "br_dmz" does not exist; bridges here: br0 {2}\[attach /,
    / vifd {4}vif5\.1 {2}connected vif5\.1 to br_dmz in /,
  );
  order(/ vifd {4}vif5\.0 {2}connected vif5\.0 to br0 in [\d.]+ ms {2}\[attach [0-9a-f]{4}-\d+\]$/);
  expect(seen.stderr).toBe('');
  inOrder(seen.lines, / uevent {2}vif5\.0 {2}add /, / uevent {2}vif5\.0 {2}online {2}the interface vif5\.0 is there/);
  const times = seen.lines.flatMap((line) => /^[\d:.]{12}(?= )/.exec(line) ?? []);
  expect(times).toEqual([...times].sort());
  expect(statSync(record).mode & 0o777).toBe(0o600);
  const replayed = execaSync(process.execPath, ['dist/main.js', 'monitor', '--replay', record]);
  const [head, ...others] = replayed.stdout.split('\n');
  expect(head).toMatch(/^recorded by vifd \d+\.\d+\.\d+ on Linux \d+\..* from \d{4}-.*Z on$/);
  expect(others).toEqual(seen.lines.slice(1));
  expect(replayed.stderr).toBe('');
  if (process.env.VIFD_NEW_FIXTURE) copyFileSync(record, process.env.VIFD_NEW_FIXTURE); // see test/fixtures
  expect(readFileSync(record, 'utf8').split('\n')[0]).toMatch(/"vifd":"\d+\.\d+\.\d+","kernel":"\d+\./);
});

test('without an agent that is said once, and the next one that starts is followed', async () => {
  await start();
  await world.agent.kill('SIGKILL');
  const seen = world.monitor('--json');
  await eventually(() => seen.stderr !== '');
  await world.startAgent();
  await eventually(() => seen.stderr.includes('from here on'));
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await seen.has(/"source":"vifd","domid":5/);
  const decision = seen.events.find(({ source, domid }) => source === 'vifd' && domid === 5);
  expect(decision).toMatchObject({
    version: 1,
    domid: 5,
    devid: 0,
    attach: expect.stringMatching(/^[0-9a-f]{4}-\d+$/),
    level: 'info',
    meaning: expect.stringMatching(/^connected vif5\.0 to br0/),
    record: { ifname: 'vif5.0', bridge: 'br0', did: expect.anything() },
  });
  expect(seen.stderr).toMatch(
    /^vifd: the agent's decisions are not shown: no vifd answers on \S+\/status \(ECONNREFUSED\); start vifd run, or .*\nvifd: the agent's decisions are shown from here on\n$/,
  );
});

test('--only chooses, without xenstore if that is not chosen', async () => {
  await start();
  const seen = world.monitor('--json', '--only', 'uevent,link', '--xenstore', '/nowhere');
  ip('link', 'add', 'vif7.1', 'type', 'veth', 'peer', 'name', 'guest');
  await seen.has(/"ifname":"vif7.1"/);
  await vifUevent('change', 7, 1, 'vif7.1');
  await seen.has(/"action":"change"/);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await seen.has(/"ifname":"vif5.0"/);
  await world.connected(5);
  const sources = new Set(seen.events.map(({ source }) => source));
  expect(sources).toEqual(new Set(['link', 'uevent']));
  expect(seen.events.find(({ source }) => source === 'uevent')).toMatchObject({
    version: 1,
    domid: 7,
    devid: 1,
    action: 'change',
    path: 'backend/vif/7/1',
    ifname: 'vif7.1',
    time: expect.stringMatching(/^\d{4}-.*Z$/),
  });
});

test('a port that leaves its bridge, a new name and a link that others made are what they are', async () => {
  await start();
  ip('link', 'add', 'vif7.1', 'type', 'veth', 'peer', 'name', 'guest');
  ip('link', 'set', 'vif7.1', 'master', 'br0');
  const seen = world.monitor('--only', 'link');
  await seen.has(/ br0 {5}is here/);
  ip('link', 'set', 'vif7.1', 'nomaster');
  ip('link', 'set', 'vif7.1', 'name', 'web');
  ip('link', 'set', 'web', 'mtu', '1300');
  ip('link', 'add', 'other', 'type', 'bridge');
  ip('link', 'del', 'web');
  await seen.has(/ gone$/);
  expect(seen.lines.filter((line) => / link /.test(line)).map((line) => line.slice(22))).toEqual([
    'vif7.1  is here: down, no carrier, mtu 1500, qlen 1000, in br0',
    expect.stringMatching(/^br0 {5}is here: up, /),
    'vif7.1  left br0',
    expect.stringMatching(/^br0 {5}address [0-9a-f:]+ -> [0-9a-f:]+$/),
    'vif7.1 (web)  renamed from vif7.1',
    'vif7.1 (web)  mtu 1500 -> 1300',
    'vif7.1 (web)  gone',
  ]);
});

test('a record on a full disk ends with a sentence, and the monitor goes on', async () => {
  await start();
  const directory = temporaryDirectory();
  execaSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', directory]);
  onTestFinished(() => void execaSync('umount', [directory]));
  const seen = world.monitor('--only', 'link', '--record', `${directory}/r`);
  await seen.has(/^listening/);
  for (let i = 0; i < 20; i++) ip('link', 'add', `vif7.${i}`, 'type', 'veth', 'peer', 'name', `guest${i}`);
  await seen.has(/ vif7\.19 {2}made/);
  expect(seen.stderr).toBe(
    `vifd: the record ${directory}/r cannot be written any more (ENOSPC) and ends here; the monitor goes on without it\n`,
  );
  const replayed = execaSync(process.execPath, ['dist/main.js', 'monitor', '--replay', `${directory}/r`]);
  expect(replayed.stdout).toMatch(/ vif7\.0 {2}made/);
  expect(replayed.stderr).toMatch(
    /^vifd: line \d+ of \S+ is cut off: the recording ended there; nothing else is lost$/,
  );
  seen.child.kill('SIGTERM');
  await seen.exited;
});

test('when the reader of kernel events dies that is said once, and a new one takes over', async () => {
  await start();
  const seen = world.monitor('--only', 'link,uevent');
  await seen.has(/^listening/);
  const { stdout } = execaSync('pgrep', ['-P', String(seen.child.pid)]);
  process.kill(Number(stdout), 'SIGABRT');
  await eventually(() => seen.stderr.includes('shown again'));
  expect(seen.stderr).toMatch(
    /^vifd: link changes and the kernel's uevents are not shown: they came faster than they could be read\n/,
  );
  expect(seen.stderr.match(/not shown/g)).toHaveLength(1);
  ip('link', 'add', 'vif7.1', 'type', 'veth', 'peer', 'name', 'guest');
  await seen.has(/ link {4}vif7\.1 {2}made/);
});
