/** `vifd monitor` beside the agent, and the child that tells of link changes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { MonitorEvent } from '../../src/commands/monitor.js';
import { LinkMonitor } from '../../src/network/link-monitor.js';
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
    const before = world.host.store.watches.ofDomain(NICDOM);
    const seen = monitor('--json');
    const frontend = (devid: number, value: string) => () =>
      events(seen).some((event) => event.side === 'frontend' && event.devid === devid && event.value === value);
    for (const devid of vifs.keys()) await eventually(frontend(devid, '4'));
    expect(world.host.store.watches.ofDomain(NICDOM) - before).toBe(2);
    await world.host.netfront(5, 2).close();
    await eventually(frontend(2, '6'));
    await world.host.detachVif(5, 3);
    await eventually(() => events(seen).some(({ devid, node, value }) => devid === 3 && node === '' && value === null));
    expect(seen.stderr).toBe('');
  });

  test('says in its first line what it listens to and how it ends, and ends so', async () => {
    await world.start();
    const seen = monitor();
    await eventually(() => seen.lines[0]?.endsWith('Ctrl-C ends it'));
    const ended = new Promise((resolve) => seen.child.once('exit', (code, signal) => resolve([code, signal])));
    seen.child.kill('SIGINT');
    expect(await ended).toEqual([0, null]);
    expect(seen.stderr).toBe('');
  });
});

describe('the child that tells of link changes', () => {
  async function withIp(script: string, during: (gaps: () => number, warnings: () => string[]) => Promise<void>) {
    const directory = await mkdtemp(join(tmpdir(), 'vifd-ip-'));
    await writeFile(join(directory, 'ip'), `#!/bin/sh\n${script}\n`);
    await chmod(join(directory, 'ip'), 0o755);
    const { PATH } = process.env;
    process.env.PATH = `${directory}:${PATH}`;
    const warnings: string[] = [];
    let gaps = 0;
    const log = pino({ level: 'warn' }, { write: (line: string) => void warnings.push(JSON.parse(line).msg) });
    const links = new LinkMonitor({ onLink: () => undefined, onGap: () => gaps++ }, log);
    links.start();
    try {
      await during(
        () => gaps,
        () => warnings,
      );
    } finally {
      links.stop();
      process.env.PATH = PATH;
      await rm(directory, { recursive: true });
    }
  }

  test('has its last words in the warning', () =>
    withIp('echo "Cannot open netlink socket" >&2; exit 1', async (_, warnings) => {
      await eventually(() => warnings().some((line) => line.includes('exit code 1, "Cannot open netlink socket"')));
    }));

  test('is believed only when it listens: what happened until then is looked for', () =>
    withIp('exec sleep 60', async (gaps) => {
      expect(gaps()).toBe(1);
      await eventually(() => gaps() === 2, 1_000);
      await sleep(400);
      expect(gaps()).toBe(2);
    }));
});
