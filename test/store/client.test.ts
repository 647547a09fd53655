/** The client over real unix sockets against the simulator, and against peers that break the protocol. */
import type { Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  type ClientOptions,
  connectXenstore,
  type StoreOperations,
  type WatchEvent,
} from '../../src/xenstore/client.js';
import { encodePacket, type Packet, Parser, parseStrings, strings, XS } from '../../src/xenstore/wire.js';
import { GUEST, NICDOM, startPeer, startWorld, until } from './support.js';

const utf8 = new TextEncoder();
const HOME = `/local/domain/${NICDOM}`;

describe('operations', () => {
  test('read, write, mkdir, directory, rm', async () => {
    const client = await (await startWorld()).connect(0);
    await client.write('/tool/a/b', 'value');
    await client.mkdir('/tool/a/c');
    await client.mkdir('/tool/a/b'); // existing: unchanged
    expect(await client.directory('/tool/a')).toEqual(['b', 'c']);
    expect(await client.read('/tool/a/b')).toBe('value');
    expect(await client.read('/tool/a/c')).toBe('');
    expect(await client.directory('/tool/a/c')).toEqual([]);
    await client.rm('/tool/a');
    await client.rm('/tool/a'); // gone already
    await expect(client.read('/tool/a/b')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('values are bytes', async () => {
    const client = await (await startWorld()).connect(0);
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    await client.write('/tool/bytes', bytes);
    expect(new Uint8Array(await client.readBytes('/tool/bytes'))).toEqual(bytes);
    await client.write('/tool/text', 'z\u00fcri\n\0 \u{1f600}');
    expect(await client.read('/tool/text')).toBe('z\u00fcri\n\0 \u{1f600}');
  });

  test('readOptional knows missing and forbidden, and nothing else', async () => {
    const client = await (await startWorld()).connect(NICDOM);
    expect(await client.readOptional('domid')).toBe('1');
    expect(await client.readOptional('none')).toBeUndefined();
    expect(await client.readOptional('/tool')).toBeUndefined();
    await expect(client.readOptional('a//b')).rejects.toMatchObject({ code: 'EINVAL' });
  });

  test('permissions', async () => {
    const world = await startWorld();
    const [dom0, guest] = [await world.connect(0), await world.connect(GUEST)];
    await dom0.write('/tool/shared', 'x');
    await dom0.setPerms('/tool/shared', ['n0', `r${GUEST}`]);
    expect(await dom0.getPerms('/tool/shared')).toEqual(['n0', 'r5']);
    expect(await guest.read('/tool/shared')).toBe('x');
    await expect(guest.write('/tool/shared', 'y')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(guest.setPerms('/tool/shared', ['n5'])).rejects.toMatchObject({ code: 'EACCES', op: 'SET_PERMS' });
  });

  test('relative paths begin at the own domain', async () => {
    const world = await startWorld();
    const client = await world.connect(NICDOM);
    await client.write('data/x', '1');
    expect(await (await world.connect(0)).read(`${HOME}/data/x`)).toBe('1');
    expect(await client.domainPath(7)).toBe('/local/domain/7');
  });

  test('request() sends what has no method', async () => {
    const world = await startWorld();
    const dom0 = await world.connect(0);
    expect(parseStrings(await dom0.request({ op: 'IS_DOMAIN_INTRODUCED', domid: NICDOM }))).toEqual(['T']);
    expect(parseStrings(await dom0.request({ op: 'RESET_WATCHES' }))).toEqual(['OK']);
    await expect(dom0.request({ op: 'GET_FEATURE', args: ['0'] })).rejects.toMatchObject({ code: 'ENOSYS' });
    const nicdom = await world.connect(NICDOM);
    await expect(nicdom.request({ op: 'RELEASE', domid: 9 })).rejects.toMatchObject({ code: 'EACCES', op: 'RELEASE' });
  });

  test('names of more than 4096 bytes come in parts', async () => {
    const client = await (await startWorld()).connect(0);
    const names = Array.from({ length: 400 }, (_, i) => `a-rather-long-name-of-a-node-${i}`);
    await client.transaction(async (tx) => {
      for (const name of names) await tx.mkdir(`/tool/many/${name}`);
      expect((await tx.directory('/tool/many')).sort()).toEqual([...names].sort());
    });
    expect((await client.directory('/tool/many')).sort()).toEqual([...names].sort());
  });

  test('a directory that changes between two parts is read again from its start', async () => {
    const parts = ['1\0a\0b\0', '2\0b\0\0', '2\0b\0c\0', '2\0d\0\0'];
    const offsets: string[] = [];
    const client = await connectPeer(
      answering((request) => {
        if (request.type === XS.DIRECTORY) return { ...request, type: XS.ERROR, payload: strings('E2BIG') };
        offsets.push(parseStrings(request.payload)[1] as string);
        return { ...request, payload: utf8.encode(parts.shift()) };
      }),
    );
    expect(await client.directory('/x')).toEqual(['b', 'c', 'd']);
    expect(offsets).toEqual(['0', '4', '0', '4']);
  });
});

describe('errors', () => {
  test('carry errno, operation and path', async () => {
    const client = await (await startWorld()).connect(NICDOM);
    const error = await client.read('none').catch((reason) => reason);
    expect(error).toMatchObject({ name: 'XenstoreError', code: 'ENOENT', op: 'READ', path: 'none' });
    expect(error.message).toBe('xenstore READ "none": ENOENT');
    await expect(client.rm('backend/vif/5/0')).rejects.toMatchObject({
      code: 'EACCES',
      op: 'RM',
      path: 'backend/vif/5/0',
    });
    await expect(client.directory('none')).rejects.toMatchObject({ code: 'ENOENT', op: 'DIRECTORY' });
    await expect(client.getPerms('/tool')).rejects.toMatchObject({ code: 'EACCES', op: 'GET_PERMS' });
  });

  test('a request that is too long is E2BIG, and the next goes through', async () => {
    const client = await (await startWorld()).connect(0);
    const outcomes = await Promise.allSettled([
      client.write('/tool/x', 'v'.repeat(4090)),
      client.read('/local'),
      client.read('/none'),
    ]);
    expect(outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : outcome.value))).toEqual([
      'E2BIG',
      '',
      'ENOENT',
    ]);
  });

  test('an error name that nobody knows is EINVAL', async () => {
    const client = await connectPeer(
      answering((request) => ({ ...request, type: XS.ERROR, payload: strings('EWHATEVER') })),
    );
    await expect(client.read('x')).rejects.toMatchObject({ code: 'EINVAL', op: 'READ', path: 'x' });
  });

  test('a reply of another type than the request is EPROTO', async () => {
    const client = await connectPeer(answering((request) => ({ ...request, type: XS.DIRECTORY })));
    await expect(client.read('x')).rejects.toMatchObject({ code: 'EPROTO' });
  });

  test('nobody there', async () => {
    await expect(connectXenstore('/nowhere/socket')).rejects.toMatchObject({ name: 'ConnectionError', code: 'ENOENT' });
    await expect(connectXenstore('/etc/passwd')).rejects.toMatchObject({ name: 'ConnectionError', code: 'ENOTSOCK' });
  });
});

describe('transactions', () => {
  test('nothing is seen before the commit, all of it after', async () => {
    const world = await startWorld();
    const [client, other] = [await world.connect(0), await world.connect(0)];
    await client.transaction(async (tx) => {
      await tx.write('/tool/a', '1');
      await tx.write('/tool/b', '2');
      expect(await tx.directory('/tool')).toEqual(['a', 'b']);
      expect(await other.directory('/tool')).toEqual([]);
    });
    expect(await other.directory('/tool')).toEqual(['a', 'b']);
  });

  test('EAGAIN: all of it runs again, reads included', async () => {
    const world = await startWorld();
    const [client, other] = [await world.connect(0), await world.connect(0)];
    await client.write('/tool/counter', '1');
    const seen: string[] = [];
    const result = await client.transaction(async (tx) => {
      const value = await tx.read('/tool/counter');
      seen.push(value);
      if (seen.length < 3) await other.write('/tool/counter', String(10 * seen.length));
      await tx.write('/tool/counter', String(Number(value) + 1));
      return value;
    });
    expect(seen).toEqual(['1', '10', '20']);
    expect(result).toBe('20');
    expect(await other.read('/tool/counter')).toBe('21');
  });

  test('EAGAIN for ever is given up', async () => {
    const world = await startWorld();
    const [client, other] = [await world.connect(0), await world.connect(0)];
    let attempts = 0;
    const losing = client.transaction(async (tx) => {
      await tx.readOptional('/tool/x');
      await other.write('/tool/x', String(++attempts));
      await tx.write('/tool/x', 'mine');
    });
    await expect(losing).rejects.toMatchObject({ code: 'EAGAIN', op: 'TRANSACTION_END' });
    expect(attempts).toBe(50);
  });

  test('an error of the body aborts and is passed on', async () => {
    const world = await startWorld();
    const client = await world.connect(NICDOM);
    const fault = new Error('mine');
    for (let i = 0; i < 15; i++) {
      // More often than transactions may be open: each is ended.
      const failing = client.transaction(async (tx) => {
        await tx.write('data/x', '1');
        throw fault;
      });
      await expect(failing).rejects.toBe(fault);
    }
    expect(await client.directory('data')).toEqual([]);
  });

  test('two at once do not mix', async () => {
    const client = await (await startWorld()).connect(0);
    const add = (tx: StoreOperations) =>
      tx.read('/tool/n').then((value) => tx.write('/tool/n', String(Number(value) + 1)));
    await client.write('/tool/n', '0');
    await Promise.all(Array.from({ length: 5 }, () => client.transaction(add)));
    expect(await client.read('/tool/n')).toBe('5');
  });
});

describe('watches', () => {
  test.each([
    ['relative', 'data', 'data/x'],
    ['absolute', `${HOME}/data`, `${HOME}/data/x`],
  ])('a %s path: one event at the start, then one a change, named the same way', async (_, path, changed) => {
    const client = await (await startWorld()).connect(NICDOM);
    const events: WatchEvent[] = [];
    const watch = await client.watch(path, (event) => events.push(event));
    await client.write('data/x', '1');
    await client.write('data/x', '1');
    await client.rm('data/x');
    await client.read('domid');
    expect(events.map((event) => event.path)).toEqual([path, changed, changed, changed]);
    expect(new Set(events.map(({ token }) => token))).toEqual(new Set([watch.token]));
  });

  test('the first event comes before the promise resolves, or with it', async () => {
    const client = await (await startWorld()).connect(NICDOM);
    const events: string[] = [];
    await client.watch('data', ({ path }) => events.push(path));
    await client.read('domid');
    expect(events).toEqual(['data']);
  });

  test('each listener hears its own token', async () => {
    const world = await startWorld();
    const [client, other] = [await world.connect(NICDOM), await world.connect(0)];
    const heard: string[] = [];
    await client.watch('data', ({ path, token }) => heard.push(`${token} ${path}`), 'all');
    await client.watch('data/x', ({ path, token }) => heard.push(`${token} ${path}`), 'x');
    heard.length = 0;
    await other.write(`${HOME}/data/x`, '1');
    await other.write(`${HOME}/data/y`, '1');
    await until(() => heard.length === 3);
    expect(heard.sort()).toEqual(['all data/x', 'all data/y', 'x data/x']);
  });

  test('a token that is taken is EEXIST, and the first watch goes on', async () => {
    const client = await (await startWorld()).connect(NICDOM);
    const events: string[] = [];
    await client.watch('data', ({ path }) => events.push(path), 'mine');
    await expect(client.watch('data', () => undefined, 'mine')).rejects.toMatchObject({ code: 'EEXIST', path: 'data' });
    await client.write('data/x', '1');
    await client.read('domid');
    expect(events).toEqual(['data', 'data/x']);
  });

  test('close() ends the events and frees the token', async () => {
    const client = await (await startWorld()).connect(NICDOM);
    const events: string[] = [];
    const listen = () => client.watch('data', ({ path }) => events.push(path), 'mine');
    await (await listen()).close();
    await client.write('data/x', '1');
    await listen();
    await client.read('domid');
    expect(events).toEqual(['data', 'data']);
  });

  test('a watch that fails leaves nothing behind', async () => {
    const client = await (await startWorld()).connect(NICDOM);
    for (let i = 0; i < 2; i++)
      await expect(client.watch('a//b', () => undefined, 'mine')).rejects.toMatchObject({
        code: 'EINVAL',
        op: 'WATCH',
      });
  });

  test('special nodes: dom0 hears of domains', async () => {
    const dom0 = await (await startWorld()).connect(0);
    const events: string[] = [];
    await dom0.watch('@introduceDomain', ({ path }) => events.push(path));
    await dom0.request({ op: 'INTRODUCE', domid: 9, gfn: 1, evtchn: 1 });
    expect(events).toEqual(['@introduceDomain', '@introduceDomain']);
  });
});

describe('deadlines', () => {
  test('a request without an answer is ETIMEDOUT; its late reply is nobody else’s', async () => {
    const requests: Packet[] = [];
    let peer: Socket | undefined;
    const client = await connectPeer(
      (socket) => {
        peer = socket;
        onRequest(socket, (request) => requests.push(request));
      },
      { timeoutMs: 100 },
    );
    const startedAt = performance.now();
    await expect(client.read('slow')).rejects.toMatchObject({ code: 'ETIMEDOUT', op: 'READ', path: 'slow' });
    expect(performance.now() - startedAt).toBeLessThan(1000);
    const second = client.read('fast');
    await until(() => requests.length === 2);
    for (const { type, reqId, payload } of requests) peer?.write(encodePacket({ type, reqId, txId: 0, payload }));
    expect(await second).toBe('fast\0');
  });

  test('no more than 16 requests wait on a socket, and the ones that timed out count', async () => {
    let received = 0;
    const client = await connectPeer((socket) => onRequest(socket, () => received++), { timeoutMs: 100 });
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => client.read('x')));
    expect(outcomes.every((outcome) => outcome.status === 'rejected' && outcome.reason.code === 'ETIMEDOUT')).toBe(
      true,
    );
    expect(received).toBe(16);
  });
});

describe('the connection ends', () => {
  test('everything that waits is rejected, and what comes later too', async () => {
    const client = await connectPeer((socket) => onRequest(socket, () => socket.destroy()));
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => client.read('x')));
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { name: 'ConnectionError', code: 'ECONNRESET' } });
    expect((await client.closed).code).toBe('ECONNRESET');
    await expect(client.read('x')).rejects.toMatchObject({ code: 'ECONNRESET' });
    await client.close(); // is no error
  });

  test('close() rejects what waits with ECANCELED', async () => {
    const client = await connectPeer(() => undefined);
    const waiting = Promise.allSettled([
      client.read('x'),
      client.watch('y', () => undefined),
      client.transaction(async () => 1),
    ]);
    await client.close();
    for (const outcome of await waiting) expect(outcome).toMatchObject({ reason: { code: 'ECANCELED' } });
    expect((await client.closed).code).toBe('ECANCELED');
  });

  test('a store that dies under its clients', async () => {
    const world = await startWorld();
    const client = await world.connect(NICDOM);
    const events: string[] = [];
    await client.watch('data', ({ path }) => events.push(path));
    world.store.disconnect(NICDOM);
    expect((await client.closed).code).toBe('ECONNRESET');
    const again = await world.connect(NICDOM);
    await again.write('data/x', '1');
    expect(events).toEqual(['data']); // its watches are gone
  });
});

describe('a peer that breaks the protocol', () => {
  test.each([
    ['announces 4097 bytes', Buffer.from(new Uint32Array([XS.READ, 1, 0, 4097]).buffer)],
    ['announces 4 GiB', Buffer.from(new Uint32Array([XS.READ, 1, 0, 0xffffffff]).buffer)],
    ['speaks text', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
  ])('that %s: the connection is given up', async (_, bytes) => {
    let ended = false;
    const client = await connectPeer((socket) => {
      socket.on('close', () => {
        ended = true;
      });
      onRequest(socket, () => socket.write(bytes));
    });
    const outcomes = await Promise.allSettled([client.read('x'), client.read('y')]);
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { name: 'ConnectionError', code: 'EPROTO' } });
    expect((await client.closed).message).toMatch(/at byte 0/);
    await until(() => ended);
  });

  test('packets in pieces, and many in one piece', async () => {
    const client = await connectPeer((socket) =>
      onRequest(socket, async ({ type, reqId, payload }) => {
        const event = encodePacket({ type: XS.WATCH_EVENT, reqId: 0, txId: 0, payload: strings('x', 't') });
        const reply = encodePacket({ type, reqId, txId: 0, payload });
        const bytes = Buffer.concat([event, event, reply, event]);
        socket.setNoDelay(true);
        for (const byte of bytes.subarray(0, 90)) {
          socket.write(Uint8Array.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
        socket.write(bytes.subarray(90));
      }),
    );
    expect(await client.read('value')).toBe('value\0');
  });

  test('that closes in the middle of a message', async () => {
    const client = await connectPeer((socket) =>
      onRequest(socket, (request) => socket.end(encodePacket(request).subarray(0, 17))),
    );
    await expect(client.read('x')).rejects.toMatchObject({ name: 'ConnectionError', code: 'ECONNRESET' });
  });

  test('replies to nobody, events for nobody and events of one string are passed over', async () => {
    const client = await connectPeer((socket) =>
      onRequest(socket, (request) => {
        socket.write(encodePacket({ ...request, reqId: request.reqId + 1000 }));
        for (const payload of [strings('x', 'nobody'), strings('x'), new Uint8Array(0), utf8.encode('no end')])
          socket.write(encodePacket({ type: XS.WATCH_EVENT, reqId: request.reqId, txId: 0, payload }));
        socket.write(encodePacket({ ...request, payload: utf8.encode('answer') }));
      }),
    );
    expect(await client.read('x')).toBe('answer');
  });

  test('that answers with an empty transaction id or none at all: the commit fails, nothing hangs', async () => {
    const client = await connectPeer(
      answering((request) => {
        if (request.type === XS.TRANSACTION_START) return { ...request, payload: new Uint8Array(0) };
        return { ...request, type: XS.ERROR, payload: strings('ENOENT') };
      }),
    );
    await expect(client.transaction(async () => 1)).rejects.toMatchObject({ name: 'XenstoreError' });
  });
});

async function connectPeer(onConnection: (socket: Socket) => void, options?: ClientOptions) {
  const client = await connectXenstore(await startPeer(onConnection), options);
  onTestFinished(() => client.close());
  return client;
}

function onRequest(socket: Socket, handle: (request: Packet) => unknown): void {
  const parser = new Parser('client');
  socket.on('data', (bytes) => {
    for (const request of parser.push(bytes)) handle(request);
  });
}

const answering = (answer: (request: Packet) => Packet) => (socket: Socket) =>
  onRequest(socket, (request) => socket.write(encodePacket(answer(request))));
