/** Disks that are full, a /run that is read-only, and clocks that jump. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ip, showLink } from '../netns/namespace.js';
import { measured } from '../support/measured.js';
import { eventually } from './agent-process.js';
import { environment, fill, scratch, tinyDisk } from './recovery.js';
import { useWorld } from './world.js';

const world = useWorld();

async function attaches(fault: string, domid = 5): Promise<void> {
  await measured(fault, 1_000, async () => {
    await world.host.createGuest(domid, [{ bridge: 'br0' }]);
    await world.connected(domid);
  });
}

const warns = (pattern: RegExp) => world.agent.saw(({ level, msg }) => level === 'warn' && pattern.test(msg));

test('/run is read-only: no socket, no FIFO, no pid file, a sentence for each, and vifs are attached', async () => {
  const disk = tinyDisk('64k');
  execFileSync('mount', ['-o', 'remount,ro', disk]);
  environment({ VIFD_RUN_DIR: join(disk, 'vifd') });
  await world.start({ agent: false });
  await world.startAgent('--pidfile', join(disk, 'vifd.pid'), '--metrics-file', join(disk, 'vifd.prom'));
  await attaches('/run read-only');
  await warns(/^vifd status and monitor cannot ask this vifd: \S+ cannot be made \(EROFS\); make it/);
  await warns(/^vif scripts cannot ask this vifd and do the work themselves: \S+ cannot be made \(EROFS\)/);
  await warns(/^the pid file \S+ cannot be written \(EROFS\)/);
  await warns(/^the metrics file \S+ cannot be written \(EROFS\)/);
});

test('/run becomes read-only while vifd runs: it goes on, and ends as ever', async () => {
  const disk = tinyDisk('64k');
  environment({ VIFD_RUN_DIR: join(disk, 'vifd') });
  await world.start({ agent: false });
  await world.startAgent('--metrics-file', join(disk, 'vifd.prom')); // a pid file, which is open, would keep it writable
  await eventually(() => existsSync(join(disk, 'vifd', 'reader')) && existsSync(join(disk, 'vifd.prom')));
  // Not while one of them is being written.
  await eventually(() => spawnSync('mount', ['-o', 'remount,ro', disk], { stdio: 'ignore' }).status === 0);
  await attaches('/run becomes read-only');
  expect(await world.agent.kill('SIGTERM')).toEqual({ code: 0, signal: null });
});

test('/run is full', async () => {
  const disk = tinyDisk('64k');
  environment({ VIFD_RUN_DIR: join(disk, 'vifd') });
  mkdirSync(join(disk, 'vifd'), { mode: 0o700 });
  fill(disk);
  await world.start({ agent: false });
  await world.startAgent('--pidfile', join(disk, 'vifd.pid'));
  await attaches('/run full');
  await warns(/^the pid file \S+ cannot be written \(ENOSPC\)/);
  await warns(/^vif scripts cannot ask this vifd .*ENOSPC/);
  expect(await world.agent.kill('SIGTERM')).toEqual({ code: 0, signal: null });
});

test('the disk of the metrics file is full: said once, and the file comes when there is room', {
  timeout: 60_000,
}, async () => {
  const disk = tinyDisk('64k');
  const file = join(disk, 'vifd.prom');
  const free = fill(disk);
  await world.start({ agent: false });
  await world.startAgent('--metrics-file', file);
  await warns(/^the metrics file \S+ cannot be written \(ENOSPC\); there is no room on its disk: free some$/);
  await attaches('disk of the metrics file full');
  expect(existsSync(file)).toBe(false);
  free();
  await measured('disk of the metrics file has room again: written', 21_000, async () => {
    await eventually(
      () => existsSync(file) && readFileSync(file, 'utf8').includes('vifd_vifs{state="connected"'),
      22_000,
    );
  });
  expect(existsSync(`${file}.new`)).toBe(false);
});

test('the disk of the leases is full: routed vifs work, DHCP comes when there is room', {
  timeout: 60_000,
}, async () => {
  const disk = tinyDisk('64k');
  execFileSync('chmod', ['755', disk]);
  const free = fill(disk);
  environment({ VIFD_STATE_DIR: join(disk, 'state') });
  const file = join(scratch(), 'vifd.toml');
  writeFileSync(file, '[vif]\nmode = "nat"\ndhcp = true\n');
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  await measured('disk of the leases full: attach', 1_500, async () => {
    await world.host.createGuest(5, [{ ip: '192.0.2.7', mac: '00:16:3e:00:00:01', nodes: { bridge: undefined } }]);
    await world.connected(5);
  });
  await warns(/guests get no address: .*(ENOSPC|no space)/i);
  free();
  await measured('disk of the leases has room again: dnsmasq serves', 10_000, () =>
    world.agent.saw(({ msg }) => msg.startsWith('dnsmasq answers DHCP on vif5.0'), 12_000),
  );
});

/** Clocks that a file moves: its number is added to the wall clock, in ms, and to what performance.now() says. */
const CLOCKS = `
const fs = require('node:fs');
const moved = () => Number(fs.existsSync(process.env.CLOCK) ? fs.readFileSync(process.env.CLOCK, 'utf8') : 0);
const { now } = Date;
const Real = Date;
globalThis.Date = class extends Real { constructor(...a) { a.length ? super(...a) : super(now() + moved()); } static now() { return now() + moved(); } };
`;

test('the wall clock jumps, a year ahead and back: nothing but the time in the log changes', async () => {
  const dir = scratch();
  writeFileSync(join(dir, 'clocks.cjs'), CLOCKS);
  environment({ NODE_OPTIONS: `--require ${join(dir, 'clocks.cjs')}`, CLOCK: join(dir, 'moved') });
  await world.start();
  await world.host.createGuest(4, [{ bridge: 'br0' }, { bridge: 'br9' }]);
  await world.connected(4);
  for (const [domid, years] of [
    [5, 1],
    [6, -20],
  ] as const) {
    writeFileSync(join(dir, 'moved'), String(years * 365 * 86_400_000));
    await attaches(`wall clock jumps by ${years} years`, domid);
    ip('link', 'set', 'vif4.0', 'nomaster');
    await eventually(() => showLink('vif4.0')?.master === 'br0', 1_000);
    expect(await world.host.detachVif(domid, 0)).toMatchObject({ ok: true, errors: [] });
  }
  ip('link', 'add', 'br9', 'type', 'bridge');
  await measured('after the jumps a failed vif recovers', 1_000, () => world.connected(4, 1));
  const times = world.agent.log.map((line) => new Date((line as unknown as { time: string }).time).getFullYear());
  expect(new Set(times).size).toBe(3); // the jumps were seen
});

test('no source measures a duration by the wall clock', () => {
  const files = (readdirSync('src', { recursive: true }) as string[]).filter((name) => name.endsWith('.ts'));
  const uses = files.filter((name) => /Date\.now|new Date\(\)/.test(readFileSync(join('src', name), 'utf8')));
  // The time in each line of the log, when the configuration was read, and when the process was started.
  expect(uses.sort()).toEqual(['config/live.ts', 'logger.ts', 'service/metrics.ts']);
});
