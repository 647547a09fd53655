import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isoTime } from '../../src/iso-time.js';

test('the time as Date writes it', () => {
  const max = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
  fc.assert(
    fc.property(fc.integer({ min: 0, max }), (ms) => isoTime(ms) === new Date(ms).toISOString()),
    { numRuns: 2_000 },
  );
});

test('each day of 400 years', () => {
  const first = Date.UTC(1970, 0, 1);
  for (let day = 0; day < 146_097; day++) {
    const ms = first + 86_400_000 * day;
    if (isoTime(ms) !== new Date(ms).toISOString()) expect(isoTime(ms)).toBe(new Date(ms).toISOString());
  }
});
