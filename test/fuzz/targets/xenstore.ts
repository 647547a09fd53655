/** What xenstore says: packets, paths, and every node that dom0 or a guest may write. */
import fc from 'fast-check';
import { VifdError, XenstoreError } from '../../../src/errors.js';
import { SimulatedStore } from '../../../src/simulator/store.js';
import { parseVifName } from '../../../src/vif/report.js';
import { XenstoreClient } from '../../../src/xenstore/client.js';
import * as paths from '../../../src/xenstore/paths.js';
import type { Transport } from '../../../src/xenstore/transport.js';
import * as wire from '../../../src/xenstore/wire.js';
import { promise, same, type Target, textOf, typed, typedLater } from '../target.js';

const packet = fc
  .record({
    type: fc.oneof(fc.nat(27), fc.nat(0xffffffff)),
    reqId: fc.nat(9),
    txId: fc.nat(3),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.constantFrom('a\0', 'backend/vif/5/0\0t\0', 'ENOENT\0', '1\0', 'T\0', '').map((text) => Buffer.from(text)),
    ),
  })
  .map(wire.encodePacket);
const packets = fc.array(packet, { maxLength: 6 }).map((all) => Buffer.concat(all));

/** All packets and, where there is one, the fault; with what came before it. */
function parsed(pieces: readonly Uint8Array[]): { packets: wire.Packet[]; fault: string } {
  const parser = new wire.Parser('peer');
  const packets: wire.Packet[] = [];
  for (const piece of pieces) {
    const more = typed(() => parser.push(piece));
    if (more instanceof VifdError) return { packets, fault: more.message };
    packets.push(...more);
    const { pending } = parser as unknown as { pending: Uint8Array };
    promise(pending.length < wire.HEADER_SIZE + wire.PAYLOAD_MAX, 'less than one message is held', pending.length);
    promise(pending.buffer.byteLength <= pending.length + 8192, 'and no more memory than that', pending.length);
  }
  return { packets, fault: '' };
}

const splitAt = (input: Uint8Array, size: (i: number) => number): Uint8Array[] => {
  const pieces: Uint8Array[] = [];
  for (let at = 0, i = 0; at < input.length; i++) {
    const length = size(i);
    pieces.push(input.subarray(at, at + length));
    at += length;
  }
  return pieces;
};

const WIRE: Target = {
  name: 'wire',
  share: 0.3,
  reads: {
    'xenstore/wire.ts': ['push', 'parseStrings', 'parseErrorName', 'parseWatchEvent', 'parseDirectoryPart'],
  },
  promises: 'the same packets whole, bytewise and in any pieces; encoded again they are the bytes; one message is held',
  kind: 'attributes',
  seeds: packets,
  run: (input) => {
    const whole = parsed([input]);
    const sizes = input.length > 0 ? input : [1];
    const pieces = splitAt(input, (i) => 1 + ((sizes[i % sizes.length] ?? 0) % 29));
    const inPieces = parsed(pieces);
    same(inPieces.fault, whole.fault, 'the same fault in pieces');
    // Of a piece with a fault in it nothing is given out; of the pieces before it, what was whole.
    const least = Math.min(inPieces.packets.length, whole.packets.length);
    same(inPieces.packets.slice(0, least), whole.packets.slice(0, least), 'the same packets in pieces');
    if (whole.fault === '') same(inPieces.packets.length, whole.packets.length, 'as many packets in pieces');
    if (input.length <= 512) {
      const bytewise = parsed(splitAt(input, () => 1));
      same(bytewise.fault, whole.fault, 'the same fault bytewise');
      same(bytewise.packets.slice(0, inPieces.packets.length), inPieces.packets, 'the same packets bytewise');
    }
    for (const one of whole.packets) readPayload(one.payload);
    const again = Buffer.concat(whole.packets.map(wire.encodePacket));
    promise(again.equals(input.subarray(0, again.length)), 'encoded again they are the bytes');
    if (whole.fault === '') promise(input.length - again.length < 4112, 'all that is whole is given out');
  },
};

function readPayload(payload: Uint8Array): void {
  const words = wire.parseStrings(payload);
  promise(words.length <= payload.length + 1, 'no more strings than bytes');
  promise(/^E[A-Z0-9]+$/.test(wire.parseErrorName(payload)), "an error's name is one of errno's");
  wire.parseWatchEvent(payload);
  promise(wire.parseDirectoryPart(payload).children.length <= payload.length, 'no more children than bytes');
}

/** A connection on which somebody else decides what comes. */
class HostileTransport implements Transport {
  readonly peer = 'hostile';
  onBytes: (bytes: Uint8Array) => void = () => undefined;
  constructor(readonly maxInFlight: number) {}
  start(onBytes: (bytes: Uint8Array) => void): void {
    this.onBytes = onBytes;
  }
  async send(): Promise<void> {}
  async close(): Promise<void> {}
  async released(): Promise<void> {}
}

const CLIENT: Target = {
  name: 'client',
  share: 0.2,
  reads: { 'xenstore/client.ts': ['receive', 'dispatch', 'deliver', 'domainPath', 'attemptUntilCommitted'] },
  promises: 'whatever xenstored answers, every request ends with a value or with a XenstoreError or ConnectionError',
  kind: 'attributes',
  seeds: packets,
  run: async (input) => {
    const transport = new HostileTransport(((input[0] ?? 0) & 1) === 0 ? 1 : 16);
    const client = new XenstoreClient(transport);
    const asked = [
      typedLater(() => client.watch('backend/vif', ({ path }) => promise(typeof path === 'string', 'a path'), 't')),
      typedLater(() => client.read('a')),
      typedLater(() => client.directory('b')),
      typedLater(() => client.getPerms('b')),
      typedLater(() => client.domainPath(5)),
      typedLater(() => client.transaction(async (tx) => tx.write('a', 'b'))),
    ];
    for (const piece of splitAt(input, (i) => 16 + (i % 40))) {
      transport.onBytes(piece);
      await undefined;
    }
    await client.close();
    await Promise.all(asked);
  },
};

const SIMULATED: Target = {
  name: 'simulated-store',
  share: 0.2,
  reads: { 'simulator/permissions.ts': ['parsePermission'], 'simulator/connection.ts': ['handle', 'reply'] },
  promises: 'the simulated xenstored answers every packet of a guest, with an error or a result',
  kind: 'attributes',
  seeds: fc
    .array(
      fc
        .record({
          type: fc.nat(27),
          payload: fc.constantFrom(
            'a\0',
            '/local/domain/5/x\0v',
            'a\0n5\0r0\0',
            '\0',
            '1\0',
            'T\0',
            'a\0t\0',
            '@x\0t\0',
          ),
        })
        .map(({ type, payload }) =>
          wire.encodePacket({ type, reqId: 1, txId: type % 2, payload: Buffer.from(payload) }),
        ),
      { maxLength: 8 },
    )
    .map((all) => Buffer.concat(all)),
  words: ['n5\0', 'b0\0', 'x9\0', 'w32753\0'],
  run: (input) => {
    const store = new SimulatedStore();
    let sent = 0;
    const connection = store.connect(5, (bytes) => {
      sent += bytes.length;
    });
    const read = typed(() => new wire.Parser('guest').push(input));
    for (const one of read instanceof VifdError ? [] : read) {
      const before = sent;
      connection.handle(one);
      promise(sent > before, 'each packet is answered', one.type);
    }
    connection.end();
  },
};

const PATHS: Target = {
  name: 'paths',
  reads: {
    'xenstore/paths.ts': ['parseBackendPath', 'parseKeyText', 'parseId', 'parseDomid', 'parseDevid'],
    'vif/report.ts': ['parseVifName'],
  },
  promises: 'a vif that is read out of a path has ids that make the same path again',
  kind: 'text',
  seeds: fc.oneof(
    fc
      .tuple(fc.nat(40000), fc.nat(1_100_000), fc.constantFrom('', '/state', '/a/b'))
      .map(([a, b, c]) => `backend/vif/${a}/${b}${c}`),
    fc.tuple(fc.nat(40000), fc.nat(70000)).map(([a, b]) => `/local/domain/0/backend/vif/${a}/${b}`),
    fc.tuple(fc.nat(40000), fc.nat(70000)).map(([a, b]) => `vif${a}.${b}`),
    fc.string(),
  ),
  words: ['backend/vif/', '/local/domain/', 'vif', '/device/vif/', '32752', '1000000', 'state'],
  run: (input) => {
    const text = textOf(input);
    const place = paths.parseBackendPath(text);
    if (place !== undefined) {
      const { key, node } = place;
      const relative = text.startsWith('/') ? text.replace(/^\/local\/domain\/\d+\//, '') : text;
      same(
        `${paths.backendDir(key)}${relative.includes(`${paths.keyText(key)}/`) ? '/' : ''}${node}`,
        relative,
        'the path',
      );
      promise(key.domid < paths.DOMID_FIRST_RESERVED && key.devid < 1_000_000, 'ids in their limits', key);
      same(paths.parseKeyText(paths.keyText(key)), key, 'keyText and back');
    }
    const named = parseVifName(text);
    if (named !== undefined) same(paths.parseKeyText(paths.keyText(named)), named, 'keyText and back');
    typed(() => {
      throw new XenstoreError('ENOENT', 'READ', text);
    });
  },
};

export const XENSTORE_TARGETS = [WIRE, CLIENT, SIMULATED, PATHS];
