/**
 * What is no request, and requests in pieces, at the simulator's socket. Apart from cases.ts because the real C daemon of
 * 4.17 must not be sent some of it: one path without its final NUL, after an RM, aborts it.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { encodePacket, encodeRequest, type Packet, Parser, parseErrorName, XS } from '../../src/xenstore/wire.js';
import { NICDOM, startWorld, until } from './support.js';

/** A socket with what came from it. */
async function open() {
  const { socket: path, connect: client } = await startWorld();
  const socket = connect(path(NICDOM));
  await once(socket, 'connect');
  onTestFinished(() => void socket.destroy());
  const heard: Packet[] = [];
  const parser = new Parser('simulator');
  let closed = false;
  socket.on('data', (bytes) => heard.push(...parser.push(bytes)));
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
  });
  return { socket, heard, isClosed: () => closed, dom0: await client(0) };
}

const message = (type: number, payload: string) =>
  encodePacket({ type, reqId: 7, txId: 0, payload: Buffer.from(payload, 'latin1') });
const read = (reqId: number) => encodeRequest({ op: 'READ', path: 'domid' }, reqId);

describe('payloads', () => {
  const onePath = [XS.READ, XS.DIRECTORY, XS.GET_PERMS, XS.MKDIR, XS.RM, XS.GET_DOMAIN_PATH];
  test.each(onePath)('type %i without its final NUL, with two, with none at all: EINVAL', async (type) => {
    const { socket, heard } = await open();
    for (const payload of ['data', 'data\0data\0', 'data\0x', '']) socket.write(message(type, payload));
    await until(() => heard.length === 4);
    expect(heard.map(({ type: kind, payload }) => [kind, parseErrorName(payload)])).toEqual(
      Array(4).fill([XS.ERROR, 'EINVAL']),
    );
  });

  test('types that are no requests: ENOSYS', async () => {
    const { socket, heard } = await open();
    for (const type of [15, 16, 20, 23, 24, 25, 26, 27, 0x7fffffff, 0xffffffff]) socket.write(message(type, 'data\0'));
    await until(() => heard.length === 10);
    expect(heard.map(({ type, payload }) => [type, parseErrorName(payload)])).toEqual(
      Array(10).fill([XS.ERROR, 'ENOSYS']),
    );
  });

  test('any bytes are answered, once and with their id, and the store stays whole', async () => {
    const { socket, heard, dom0 } = await open();
    const type = fc.integer({ min: 0, max: 30 }).filter((n) => n !== XS.TRANSACTION_START);
    const words = fc.array(
      fc.constantFrom('data', 'data/x', '/', 'T', '\0', '\0', '\0', 'n1', '7', '\xff', '@x', '//'),
    );
    let reqId = 0;
    const property = fc.asyncProperty(type, words, fc.nat(3), async (kind, list, txId) => {
      heard.length = 0;
      const payload = Buffer.from(list.join(''), 'latin1');
      socket.write(Buffer.concat([encodePacket({ type: kind, reqId: ++reqId, txId, payload }), read(0xffff)]));
      await until(() => heard.some((packet) => packet.reqId === 0xffff));
      expect(heard.filter((packet) => packet.type !== XS.WATCH_EVENT).map((packet) => packet.reqId)).toEqual([
        reqId,
        0xffff,
      ]);
    });
    await fc.assert(property, { numRuns: 500 });
    expect(await dom0.read(`/local/domain/${NICDOM}/domid`)).toBe(String(NICDOM));
  });
});

describe('pieces', () => {
  test('a request byte by byte, several in one write, and cuts anywhere', async () => {
    const { socket, heard } = await open();
    const three = Buffer.concat([read(1), read(2), read(3)]);
    for (const byte of three) socket.write(Uint8Array.of(byte));
    socket.write(three);
    for (const end of [1, 15, 16, 17, 21, 22, 23, 40, three.length]) {
      socket.write(three.subarray(0, end));
      await new Promise((resolve) => setTimeout(resolve, 2));
      socket.write(three.subarray(end));
    }
    await until(() => heard.length === 33);
    expect(heard.map(({ reqId }) => reqId)).toEqual(Array.from({ length: 33 }, (_, i) => (i % 3) + 1));
  });

  test('more than 4096 bytes: what came before is answered, then the connection is closed', async () => {
    const { socket, heard, isClosed, dom0 } = await open();
    const huge = Buffer.from(message(XS.WRITE, 'data/x\0'));
    new Uint32Array(huge.buffer, huge.byteOffset, 4)[3] = 4097;
    socket.write(Buffer.concat([read(1), read(2), huge]));
    await until(isClosed);
    expect(heard.map(({ reqId }) => reqId)).toEqual([1, 2]);
    expect(await dom0.directory(`/local/domain/${NICDOM}/data`)).toEqual([]);
  });

  test('a client that goes in the middle of a request, with watches and transactions open', async () => {
    const { socket, heard, isClosed, dom0 } = await open();
    socket.write(encodeRequest({ op: 'WATCH', path: 'data', token: 't' }, 1));
    socket.write(encodeRequest({ op: 'TRANSACTION_START' }, 2));
    await until(() => heard.length === 3);
    socket.write(encodeRequest({ op: 'WRITE', path: 'data/x', value: Buffer.from('1'), tx: 1 }, 3));
    await until(() => heard.length === 4);
    socket.end(read(4).subarray(0, 10));
    await until(isClosed);
    await dom0.write(`/local/domain/${NICDOM}/data/y`, '1');
    expect(await dom0.directory(`/local/domain/${NICDOM}/data`)).toEqual(['y']);
  });
});
