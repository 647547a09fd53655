import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NetlinkError } from '../../src/errors.js';
import { encodeAttributes, parseAttributes } from '../../src/network/attributes.js';
import {
  describeFeatures,
  encodeGetFamily,
  encodeSetFeatures,
  featureChange,
  fixedOffloads,
  parseFamilyId,
  parseFeatures,
} from '../../src/network/ethtool.js';
import type { KernelNetwork } from '../../src/network/kernel.js';
import { eachMessage } from '../../src/network/netlink.js';
import { encodeSetLink, type Link, parseAddress, parseLink } from '../../src/network/rtnetlink.js';
import { applySteps } from '../../src/vif/apply.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('golden bytes (little-endian)', () => {
  test('attributes are padded to 4 and nested ones are marked', () => {
    expect(
      hex(
        encodeAttributes([
          [3, 'br0'],
          [4, 1500],
          [26, [[10, Uint8Array.of(1)]]],
        ]),
      ),
    ).toBe('0800030062723000' + '08000400dc050000' + '0c001a80' + '05000a0001000000');
  });
  test('RTM_SETLINK: ifinfomsg with flags and mask, then attributes', () => {
    expect(hex(encodeSetLink(7, { up: true }))).toBe('00000000' + '07000000' + '01000000' + '01000000');
    expect(hex(encodeSetLink(7, { master: 3 }))).toBe(
      '00000000' + '07000000' + '00000000' + '00000000' + '08000a0003000000',
    );
  });
  test('CTRL_CMD_GETFAMILY', () =>
    expect(hex(encodeGetFamily('ethtool'))).toBe('03010000' + '0c000200' + '657468746f6f6c00'));
  test('FEATURES_SET lists the bits by name, with a value when they are to be 1', () => {
    expect(Buffer.from(encodeSetFeatures(7, { 'tx-nocache-copy': false })).toString('latin1')).toContain(
      'tx-nocache-copy\0',
    );
    const name = Buffer.from('rx-gro\0\0').toString('hex');
    expect(hex(encodeSetFeatures(7, { 'rx-gro': false })).endsWith(`0b000200${name}`)).toBe(true);
    expect(hex(encodeSetFeatures(7, { 'rx-gro': true })).endsWith(`0b000200${name}04000300`)).toBe(true);
  });
});

describe('whatever the bytes are, the parsers end and do not throw', () => {
  const noise = fc.uint8Array({ maxLength: 400 });
  test.each([
    ['parseAttributes', (bytes: Uint8Array) => parseAttributes(bytes)],
    ['parseLink', (bytes: Uint8Array) => parseLink(bytes)],
    ['parseAddress', (bytes: Uint8Array) => parseAddress(bytes)],
    ['parseFamilyId', (bytes: Uint8Array) => parseFamilyId(bytes)],
    ['parseFeatures', (bytes: Uint8Array) => parseFeatures(bytes)],
    ['eachMessage', (bytes: Uint8Array) => [...eachMessage(bytes)]],
  ])('%s', (_, parse) =>
    fc.assert(
      fc.property(noise, (bytes) => void parse(bytes)),
      { numRuns: 3000 },
    ),
  );
});

describe('offloads', () => {
  const features = {
    wanted: new Set(['tx-tcp-segmentation', 'rx-gro']),
    unwanted: new Set(['tx-tcp6-segmentation']),
    active: new Set(['rx-gro', 'rx-checksum']),
  };
  test('only what differs and can be changed', () => {
    expect(featureChange({ tso: false, gro: true, rxChecksum: false }, features)).toEqual({
      'tx-tcp-segmentation': false,
    });
    expect(featureChange({ tso: true }, features)).toEqual({ 'tx-tcp6-segmentation': true });
    expect(Object.keys(featureChange({ tso: true, gro: false }, undefined))).toHaveLength(6);
    expect(describeFeatures({ a: false, b: true, c: false })).toBe('off: a c, on: b');
    expect(describeFeatures({ b: true })).toBe('on: b');
  });
  test('what the driver has fixed', () => {
    expect(fixedOffloads({ rxChecksum: false, tso: false, sg: true, gro: true }, features)).toEqual([
      'rxChecksum',
      'sg',
    ]);
    expect(fixedOffloads({ rxChecksum: true, sg: false }, features)).toEqual([]);
  });
});

describe('applying steps', () => {
  const link = { ifindex: 7, ifname: 'vif5.0', mtu: 1500 } as Link;
  /** A kernel that refuses the first calls with these errors. */
  const refusing = (...codes: string[]) => {
    const calls: object[] = [];
    const kernel = {
      setLink: async (_: unknown, change: object) => {
        calls.push(change);
        const code = codes.shift();
        if (code !== undefined) throw new NetlinkError(code, 'set', 'vif5.0', 1);
      },
    } as unknown as KernelNetwork;
    return { kernel, calls };
  };

  test.each(['EPERM', 'ENODEV', 'EINVAL', 'EBUSY', 'EEXIST'])('%s ends the plan at once', async (code) => {
    const { kernel, calls } = refusing(code);
    const steps = [
      { do: 'set-link', link, change: { master: 3 } } as const,
      { do: 'set-link', link, change: { up: true } } as const,
    ];
    await expect(applySteps(steps, kernel)).rejects.toMatchObject({ code });
    expect(calls).toHaveLength(1);
  });

  test('an MTU that the guest’s driver does not allow is a warning', async () => {
    const { kernel } = refusing('EINVAL');
    expect(await applySteps([{ do: 'set-mtu', link, mtu: 9000 }], kernel)).toEqual({
      done: [],
      warnings: [expect.stringContaining('vif5.0 keeps MTU 1500')],
    });
  });
});
