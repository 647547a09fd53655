/** A log that nobody takes stops nothing, and says what is missing in it when it is taken again. */

import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { LogOutput } from '../../src/service/log-output.js';
import { NICDOM } from '../../src/simulator/host.js';
import { measured } from '../support/measured.js';
import { eventually } from './agent-process.js';
import { fill, runBy, scratch, tinyDisk } from './recovery.js';
import { useWorld } from './world.js';

const world = useWorld();

/** A host whose agent has been ended: the test has one of its own. */
async function host(): Promise<string> {
  await world.start();
  await world.agent.kill('SIGTERM');
  return world.host.socketOf(NICDOM);
}

async function attaches(fault: string): Promise<void> {
  await measured(fault, 2_500, async () => {
    await world.host.createGuest(5, [{ bridge: 'br0' }]);
    await world.until(5, 0, 'state', '4');
  });
}

async function ends(agent: ChildProcess): Promise<unknown> {
  const ended = new Promise((resolve) => agent.once('exit', (code, signal) => resolve({ code, signal })));
  agent.kill('SIGTERM');
  return ended;
}

/** A pipe with no room left; the test reads it, if anybody. */
function fullPipe(): { reader: number; writer: number } {
  const fifo = join(scratch(), 'log');
  execFileSync('mkfifo', [fifo]);
  const reader = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  const writer = openSync(fifo, constants.O_WRONLY);
  onTestFinished(() => [reader, writer].forEach(closeSync));
  while (tryWrite(reader, '.'.repeat(1024)) > 0);
  while (tryWrite(reader, '.') > 0);
  return { reader, writer };
}

function tryWrite(fd: number, text: string): number {
  try {
    return writeSync(fd, text);
  } catch {
    return 0;
  }
}

function drain(fd: number): string {
  const buffer = Buffer.alloc(1 << 16);
  try {
    return buffer.toString('latin1', 0, readSync(fd, buffer)).replaceAll('.', '');
  } catch {
    return '';
  }
}

/** script(1), which waits itself, does not fetch a process that has ended. */
function stateOf(pid: number): string {
  return existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
}

test('a pipe whose reader has gone', async () => {
  const agent = runBy('exec "$@"', await host(), 'pipe');
  let text = '';
  agent.stdout?.on('data', (bytes) => {
    text += bytes;
  });
  await eventually(() => text.includes('ready on'));
  agent.stdout?.destroy();
  await attaches('log pipe closed');
  expect(await ends(agent)).toEqual({ code: 0, signal: null });
});

test('a pipe that is full and that nobody reads; what was kept comes when somebody does', async () => {
  const { reader, writer } = fullPipe();
  const agent = runBy('exec "$@"', await host(), writer);
  await attaches('log pipe full, never read');
  let text = '';
  await eventually(() => {
    text += drain(reader);
    return text.includes('"domid":5') && text.includes('ready on');
  });
  const { code } = (await ends(agent)) as { code: number };
  expect(code).toBe(0);
});

test('others that write to the same pipe still wait for its reader, also when vifd is killed', async () => {
  const { reader, writer } = fullPipe();
  const agent = runBy('exec "$@"', await host(), writer);
  await attaches('log pipe shared with others');
  /** Of the open file, so everybody's. */
  const waits = () => {
    const [, flags = ''] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${writer}`, 'utf8')) ?? [];
    return (Number.parseInt(flags, 8) & constants.O_NONBLOCK) === 0;
  };
  expect(waits()).toBe(true);
  await eventually(() => drain(reader).includes('ready on'));
  expect(waits()).toBe(true);
  agent.kill('SIGKILL');
  await once(agent, 'exit');
  expect(waits()).toBe(true);
});

test('a pipe that stays full does not keep vifd from ending', async () => {
  const { writer } = fullPipe();
  const agent = runBy('exec "$@"', await host(), writer);
  await attaches('log pipe full at the end');
  await measured('vifd stop with its log pipe full', 1_000, async () => {
    expect(await ends(agent)).toEqual({ code: 0, signal: null });
  });
});

test('a terminal that takes nothing, as a serial console with its flow stopped', async () => {
  const { writer } = fullPipe();
  // script(1) gives vifd a terminal and writes what comes from it into the pipe, where it waits for ever.
  expect(spawnSync('script', ['--version']).status).toBe(0);
  const pidfile = join(scratch(), 'pid');
  const line = 'words="$*"; exec script -q -c "exec $words" /dev/null';
  runBy(`set -- "$@" --pidfile ${pidfile} --log-format json; ${line}`, await host(), writer);
  for (let domid = 10; domid < 25; domid++) await world.host.createGuest(domid, [{ bridge: 'br0' }]);
  for (let domid = 10; domid < 25; domid++) await world.connected(domid);
  await attaches('console blocked');
  const pid = Number(readFileSync(pidfile, 'utf8'));
  process.kill(pid, 'SIGTERM');
  await eventually(() => / [ZX] |^$/.test(stateOf(pid)), 1_000);
});

test('a file on a disk that is full; when there is room again the log says how much is missing', async () => {
  const disk = tinyDisk('64k');
  const log = join(disk, 'log');
  const agent = runBy(`exec "$@" >>${log}`, await host(), 'pipe');
  await eventually(() => existsSync(log) && readFileSync(log, 'utf8').includes('ready on'));
  const free = fill(disk, log);
  await attaches('disk of the log file full');
  free();
  await world.host.detachVif(5, 0);
  await eventually(() => readFileSync(log, 'utf8').includes('are lost here: ENOSPC'));
  expect(readFileSync(log, 'utf8')).toMatch(
    /^\{"level":"warn","time":"[^"]+","msg":"\d+ lines of this log are lost here: ENOSPC"\}$/m,
  );
  expect(await ends(agent)).toEqual({ code: 0, signal: null });
});

test('no more is kept than that, and what is lost is counted where it is missing', async () => {
  const { reader, writer } = fullPipe();
  const fd = openSync(`/proc/self/fd/${writer}`, constants.O_WRONLY | constants.O_NONBLOCK);
  onTestFinished(() => closeSync(fd));
  const output = new LogOutput((lines, why) => `lost ${lines}: ${why}\n`, fd);
  let written = 0;
  const write = (text: string) => {
    output.write(text);
    written++;
  };
  while (written < 3_000) write(`line ${written} ${'x'.repeat(200)}\n`);
  let text = '';
  await eventually(() => {
    text += drain(reader);
    if (!text.includes('lost')) write('one more\n');
    return text.endsWith('one more\n');
  });
  const lost = Number(/^lost (\d+): nobody read it$/m.exec(text)?.[1]);
  expect(lost).toBeGreaterThan(1_000);
  expect(text.match(/^(line \d+ x{200}|one more)$/gm)?.length).toBe(written - lost);
});
