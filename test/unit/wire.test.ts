import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../../src/errors.js';
import {
  encodePacket,
  encodeRequest,
  HEADER_SIZE,
  PAYLOAD_MAX,
  type Packet,
  Parser,
  parseDirectoryPart,
  parseErrorName,
  parseStrings,
  parseWatchEvent,
  type Request,
  strings,
  XS,
} from '../../src/xenstore/wire.js';

const bytes = (text: string) => new TextEncoder().encode(text);
/** The expected message: a little-endian header (these tests run on x86 and arm64) and the payload. */
const golden = (type: number, reqId: number, txId: number, payload: string) => {
  const header = Buffer.alloc(HEADER_SIZE);
  [type, reqId, txId, payload.length].forEach((word, i) => {
    header.writeUInt32LE(word, 4 * i);
  });
  return new Uint8Array(Buffer.concat([header, Buffer.from(payload, 'latin1')]));
};

describe('requests are the bytes of xs_wire.h', () => {
  const table: [Request, number, number, string][] = [
    [{ op: 'DIRECTORY', path: 'backend/vif' }, 1, 0, 'backend/vif\0'],
    [{ op: 'READ', path: 'domid', tx: 7 }, 2, 7, 'domid\0'],
    [{ op: 'GET_PERMS', path: '/' }, 3, 0, '/\0'],
    [{ op: 'WATCH', path: 'backend/vif', token: 't1' }, 4, 0, 'backend/vif\0t1\0'],
    [{ op: 'UNWATCH', path: '@releaseDomain', token: '' }, 5, 0, '@releaseDomain\0\0'],
    [{ op: 'TRANSACTION_START' }, 6, 0, '\0'],
    [{ op: 'TRANSACTION_END', commit: true, tx: 9 }, 7, 9, 'T\0'],
    [{ op: 'TRANSACTION_END', commit: false, tx: 9 }, 7, 9, 'F\0'],
    [{ op: 'INTRODUCE', domid: 5, gfn: 1, evtchn: 2 }, 8, 0, '5\x001\x002\0'],
    [{ op: 'RELEASE', domid: 5 }, 9, 0, '5\0'],
    [{ op: 'GET_DOMAIN_PATH', domid: 5 }, 10, 0, '5\0'],
    [{ op: 'WRITE', path: 'a/b', value: bytes('connected') }, 11, 0, 'a/b\0connected'],
    [{ op: 'WRITE', path: 'a/b', value: bytes('') }, 11, 0, 'a/b\0'],
    [{ op: 'MKDIR', path: 'a' }, 12, 0, 'a\0'],
    [{ op: 'RM', path: 'a' }, 13, 0, 'a\0'],
    [{ op: 'SET_PERMS', path: 'a', perms: ['n0', 'r5'] }, 14, 0, 'a\0n0\0r5\0'],
    [{ op: 'IS_DOMAIN_INTRODUCED', domid: 3 }, 17, 0, '3\0'],
    [{ op: 'RESUME', domid: 3 }, 18, 0, '3\0'],
    [{ op: 'SET_TARGET', domid: 3, target: 4 }, 19, 0, '3\x004\0'],
    [{ op: 'RESET_WATCHES' }, 21, 0, '\0'],
    [{ op: 'DIRECTORY_PART', path: 'a', offset: 12 }, 22, 0, 'a\x0012\0'],
    [{ op: 'GET_FEATURE', args: [] }, 23, 0, ''],
    [{ op: 'GET_QUOTA', args: ['5', 'nodes'] }, 25, 0, '5\0nodes\0'],
    [{ op: 'CONTROL', args: ['help'] }, 0, 0, 'help\0'],
  ];
  test.each(table)('%o', (request, type, tx, payload) => {
    expect(encodeRequest(request, 42)).toEqual(golden(type, 42, tx, payload));
  });
});

test('a message may carry PAYLOAD_MAX bytes and not one more', () => {
  const packet = (length: number): Packet => ({ type: XS.WRITE, reqId: 1, txId: 0, payload: new Uint8Array(length) });
  expect(encodePacket(packet(PAYLOAD_MAX))).toHaveLength(HEADER_SIZE + PAYLOAD_MAX);
  expect(() => encodePacket(packet(PAYLOAD_MAX + 1))).toThrow(RangeError);
});

describe('the parser', () => {
  const arbitraryPacket = fc.record({
    type: fc.nat(30),
    reqId: fc.nat(0xffffffff),
    txId: fc.nat(0xffffffff),
    payload: fc.uint8Array({ maxLength: 300 }),
  });

  test('gives the packets back however they are split', () => {
    fc.assert(
      fc.property(
        fc.array(arbitraryPacket, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 400 })),
        (packets, cuts) => {
          const stream = Buffer.concat(packets.map((packet) => encodePacket(packet)));
          const parser = new Parser('test');
          const parsed: Packet[] = [];
          let at = 0;
          for (const length of [...cuts, stream.length]) {
            parsed.push(...parser.push(stream.subarray(at, at + length)));
            at += length;
          }
          expect(parsed.map((packet) => ({ ...packet, payload: new Uint8Array(packet.payload) }))).toEqual(packets);
        },
      ),
    );
  });

  test('gives them back when fed one byte at a time', () => {
    const stream = Buffer.concat([golden(2, 1, 0, 'value'), golden(15, 0, 0, 'a\0t\0'), golden(16, 2, 0, 'ENOENT\0')]);
    const parser = new Parser('test');
    const parsed = [...stream].flatMap((byte) => parser.push(Uint8Array.of(byte)));
    expect(parsed.map(({ type }) => type)).toEqual([XS.READ, XS.WATCH_EVENT, XS.ERROR]);
  });

  test('refuses a length beyond the protocol, saying where', () => {
    const good = golden(2, 1, 0, 'x');
    const bad = golden(2, 1, 0, '');
    new DataView(bad.buffer).setUint32(12, PAYLOAD_MAX + 1, true);
    const parser = new Parser('/dev/xen/xenbus');
    parser.push(good);
    expect(() => parser.push(bad)).toThrow(
      new ProtocolError('/dev/xen/xenbus', good.length, 'message of type 2 announces 4097 bytes, more than 4096'),
    );
  });

  test('never throws anything but ProtocolError on noise, and never holds more than one message', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 5000 }), { maxLength: 5 }), (pieces) => {
        const parser = new Parser('noise');
        try {
          for (const piece of pieces) parser.push(piece);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
    );
  });
});

describe('payloads', () => {
  test.each([
    [strings('a', 'b'), ['a', 'b']],
    [bytes('value without NUL'), ['value without NUL']],
    [new Uint8Array(0), []],
    [strings(''), ['']],
    [strings('', ''), ['', '']],
  ])('strings of %o', (payload, expected) => expect(parseStrings(payload)).toEqual(expected));

  test.each([
    ['ENOENT\0', 'ENOENT'],
    ['ENOENT', 'ENOENT'],
    ['EWEIRD\0', 'EINVAL'],
    ['EQUOTA\0', 'ENOSPC'],
    ['', 'EINVAL'],
  ])('error name of %j', (payload, expected) => expect(parseErrorName(bytes(payload))).toBe(expected));

  test('watch events', () => {
    expect(parseWatchEvent(strings('backend/vif/5/0', 'tok'))).toEqual({ path: 'backend/vif/5/0', token: 'tok' });
    expect(parseWatchEvent(bytes('only one'))).toBeUndefined();
  });

  test('directory parts', () => {
    expect(parseDirectoryPart(bytes('17\0a\0bb\0'))).toEqual({ generation: '17', children: ['a', 'bb'], last: false });
    expect(parseDirectoryPart(bytes('17\0c\0\0'))).toEqual({ generation: '17', children: ['c'], last: true });
    expect(parseDirectoryPart(bytes('17\0\0'))).toEqual({ generation: '17', children: [], last: true });
  });
});

describe('what no daemon would understand is refused before it is sent', () => {
  const value = new Uint8Array(0);
  test.each<[string, Request, string, RegExp]>([
    [
      'a NUL in a path',
      { op: 'READ', path: 'data\0x' },
      'EINVAL',
      /xenstore READ "data\\u0000x": EINVAL \(it contains a NUL\)/,
    ],
    ['a NUL in a token', { op: 'WATCH', path: 'data', token: 'a\0b' }, 'EINVAL', /NUL/],
    ['a NUL in permissions', { op: 'SET_PERMS', path: 'data', perms: ['n0\0r5'] }, 'EINVAL', /NUL/],
    ['a NUL in an argument', { op: 'CONTROL', args: ['print\0x'] }, 'EINVAL', /NUL/],
    [
      'a relative path of 2049 bytes',
      { op: 'READ', path: 'x'.repeat(2049) },
      'EINVAL',
      /its path is longer than 2048 bytes/,
    ],
    ['an absolute path of 3073 bytes', { op: 'RM', path: `/${'x'.repeat(3072)}` }, 'EINVAL', /longer than 3072 bytes/],
    [
      'more than a message',
      { op: 'WRITE', path: 'x', value: new Uint8Array(4095) },
      'E2BIG',
      /4097 bytes, at most 4096/,
    ],
  ])('%s', (_, request, code, message) => {
    expect(() => encodeRequest(request, 1)).toThrow(
      expect.objectContaining({ name: 'XenstoreError', code, op: request.op }),
    );
    expect(() => encodeRequest(request, 1)).toThrow(message);
  });
  test('the longest that there may be', () => {
    for (const path of ['x'.repeat(2048), `/${'x'.repeat(3071)}`])
      expect(encodeRequest({ op: 'WRITE', path, value }, 1)).toHaveLength(16 + path.length + 1);
  });
});
