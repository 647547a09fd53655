/** `vifd monitor` beside the agent. */
import { describe, expect, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { eventually } from './agent-process.js';
import type { MonitorProcess } from './monitor-process.js';
import { useRunDirectory, useWorld } from './world.js';

describe('vifd monitor', () => {
  useRunDirectory();
  const world = useWorld();

  const stored = (seen: MonitorProcess) => seen.events.filter((event) => event.source === 'store');

  test('shows both sides of every vif of a guest, for one watch of a quota that netback needs', async () => {
    await world.start();
    const vifs = Array.from({ length: 8 }, () => ({ bridge: 'br0' }));
    await world.host.createGuest(5, vifs);
    for (const devid of vifs.keys()) await world.until(5, devid, 'state', '4');
    const seen = world.monitor('--json');
    const frontend = (devid: number, value: string) => () =>
      stored(seen).some((event) => event.side === 'frontend' && event.devid === devid && event.value === value);
    for (const devid of vifs.keys()) await eventually(frontend(devid, '4'));
    await world.host.netfront(5, 2).close();
    await eventually(frontend(2, '6'));
    await world.host.detachVif(5, 3);
    await eventually(() => stored(seen).some(({ devid, node, value }) => devid === 3 && node === '' && value === null));
    expect(seen.stderr).toBe('');
    const watches = () => world.host.store.watches.ofDomain(NICDOM);
    const withMonitor = watches();
    seen.child.kill();
    await eventually(() => watches() === withMonitor - 2);
  });

  test('says in its first line what it listens to and how it ends, and ends so', async () => {
    await world.start();
    const seen = world.monitor();
    await eventually(() => seen.lines[0]?.includes('Ctrl-C ends it'));
    seen.child.kill('SIGINT');
    expect(await seen.exited).toEqual([0, null]);
    expect(seen.stderr).toBe('');
  });
});
