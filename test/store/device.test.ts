/** The client on /dev/xen/xenbus: one test for each way in which the device differs from a socket (contract 5.5). */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { XenbusDevice, type XenbusDeviceOptions } from '../../src/simulator/xenbus-device.js';
import { type ClientOptions, type WatchEvent, XenstoreClient } from '../../src/xenstore/client.js';
import { type DeviceFile, DeviceTransport } from '../../src/xenstore/transport.js';
import {
  encodePacket,
  encodeRequest,
  type Packet,
  Parser,
  parseStrings,
  strings,
  XS,
} from '../../src/xenstore/wire.js';
import { NICDOM, startWorld, until } from './support.js';

const utf8 = new TextEncoder();

interface Setup {
  readonly device?: XenbusDeviceOptions;
  readonly client?: ClientOptions;
  /** Stands between client and device. */
  readonly wrap?: (device: XenbusDevice) => DeviceFile;
}

/** The real client on the simulated device of a driver domain. */
async function open({ device: options, client: clientOptions, wrap = (device) => device }: Setup = {}) {
  const world = await startWorld();
  const device = new XenbusDevice(world.store, NICDOM, options);
  const client = new XenstoreClient(new DeviceTransport('fake', wrap(device)), clientOptions);
  onTestFinished(() => client.close().catch(() => undefined));
  return { ...world, device, client, dom0: await world.connect(0) };
}

/** A device that no client reads: requests and answers as packets. */
async function openRaw(options?: XenbusDeviceOptions) {
  const { store, connect } = await startWorld();
  const device = new XenbusDevice(store, NICDOM, options);
  const parser = new Parser('fake');
  const received: Packet[] = [];
  const buffer = new Uint8Array(8192);
  const next = async () => {
    while (received.length === 0) received.push(...parser.push(buffer.slice(0, await device.read(buffer))));
    return received.shift() as Packet;
  };
  return { device, next, dom0: await connect(0) };
}

/** Lets requests pass while open, and holds them back otherwise. */
function gate() {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

const text = ({ payload }: Packet) => parseStrings(payload)[0];

describe('the device itself', () => {
  test('takes one message of a write; what stands behind it is lost', async () => {
    const { device, next } = await openRaw();
    const read = (reqId: number) => encodeRequest({ op: 'READ', path: 'domid' }, reqId);
    expect(await device.write(Buffer.concat([read(1), read(2)]))).toBe(2 * read(1).length);
    await device.write(read(3));
    expect([(await next()).reqId, (await next()).reqId]).toEqual([1, 3]);
    expect(device.taken).toEqual([XS.READ, XS.READ]);
  });

  test('collects a message from partial writes', async () => {
    const { device, next } = await openRaw();
    for (const byte of encodeRequest({ op: 'READ', path: 'domid' }, 7)) await device.write(Uint8Array.of(byte));
    expect(await next()).toMatchObject({ type: XS.READ, reqId: 7, payload: utf8.encode('1') });
  });

  test('refuses more than 4096 bytes with the header: E2BIG by the header, EINVAL by the buffer; and forgets them', async () => {
    const { device, next } = await openRaw();
    const message = encodePacket({ type: XS.WRITE, reqId: 1, txId: 0, payload: new Uint8Array(4081) });
    await expect(device.write(message.subarray(0, 16))).rejects.toMatchObject({ code: 'E2BIG' });
    await expect(device.write(message)).rejects.toMatchObject({ code: 'EINVAL' });
    await device.write(encodeRequest({ op: 'READ', path: 'domid' }, 2));
    expect((await next()).reqId).toBe(2);
  });

  test('a failed WATCH is the errno of the write, and no reply', async () => {
    const { device, next } = await openRaw();
    const watch = encodeRequest({ op: 'WATCH', path: 'not//canonical', token: 't' }, 1);
    await expect(device.write(watch)).rejects.toMatchObject({ code: 'EINVAL' });
    await device.write(encodeRequest({ op: 'READ', path: 'domid' }, 2));
    expect(await next()).toMatchObject({ type: XS.READ, reqId: 2 });
  });

  test('a WATCH without a terminated token is an ERROR', async () => {
    const { device, next } = await openRaw();
    await device.write(encodePacket({ type: XS.WATCH, reqId: 1, txId: 0, payload: utf8.encode('data\0token') }));
    expect(await next()).toMatchObject({ type: XS.ERROR, reqId: 1, payload: strings('EINVAL') });
  });

  test('accepts the same watch twice, ignores a depth, and says OK to UNWATCH of nothing', async () => {
    const { device, next } = await openRaw({ firstEvent: 'after-ok' });
    const watch = encodePacket({ type: XS.WATCH, reqId: 1, txId: 0, payload: strings('data', 't', '1') });
    for (let i = 0; i < 2; i++) {
      await device.write(watch);
      expect([(await next()).type, (await next()).type]).toEqual([XS.WATCH, XS.WATCH_EVENT]);
    }
    await device.write(encodeRequest({ op: 'UNWATCH', path: 'data', token: 'other' }, 2));
    expect(await next()).toMatchObject({ type: XS.UNWATCH, reqId: 2, payload: strings('OK') });
  });

  test('events carry the token as it was given, and ids that mean nothing', async () => {
    const { device, next } = await openRaw();
    await device.write(encodeRequest({ op: 'WATCH', path: 'data', token: 'tok\u00e9n' }, 9));
    const event = await next();
    expect(event).toMatchObject({ type: XS.WATCH_EVENT, reqId: 9, payload: strings('data', 'tok\u00e9n') });
    expect(event.txId).not.toBe(0);
  });

  test('answers for a transaction of another file, and for an END of the wrong size, itself', async () => {
    const { device, next } = await openRaw();
    await device.write(encodeRequest({ op: 'READ', path: 'domid', tx: 77 }, 1));
    expect(await next()).toMatchObject({ type: XS.ERROR, reqId: 1, payload: strings('ENOENT') });
    await device.write(encodeRequest({ op: 'TRANSACTION_START' }, 2));
    const tx = Number(text(await next()));
    const end = (body: string) =>
      encodePacket({ type: XS.TRANSACTION_END, reqId: 3, txId: tx, payload: utf8.encode(body) });
    for (const body of ['T', 'T\0\0', 'X\0', '']) {
      await device.write(end(body));
      expect(text(await next())).toBe('EINVAL');
    }
    await device.write(end('T\0'));
    expect(await next()).toMatchObject({ type: XS.TRANSACTION_END, payload: strings('OK') });
    await device.write(end('T\0'));
    expect(text(await next())).toBe('ENOENT');
  });

  test('close drops the watches and aborts the transactions', async () => {
    const { device, next, dom0 } = await openRaw();
    await device.write(encodeRequest({ op: 'WATCH', path: 'data', token: 't' }, 1));
    await next();
    await next();
    await device.write(encodeRequest({ op: 'TRANSACTION_START' }, 2));
    const tx = Number(text(await next()));
    await device.write(encodeRequest({ op: 'WRITE', path: 'data/x', value: utf8.encode('1'), tx }, 3));
    await next();
    await device.close();
    await dom0.write('/local/domain/1/data/y', '1');
    expect(await dom0.directory('/local/domain/1/data')).toEqual(['y']);
    expect(await Promise.race([next(), sleep(50, 'silent')])).toBe('silent');
  });

  test('close gives back what counts against the quotas', async () => {
    const { store } = await startWorld({ watches: 0, transactions: 0 }); // one more fits, as in 4.17
    for (let i = 0; i < 3; i++) {
      const device = new XenbusDevice(store, NICDOM);
      const client = new XenstoreClient(new DeviceTransport('fake', device));
      await client.watch('data', () => undefined);
      await client.request({ op: 'TRANSACTION_START' });
      await expect(client.request({ op: 'TRANSACTION_START' })).rejects.toMatchObject({ code: 'ENOSPC' });
      await client.close();
    }
  });
});

describe('requests', () => {
  test('one in flight, however many are asked', async () => {
    const { client, device } = await open();
    const values = await Promise.all(Array.from({ length: 50 }, () => client.read('domid')));
    expect(values).toEqual(Array.from({ length: 50 }, () => '1'));
    expect(device.maxInFlight).toBe(1);
    expect(device.taken).toHaveLength(50);
  });

  test('one in flight also with watches, transactions and refusals between', async () => {
    const { client, device } = await open();
    await Promise.all([
      client.watch('data', () => undefined),
      client.transaction((tx) => tx.write('data/a', '1')),
      expect(client.watch('a//b', () => undefined)).rejects.toMatchObject({ code: 'EINVAL' }),
      expect(client.read('data/none')).rejects.toMatchObject({ code: 'ENOENT' }),
      client.transaction((tx) => tx.write('data/b', '2')),
      client.directory('data'),
    ]);
    expect(device.maxInFlight).toBe(1);
    expect(await client.directory('data')).toEqual(['a', 'b']);
  });

  test('each message is a write of its own, and a short write is continued', async () => {
    const writes: number[] = [];
    const short = (device: XenbusDevice): DeviceFile => ({
      read: (buffer) => device.read(buffer),
      write: (bytes) => {
        writes.push(bytes.length);
        return device.write(bytes.subarray(0, 5));
      },
      close: () => device.close(),
    });
    const { client } = await open({ wrap: short });
    expect(await Promise.all([client.read('domid'), client.read('domid')])).toEqual(['1', '1']);
    expect(writes).toEqual([22, 17, 12, 7, 2, 22, 17, 12, 7, 2]);
  });

  test('a value that is too long is E2BIG and leaves the connection usable', async () => {
    const { client, device, dom0 } = await open();
    const fits = 4096 - 16 - 'data/x\0'.length;
    for (const size of [fits + 1, fits + 16, fits + 17, 100_000])
      await expect(client.write('data/x', 'v'.repeat(size))).rejects.toMatchObject({
        code: 'E2BIG',
        op: 'WRITE',
        path: 'data/x',
      });
    expect(await client.read('domid')).toBe('1');
    // The longest that fits goes out; that it is more than a node may hold is xenstored's to say.
    await expect(client.write('data/x', 'v'.repeat(fits))).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(device.taken).toEqual([XS.READ, XS.WRITE]);
    expect(await dom0.directory('/local/domain/1/data')).toEqual([]);
  });

  test.each([1, 2, 15, 17, 1000])('replies and events are put together from reads of %i bytes', async (size) => {
    const small = (device: XenbusDevice): DeviceFile => ({
      read: (buffer) => device.read(buffer.subarray(0, size)),
      write: (bytes) => device.write(bytes),
      close: () => device.close(),
    });
    const { client } = await open({ wrap: small });
    const events: string[] = [];
    await client.watch('data', ({ path }) => events.push(path));
    await client.write('data/x', 'v'.repeat(1500));
    expect(await client.read('data/x')).toBe('v'.repeat(1500));
    await until(() => events.length === 2);
    expect(events).toEqual(['data', 'data/x']);
  });

  test('a read that was interrupted is repeated', async () => {
    let interruptions = 3;
    const interrupted = (device: XenbusDevice): DeviceFile => ({
      read: async (buffer) => {
        if (interruptions-- > 0)
          throw Object.assign(new Error('interrupted'), { code: interruptions === 1 ? 'EAGAIN' : 'EINTR' });
        return device.read(buffer);
      },
      write: (bytes) => device.write(bytes),
      close: () => device.close(),
    });
    const { client } = await open({ wrap: interrupted });
    expect(await client.read('domid')).toBe('1');
  });

  test.each(['EIO', undefined])(
    'a read that fails (%s) or ends closes the connection, and the file once',
    async (code) => {
      let closed = 0;
      const broken = (device: XenbusDevice): DeviceFile => ({
        read: async () => {
          await sleep(10);
          if (code === undefined) return 0;
          throw Object.assign(new Error('broken'), { code });
        },
        write: (bytes) => device.write(bytes),
        close: async () => {
          closed++;
          await device.close();
        },
      });
      const { client } = await open({ device: { answerAfter: () => sleep(100) }, wrap: broken });
      await expect(client.read('domid')).rejects.toMatchObject({
        name: 'ConnectionError',
        code: code ?? 'ECONNRESET',
        peer: 'fake',
      });
      expect((await client.closed).code).toBe(code ?? 'ECONNRESET');
      await client.close();
      expect(closed).toBe(1);
    },
  );

  test('the deadline is xenstored’s, not that of the queue before it', async () => {
    const { client } = await open({ device: { answerAfter: () => sleep(40) }, client: { timeoutMs: 200 } });
    const values = await Promise.all(Array.from({ length: 10 }, () => client.read('domid')));
    expect(values).toHaveLength(10);
  });

  test('bytes that are no protocol close the connection', async () => {
    let closed = false;
    const babbling = (device: XenbusDevice): DeviceFile => ({
      read: async (buffer) => {
        await sleep(10);
        buffer.fill(0xff, 0, 100);
        return 100;
      },
      write: (bytes) => device.write(bytes),
      close: async () => {
        closed = true;
      },
    });
    const { client } = await open({ device: { answerAfter: () => sleep(100) }, wrap: babbling });
    await expect(client.read('domid')).rejects.toMatchObject({ name: 'ConnectionError', code: 'EPROTO' });
    await until(() => closed);
  });

  test('a request that timed out keeps its place until its late reply', async () => {
    const { opened, open: release } = gate();
    const { client, device } = await open({ device: { answerAfter: () => opened }, client: { timeoutMs: 200 } });
    await expect(client.read('domid')).rejects.toMatchObject({ code: 'ETIMEDOUT', op: 'READ', path: 'domid' });
    const second = client.read('data');
    await sleep(20);
    expect(device.taken).toHaveLength(1); // the second has not gone out
    release();
    expect(await second).toBe(''); // not the late reply of the first
    expect(device.maxInFlight).toBe(1);
  });

  test('a transaction that begins too late for its caller is ended', async () => {
    const { opened, open: release } = gate();
    const { client, device } = await open({ device: { answerAfter: () => opened }, client: { timeoutMs: 50 } });
    await expect(client.transaction((tx) => tx.read('domid'))).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    release();
    await until(() => device.taken.at(-1) === XS.TRANSACTION_END);
  });

  test('events are no sign that a lost reply will come: the connection is given up all the same', async () => {
    let count = 0;
    const answerAfter = () => (count++ === 1 ? new Promise(() => undefined) : Promise.resolve());
    const { client, dom0 } = await open({ device: { answerAfter }, client: { timeoutMs: 300 } });
    await client.watch('data', () => undefined);
    const flapping = setInterval(() => void dom0.write('/local/domain/1/data/x', '1'), 50);
    onTestFinished(() => clearInterval(flapping));
    await Promise.allSettled([client.read('domid'), client.read('domid')]);
    expect(await client.closed).toMatchObject({ name: 'ConnectionError', code: 'ETIMEDOUT' });
  });

  test('close does not wait for a WATCH that waits in its write', async () => {
    const blocked = (device: XenbusDevice): DeviceFile => ({
      read: (buffer) => device.read(buffer),
      write: () => new Promise(() => undefined),
      close: () => device.close(),
    });
    const { client } = await open({ wrap: blocked });
    client.watch('data', () => undefined).catch(() => undefined);
    await expect(client.close()).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  });

  test('one reply is lost: the connection is given up after two time-outs, and a wake-up ends its read', async () => {
    let count = 0;
    const answerAfter = () => (count++ === 0 ? new Promise(() => undefined) : Promise.resolve());
    const { client } = await open({ device: { answerAfter }, client: { timeoutMs: 400 } });
    await Promise.allSettled([client.read('domid'), client.read('domid')]);
    expect(await client.closed).toMatchObject({ name: 'ConnectionError', code: 'ETIMEDOUT' });
    await client.close();
  });

  test('when nothing has been heard for two time-outs the connection is given up, and its file closed once', async () => {
    const files: string[] = [];
    const counting = (device: XenbusDevice): DeviceFile => ({
      read: (buffer) => device.read(buffer),
      write: (bytes) => device.write(bytes),
      close: async () => void files.push('closed'),
    });
    const { client } = await open({
      device: { answerAfter: () => new Promise(() => undefined) },
      client: { timeoutMs: 1_000 },
      wrap: counting,
    });
    const first = client.read('domid');
    const second = client.read('data');
    await expect(first).rejects.toMatchObject({ name: 'XenstoreError', code: 'ETIMEDOUT' });
    await expect(second).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    expect((await client.closed).message).toBe('fake: xenstored has not answered for 2 s');
    await expect(client.close()).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    expect(files).toEqual(['closed']);
  });
});

describe('watches', () => {
  test.each(['before-ok', 'after-ok'] as const)(
    'the first event reaches the listener when it comes %s',
    async (firstEvent) => {
      const { client } = await open({ device: { firstEvent } });
      const events: WatchEvent[] = [];
      const watch = await client.watch('data', (event) => events.push(event));
      if (firstEvent === 'before-ok') expect(events).toHaveLength(1);
      await until(() => events.length === 1);
      expect(events).toEqual([{ path: 'data', token: watch.token }]);
    },
  );

  test('an event is not taken for the reply whose id it carries', async () => {
    let inWatch = false;
    const { client, dom0 } = await open({ device: { answerAfter: () => sleep(inWatch ? 30 : 0) } });
    const events: string[] = [];
    await client.watch('data', ({ path }) => events.push(path));
    inWatch = true;
    const reading = client.read('domid');
    await dom0.write('/local/domain/1/data/x', 'not the answer');
    await until(() => events.includes('data/x'));
    expect(await reading).toBe('1');
  });

  test('kernels that answer with id 0', async () => {
    const { client, dom0 } = await open({ device: { watchReplyIdZero: true }, client: { timeoutMs: 500 } });
    const events: string[] = [];
    const watch = await client.watch('data', ({ path }) => events.push(path));
    await dom0.write('/local/domain/1/data/x', '1');
    await until(() => events.length === 2);
    await watch.close();
    await dom0.write('/local/domain/1/data/x', '2');
    expect(await client.read('domid')).toBe('1');
    expect(events).toEqual(['data', 'data/x']);
  });

  test('the quota is the errno of the write: the watch fails at once, and the rest goes on', async () => {
    const { client, device } = await open({ client: { timeoutMs: 2000 } });
    for (let i = 0; i <= 128; i++) await client.watch(`data/${i}`, () => undefined);
    const startedAt = performance.now();
    await expect(client.watch('data/129', () => undefined, 'mine')).rejects.toMatchObject({
      name: 'XenstoreError',
      code: 'E2BIG',
      op: 'WATCH',
      path: 'data/129',
    });
    expect(performance.now() - startedAt).toBeLessThan(1000);
    expect(await client.read('domid')).toBe('1');
    await expect(client.watch('data/129', () => undefined, 'mine')).rejects.toMatchObject({ code: 'E2BIG' }); // the token is free again
    expect(device.maxInFlight).toBe(1);
  });

  test('no event after close()', async () => {
    const { client, dom0 } = await open();
    const events: string[] = [];
    const watch = await client.watch('data', ({ path }) => events.push(path));
    await watch.close();
    await dom0.write('/local/domain/1/data/x', '1');
    expect(await client.read('data/x')).toBe('1');
    expect(events).toEqual(['data']);
  });
});

describe('the end', () => {
  test('close wakes the blocked read', async () => {
    const { client, device } = await open();
    await client.read('domid');
    const startedAt = performance.now();
    await client.close();
    expect(performance.now() - startedAt).toBeLessThan(200);
    expect(device.taken).toEqual([XS.READ, XS.READ]);
    expect(await client.closed).toMatchObject({ code: 'ECANCELED' });
  });

  test('close rejects all that waits, and pipelines nothing', async () => {
    const { client, device } = await open({ device: { answerAfter: () => sleep(50) } });
    const waiting = Array.from({ length: 5 }, () => client.read('domid'));
    const outcome = Promise.allSettled(waiting);
    await client.close();
    expect((await outcome).map((result) => (result as PromiseRejectedResult).reason.code)).toEqual(
      Array(5).fill('ECANCELED'),
    );
    expect(device.maxInFlight).toBe(1);
    await expect(client.read('domid')).rejects.toMatchObject({ code: 'ECANCELED' });
  });

  test('close while a WATCH is about to fail, which brings no reply that would wake the read', async () => {
    const { client, device } = await open({ device: { answerAfter: () => sleep(50) } });
    const watching = client.watch('a//b', () => undefined).catch((error) => error.code);
    await client.close();
    expect(await watching).toBe('ECANCELED');
    expect(device.maxInFlight).toBe(1);
  });

  test('with a dead xenstored close rejects with ETIMEDOUT', async () => {
    const { client } = await open({ device: { answerAfter: () => new Promise(() => {}) } });
    const reading = client.read('domid').catch((error) => error.code);
    const startedAt = performance.now();
    await expect(client.close()).rejects.toMatchObject({ name: 'ConnectionError', code: 'ETIMEDOUT', peer: 'fake' });
    expect(performance.now() - startedAt).toBeLessThan(1000);
    expect(await reading).toBe('ECANCELED');
  });

  test('a dead xenstored under an idle client: the same', async () => {
    const { client } = await open({ device: { answerAfter: () => new Promise(() => {}) } });
    await expect(client.close()).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  });
});
