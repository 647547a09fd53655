/** A process whose read is blocked in a real character device ends at once: socat makes one of the simulator's socket. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { describe, expect, onTestFinished, test } from 'vitest';
import { NICDOM, startWorld, until } from './support.js';

const reason = spawnSync('socat', ['-V']).status === 0 ? undefined : 'skipped: socat is not installed';

/** Ends on SIGTERM as vifd does; `how` is what the handler runs. */
const program = (how: string) => `
  import { connectXenstore } from './client.mjs';
  const client = await connectXenstore(process.argv[2]);
  process.on('SIGTERM', async () => { ${how} });
  await client.watch('data', () => undefined);
  console.log('ready', client.peer, await client.read('domid'));
`;

function start(command: string, args: string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

/** The program on a pty that leads to the driver domain's socket, once it has spoken over it. */
async function startProgram(how: string) {
  const { directory, socket } = await startWorld();
  const device = join(directory, 'xenbus');
  const socat = start('socat', [`PTY,raw,echo=0,link=${device}`, `UNIX-CONNECT:${socket(NICDOM)}`]);
  await until(() => existsSync(device));
  const script = join(directory, 'program.mjs');
  await writeFile(script, program(how));
  const entryPoints = { client: 'src/xenstore/client.ts' };
  await build({
    entryPoints,
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
  });
  const child = start(process.execPath, [script, device]);
  const [line] = await once(child.stdout as NodeJS.ReadableStream, 'data');
  expect(String(line)).toBe(`ready ${device} 1\n`);
  await sleep(50); // the read is blocked in the thread pool now
  return { child, socat };
}

/** SIGTERM to the end of the process. */
async function terminate(child: ChildProcess, deadlineMs: number) {
  const startedAt = performance.now();
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  const [code, signal] = (await Promise.race([exit, sleep(deadlineMs, ['still running', null])])) as [unknown, unknown];
  return { code, signal, ms: performance.now() - startedAt };
}

describe.skipIf(reason !== undefined)(reason ?? 'a read blocked in a character device', () => {
  test('close() lets the process end with code 0 within a second of SIGTERM', async () => {
    const { child } = await startProgram('await client.close();');
    const { code, ms } = await terminate(child, 5000);
    expect(code).toBe(0);
    expect(ms).toBeLessThan(1000);
  });

  test('without close() it would not end, not even by process.exit()', async () => {
    const { child } = await startProgram('process.exit(0);');
    expect((await terminate(child, 1500)).code).toBe('still running');
  });

  test('the peer that goes away ends the connection and the process', async () => {
    const { child, socat } = await startProgram('');
    const exit = once(child, 'exit');
    socat.kill('SIGTERM');
    expect(await Promise.race([exit, sleep(2000, 'still running')])).toEqual([0, null]);
  });
});
