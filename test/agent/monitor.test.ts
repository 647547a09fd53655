/** `vifd monitor` beside the agent. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { MonitorEvent } from '../../src/commands/monitor.js';
import { NICDOM } from '../../src/simulator/host.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

describe('vifd monitor', () => {
  const world = useWorld();

  function monitor(...args: string[]) {
    const words = ['dist/main.js', 'monitor', '--xenstore', world.host.socketOf(NICDOM), ...args];
    const child: ChildProcess = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    const seen = { child, lines: [] as string[], stderr: '' };
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => seen.lines.push(line));
    child.stderr?.on('data', (bytes) => {
      seen.stderr += bytes;
    });
    return seen;
  }
  const events = ({ lines }: { lines: string[] }) => lines.map((line) => JSON.parse(line) as MonitorEvent);

  test('shows both sides of every vif of a guest, for one watch of a quota that netback needs', async () => {
    await world.start();
    const vifs = Array.from({ length: 8 }, () => ({ bridge: 'br0' }));
    await world.host.createGuest(5, vifs);
    for (const devid of vifs.keys()) await world.until(5, devid, 'state', '4');
    const seen = monitor('--json');
    const frontend = (devid: number, value: string) => () =>
      events(seen).some((event) => event.side === 'frontend' && event.devid === devid && event.value === value);
    for (const devid of vifs.keys()) await eventually(frontend(devid, '4'));
    await world.host.netfront(5, 2).close();
    await eventually(frontend(2, '6'));
    await world.host.detachVif(5, 3);
    await eventually(() => events(seen).some(({ devid, node, value }) => devid === 3 && node === '' && value === null));
    expect(seen.stderr).toBe('');
    const watches = () => world.host.store.watches.ofDomain(NICDOM);
    const withMonitor = watches();
    seen.child.kill();
    await eventually(() => watches() === withMonitor - 2);
  });

  test('says in its first line what it listens to and how it ends, and ends so', async () => {
    await world.start();
    const seen = monitor();
    await eventually(() => seen.lines[0]?.includes('Ctrl-C ends it'));
    const ended = new Promise((resolve) => seen.child.once('exit', (code, signal) => resolve([code, signal])));
    seen.child.kill('SIGINT');
    expect(await ended).toEqual([0, null]);
    expect(seen.stderr).toBe('');
  });
});
