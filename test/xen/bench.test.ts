import { describe, expect, test } from 'vitest';
import { measureAgent, median, table } from './bench.js';
import { reasonAgainst } from './suite.js';

const BURSTS = [8, 16];

describe.skipIf(reasonAgainst() !== undefined)('vifd beside xl devd, same flags', () => {
  test('every vif of the bursts is connected, many times faster', async () => {
    const ours = await measureAgent('vifd', BURSTS);
    console.log(JSON.stringify(ours));
    const theirs = await measureAgent('devd', BURSTS);
    console.log(JSON.stringify(theirs));
    console.log(table(ours, theirs));
    for (const burst of ours.bursts) expect(burst).toMatchObject({ connected: burst.vifs, libxlErrors: 0 });
    expect(ours.attachMs).toHaveLength(5);
    expect(ours.detachMs).toHaveLength(5);
    expect(median(theirs.attachMs) / median(ours.attachMs)).toBeGreaterThan(3);
    expect(ours.residentMb).toBeLessThan(80);
  }, 1_200_000);
});
