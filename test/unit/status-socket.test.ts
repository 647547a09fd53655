/** The status socket: what it answers, and what those cannot do who are silent, greedy, slow or many. */
import { once } from 'node:events';
import { chmodSync, existsSync, lstatSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { StatusSocket } from '../../src/service/status-socket.js';
import { askAgent } from '../../src/service/status-socket-client.js';

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'vifd-status-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A log of which only the warnings are kept, and that can be followed. */
class Records {
  readonly warnings: string[] = [];
  readonly readers = new Set<(line: string) => void>();
  readonly log: Logger = pino(
    { level: 'debug', base: null },
    {
      write: (line: string) => {
        const { level, msg } = JSON.parse(line) as { level: number; msg: string };
        if (level >= 40) this.warnings.push(msg);
        for (const read of this.readers) read(line);
      },
    },
  );
  follow = (reader: (line: string) => void) => {
    this.readers.add(reader);
    return () => void this.readers.delete(reader);
  };
}

async function open(dir = scratch()) {
  const records = new Records();
  const { log, follow } = records;
  const socket = await StatusSocket.open({ dir, log, follow, metrics: () => 'vifd_up 1\nother 2\n', config: () => [] });
  if (socket !== undefined) onTestFinished(() => socket.close().catch(() => undefined));
  return { dir, path: join(dir, 'status'), records, socket };
}

/** A client that sends these bytes. */
function client(path: string, ...texts: string[]): { socket: Socket; text: () => string; closed: Promise<unknown> } {
  const socket = connect(path);
  let received = '';
  socket.on('data', (bytes) => {
    received += bytes;
  });
  socket.on('error', () => undefined);
  for (const text of texts) socket.write(text);
  return { socket, text: () => received, closed: once(socket, 'close') };
}

async function collect(lines: AsyncIterable<string>): Promise<string[]> {
  const all: string[] = [];
  for await (const line of lines) all.push(line);
  return all;
}

async function until(ask: () => boolean): Promise<void> {
  for (let i = 0; i < 1_000 && !ask(); i++) await sleep(5);
  expect(ask()).toBe(true);
}

test('only its owner may connect, it answers a request that comes in pieces, and it is gone after the end', async () => {
  const { dir, path, socket } = await open();
  expect(lstatSync(path).mode & 0o777).toBe(0o600);
  expect(await collect(askAgent('metrics', { dir }))).toEqual(['vifd_up 1', 'other 2']);
  const pieces = client(path, 'met');
  await sleep(20);
  pieces.socket.write('rics\n');
  await pieces.closed;
  expect(pieces.text()).toBe('vifd_up 1\nother 2\n');
  await socket?.close();
  expect(existsSync(path)).toBe(false);
});

test('a follower has what is logged from then on, until it or the agent ends', async () => {
  const { dir, records, socket } = await open();
  records.log.info('before');
  const lines = askAgent('follow', { dir });
  const next = async () => JSON.parse((await lines.next()).value ?? '{}').msg;
  expect(await next()).toBe('a client follows this log');
  records.log.debug('one');
  records.log.error('two\nlines');
  expect([await next(), await next()]).toEqual(['one', 'two\nlines']);
  await lines.return();
  await until(() => records.readers.size === 0);

  const other = askAgent('follow', { dir });
  await other.next();
  const rest = collect(other);
  await socket?.close();
  expect(await rest).toEqual([]);
});

test('the signal ends the following of a log in which nothing happens', async () => {
  const { dir } = await open();
  const stop = new AbortController();
  const lines = askAgent('follow', { dir, signal: stop.signal });
  await lines.next();
  const rest = lines.next();
  stop.abort();
  expect(await rest).toEqual({ done: true, value: undefined });
});

test.each([
  ['an unknown request', ['nonsense\n']],
  ['more than one request', ['follow\nmetrics\n']],
  ['no end', ['x'.repeat(64)]],
  ['words after the request', ['follow\n', 'and more']],
])('%s: the connection is closed at once', async (_, texts) => {
  const { path, records } = await open();
  const startedAt = performance.now();
  const { closed, text, socket } = client(path, texts[0] as string);
  for (const more of texts.slice(1)) {
    await once(socket, 'data');
    socket.write(more);
  }
  await closed;
  expect(performance.now() - startedAt).toBeLessThan(1_500);
  expect(text().includes('vifd_up')).toBe(false);
  await until(() => records.readers.size === 0);
});

test('who says nothing within two seconds is dropped; a follower may', async () => {
  const { dir, path, records } = await open();
  const lines = askAgent('follow', { dir });
  await lines.next();
  const startedAt = performance.now();
  await Promise.all([client(path).closed, client(path, 'metr').closed]);
  expect(performance.now() - startedAt).toBeGreaterThan(1_900);
  expect(performance.now() - startedAt).toBeLessThan(3_500);
  records.log.info('still there');
  expect((await lines.next()).value).toContain('still there');
  await lines.return();
});

test('a follower that does not read is dropped, and the others go on', async () => {
  const { dir, path, records } = await open();
  const lazy = connect(path);
  onTestFinished(() => void lazy.destroy());
  lazy.on('error', () => undefined);
  lazy.pause();
  lazy.write('follow\n');
  await until(() => records.readers.size === 1);
  const lines = askAgent('follow', { dir });
  await lines.next();
  for (let i = 0; i < 64; i++) {
    records.log.info('x'.repeat(64 * 1024));
    expect((await lines.next()).value?.length).toBeGreaterThan(64 * 1024);
  }
  await until(() => records.readers.size === 1);
  records.log.info('last');
  expect((await lines.next()).value).toContain('last');
  await lines.return();
});

test('the ninth client is refused, and told so by vifd; when one has gone there is room again', async () => {
  const { dir, path, records } = await open();
  const followers = Array.from({ length: 8 }, () => client(path, 'follow\n'));
  await until(() => records.readers.size === 8);
  await expect(collect(askAgent('metrics', { dir }))).rejects.toMatchObject({
    code: 'EBUSY',
    message: expect.stringContaining('it has too many clients'),
  });
  followers[0]?.socket.destroy();
  await until(() => records.readers.size === 7);
  expect(await collect(askAgent('metrics', { dir }))).toHaveLength(2);
  for (const { socket } of followers) socket.destroy();
});

test('a socket that was left behind is replaced, one that lives is not', async () => {
  const dir = scratch();
  const first = await open(dir);
  const second = await open(dir);
  expect(second.socket).toBeUndefined();
  expect(second.records.warnings).toEqual([
    `vifd status and monitor cannot ask this vifd: another vifd answers on ${first.path} already; end one of the two`,
  ]);
  expect(await collect(askAgent('metrics', { dir }))).toHaveLength(2);
  await first.socket?.close();

  await leaveSocket(first.path);
  expect(existsSync(first.path)).toBe(true);
  await expect(collect(askAgent('metrics', { dir }))).rejects.toMatchObject({ code: 'ENOAGENT' });
  const third = await open(dir);
  expect(third.records.warnings).toEqual([]);
  expect(await collect(askAgent('metrics', { dir }))).toHaveLength(2);
});

/** As a process that was killed leaves it: its listener is gone, its name is not. */
async function leaveSocket(path: string): Promise<void> {
  const server = createServer().listen(`${path}.other`);
  await once(server, 'listening');
  renameSync(`${path}.other`, path);
  server.close();
  await once(server, 'close');
}

test.each<[string, (dir: string) => string, RegExp]>([
  [
    'a directory that is open to others',
    (dir) => {
      chmodSync(dir, 0o750);
      return dir;
    },
    /is open to others; it must belong to the user that runs vifd: chmod 0700/,
  ],
  [
    'a file in its place',
    (dir) => {
      writeFileSync(join(dir, 'status'), 'precious');
      return dir;
    },
    /status is there and is no socket; remove it/,
  ],
  [
    'a link in its place',
    (dir) => {
      symlinkSync('/dev/null', join(dir, 'status'));
      return dir;
    },
    /status is there and is no socket; remove it/,
  ],
  [
    'a path that is too long',
    (dir) => join(dir, 'x'.repeat(100)),
    /is too long for a socket; name a shorter directory/,
  ],
  ['a directory that cannot be made', () => '/dev/null/run', /cannot be made \(ENOTDIR\); make it, mode 0700/],
])('%s: one sentence, and no socket', async (_, prepare, sentence) => {
  const { socket, records } = await open(prepare(scratch()));
  expect(socket).toBeUndefined();
  expect(records.warnings).toEqual([expect.stringMatching(sentence)]);
});

test('no agent, no directory, no socket that may be used, no answer: sentences with a remedy', async () => {
  const dir = scratch();
  const ask = (options: object) => collect(askAgent('metrics', { dir, ...options }));
  await expect(ask({})).rejects.toMatchObject({ code: 'ENOAGENT', message: /start vifd run/ });
  await expect(ask({ dir: '/proc/none' })).rejects.toMatchObject({ code: 'ENOAGENT' });
  await expect(ask({ dir: '/dev/null' })).rejects.toMatchObject({
    code: 'ENOTDIR',
    message: '/dev/null/status cannot be opened (ENOTDIR); ask as root or as the user that runs vifd',
  });
  process.env.VIFD_RUN_DIR = '';
  onTestFinished(() => void delete process.env.VIFD_RUN_DIR);
  await expect(ask({ dir: undefined })).rejects.toMatchObject({ code: 'ENOAGENT', message: /VIFD_RUN_DIR is empty/ });
  const mute = createServer().listen(join(dir, 'status'));
  onTestFinished(() => void mute.close());
  const startedAt = performance.now();
  await expect(ask({})).rejects.toMatchObject({ code: 'ETIMEDOUT', message: /does not answer; is it stopped\?/ });
  expect(performance.now() - startedAt).toBeLessThan(8_000);
});

test('who listens there and never ends a line is not heard for ever', async () => {
  const dir = scratch();
  const path = join(dir, 'status');
  const endless = createServer((client) => {
    client.on('error', () => undefined);
    const more = () => {
      while (client.writable && client.write('x'.repeat(1 << 16)));
    };
    client.on('drain', more);
    more();
  }).listen(path);
  onTestFinished(() => void endless.close());
  await once(endless, 'listening');
  await expect(collect(askAgent('metrics', { dir }))).rejects.toMatchObject({
    code: 'EPROTO',
    message: `${path}: a line of more than 1048576 characters; no vifd answers there`,
  });
});
