import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeVlans, type PortVlans, parsePortVlans, sameVlans, vlanChange } from '../../src/network/bridge-vlan.js';
import { formatVlans, parseVlans } from '../../src/vif/vlan.js';

/** `[pvid, tagged..., -untagged...]` is easier to read. */
const list = (vlans: PortVlans | undefined) =>
  vlans && [vlans.pvid, ...[...vlans.untagged].map(([vid, bare]) => (bare ? -vid : vid))];

describe('what xl accepts', () => {
  test.each<[string, unknown[]]>([
    ['10', [10, -10]],
    ['10p', [10, -10]],
    ['10u', [undefined, -10]],
    ['10p/20', [10, -10, 20]],
    ['20/30', [undefined, 20, 30]],
    ['1p/10-12/20-21u', [1, -1, 10, 11, 12, -20, -21]],
    ['10p/100+10x4', [10, -10, 100, 110, 120, 130, 140]],
    ['100+10x1u', [undefined, -100, -110]],
    ['7-7', [undefined, 7]],
    ['4094p/1', [4094, -4094, 1]],
  ])('%s', (text, vlans) => expect(list(parseVlans(text))).toEqual(vlans));
});

test.each([
  '',
  '/',
  '0',
  '4095',
  '10p/20p',
  '10/10',
  '10-20/15',
  '20-10',
  '10-20p',
  '1+1x1p',
  '1+0x5',
  '4000+10x10',
  '10,20',
  '10 ',
  '10pu',
  '-5',
  '99999',
  '1+1x9999',
])('%j is refused', (text) => expect(parseVlans(text)).toBeUndefined());

const anyVlans: fc.Arbitrary<PortVlans> = fc
  .tuple(
    fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 4094 }), fc.boolean()), { selector: ([vid]) => vid }),
    fc.boolean(),
  )
  .map(([pairs, hasPvid]) => {
    const [first] = pairs;
    const pvid = hasPvid ? first?.[0] : undefined;
    return { pvid, untagged: new Map(pairs.map(([vid, bare]) => [vid, bare || vid === pvid])) };
  });

test('what is written is read as the same', () =>
  fc.assert(
    fc.property(anyVlans, (vlans) => {
      const read = parseVlans(formatVlans(vlans));
      if (vlans.untagged.size > 0) expect(read && sameVlans(read, vlans)).toBe(true);
    }),
  ));

test('no text hangs or throws', () =>
  fc.assert(fc.property(fc.stringMatching(/^[0-9pux+/-]{0,40}$/), (text) => void parseVlans(text))));

describe('as the kernel speaks of them', () => {
  test('10p/20-22 for port 7: two flags, and a range of two entries', () => {
    const bytes = Buffer.from(encodeVlans(7, parseVlans('10p/20-22') as PortVlans)).toString('hex');
    expect(bytes).toBe(
      '07000000' +
        '07000000' +
        '00000000' +
        '00000000' + // ifinfomsg: AF_BRIDGE, index 7
        '1c001a80' + // IFLA_AF_SPEC, nested
        '08000200' +
        '06000a00' + // PVID and untagged, 10
        '08000200' +
        '08001400' + // begin, 20
        '08000200' +
        '10001600', // end, 22
    );
  });

  test('what is sent is what is read', () =>
    fc.assert(
      fc.property(anyVlans, (vlans) => {
        const read = parsePortVlans(encodeVlans(7, vlans));
        expect(read?.ifindex).toBe(7);
        expect(read && sameVlans(read.vlans, vlans)).toBe(true);
      }),
    ));

  test('no answer throws', () =>
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void parsePortVlans(bytes))));
});

test('a change adds what is missing or other, and removes what is too much', () => {
  const of = (text: string) => parseVlans(text) as PortVlans;
  const { add, remove } = vlanChange(of('10p/20/30'), of('1p/10u/20/40'));
  expect([list(add), list(remove)]).toEqual([
    [10, -10, 30],
    [undefined, -1, 40],
  ]);
  fc.assert(
    fc.property(anyVlans, anyVlans, (want, seen) => {
      const change = vlanChange(want, seen);
      const after = new Map(seen.untagged);
      for (const [vid, bare] of change.add.untagged) after.set(vid, bare);
      for (const vid of change.remove.untagged.keys()) after.delete(vid);
      const pvid =
        want.pvid ??
        (seen.pvid !== undefined && !change.add.untagged.has(seen.pvid) && after.has(seen.pvid)
          ? seen.pvid
          : undefined);
      expect(sameVlans({ pvid, untagged: after }, want)).toBe(true);
    }),
  );
});
