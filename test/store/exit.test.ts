/** A process whose read is blocked in a real character device ends at once: socat makes one of the simulator's socket. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { describe, expect, onTestFinished, test } from 'vitest';
import { encodePacket, type Packet, Parser, strings, XS } from '../../src/xenstore/wire.js';
import { NICDOM, startPeer, startWorld, temporaryDirectory, until } from './support.js';

const reason = spawnSync('socat', ['-V']).status === 0 ? undefined : 'skipped: socat is not installed';
/** `vifd run` must not see this machine's interfaces. */
const UNSHARE = process.getuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];
const noNamespace =
  spawnSync('unshare', [...UNSHARE, 'true']).status === 0
    ? undefined
    : 'skipped: no network namespace can be made here';

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

/** A character device at `device` that leads to this socket. */
async function startDevice(device: string, socket: string): Promise<ChildProcess> {
  const socat = start('socat', [`PTY,raw,echo=0,link=${device}`, `UNIX-CONNECT:${socket}`]);
  await until(() => existsSync(device));
  return socat;
}

/** The program on a pty that leads to the driver domain's socket, once it has spoken over it. */
async function startProgram(how: string) {
  const { directory, socket } = await startWorld();
  const device = join(directory, 'xenbus');
  const socat = await startDevice(device, socket(NICDOM));
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

/** Answers once, refuses the watch, and says nothing more: the session ends, and nothing wakes its read. */
function fallSilent({ type, reqId }: Packet): Uint8Array {
  if (type === XS.WATCH) return encodePacket({ type: XS.ERROR, reqId, txId: 0, payload: strings('EINVAL') });
  return reqId === 1 ? encodePacket({ type, reqId, txId: 0, payload: strings('1') }) : new Uint8Array(0);
}

function startAgent(xenstore: string) {
  const child = start('unshare', [...UNSHARE, process.execPath, 'dist/main.js', 'run', '--xenstore', xenstore]);
  let log = '';
  child.stdout?.on('data', (bytes) => {
    log += bytes;
  });
  const says = (words: string, timeoutMs = 5000) => until(() => log.includes(words), timeoutMs);
  return { child, says };
}

/** `vifd run` once it has closed a device whose read stays blocked. */
async function startBlockedAgent() {
  let answer = () => {};
  const peer = await startPeer((socket) => {
    const parser = new Parser('vifd');
    answer = () => void socket.write(encodePacket({ type: XS.READ, reqId: 3, txId: 0, payload: strings('late') }));
    socket.on('data', (bytes) => {
      for (const request of parser.push(bytes)) socket.write(fallSilent(request));
    });
  });
  const device = join(temporaryDirectory(), 'xenbus');
  await startDevice(device, peer);
  const { child, says } = startAgent(device);
  await says('xenstored does not answer, and a read of it is still blocked; vifd goes on when it answers');
  return { child, device, says, answer: () => answer() };
}

describe.skipIf((reason ?? noNamespace) !== undefined)(
  reason ?? noNamespace ?? 'the agent after a session whose read stays blocked',
  () => {
    test('ends within 2 s of SIGTERM, by SIGKILL, while it waits for that read', async () => {
      const { child, says } = await startBlockedAgent();
      const { signal, ms } = await terminate(child, 5000);
      expect(signal).toBe('SIGKILL');
      expect(ms).toBeLessThan(2000);
      await says('stopped; the vifs stay as they are');
    });

    test('goes on when xenstored answers after all', async () => {
      const { device, says, answer } = await startBlockedAgent();
      const { socket } = await startWorld();
      await symlink(socket(NICDOM), `${device}.new`);
      await rename(`${device}.new`, device);
      answer();
      await says('ready on', 5_000);
    });
  },
);

test.skipIf(noNamespace !== undefined)(
  'the agent ends within 2 s of SIGTERM while xenstored owes it the first answer',
  async () => {
    let asked = false;
    const peer = await startPeer((socket) => {
      socket.on('data', () => {
        asked = true;
      });
    });
    const { child } = startAgent(peer);
    await until(() => asked);
    const { code, ms } = await terminate(child, 5000);
    expect(code).toBe(0);
    expect(ms).toBeLessThan(2000);
  },
);
