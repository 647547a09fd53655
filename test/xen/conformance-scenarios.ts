/** The real daemons answer the table of protocol cases (test/store/cases.ts) that the simulator is held to. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import type { Lab } from './lab.js';
import { describeLab } from './suite.js';

const CONFORMANCE = join(dirname(fileURLToPath(import.meta.url)), '../store/conformance.ts');
const SIDES = [
  ['dom0', 'dom0', '/run/xenstored/socket'],
  ['nicdom', 'driver-domain', '/dev/xen/xenbus'],
] as const;

export function describeConformance(xenstored: 'xenstored' | 'oxenstored'): void {
  describeLab(`the real ${xenstored}`, { xenstored, agent: 'none', programs: [CONFORMANCE] }, (lab: () => Lab) => {
    test.each(SIDES)('answers as the simulator does: %s', { timeout: 400_000 }, async (where, who, path) => {
      const words = ['--connect', path, '--who', who, '--daemon', xenstored];
      const { code, out } = await lab().runNode(where, CONFORMANCE, words);
      expect(out.split('\n').filter((line) => line.startsWith('FAIL'))).toEqual([]);
      expect(out).toMatch(/[1-9]\d* passed, 0 failed/);
      expect(code).toBe(0);
    });
  });
}
