/** Commands of bindings that cannot even be started. */
import { expect, test } from 'vitest';
import { runCommand } from '../../src/binding/command.js';

const run = (...argv: string[]) =>
  runCommand({ argv, env: {}, limitMs: 5_000, onLine: () => {}, signal: new AbortController().signal });

test('what the kernel refuses at once is a sentence like all else, and the next one runs', async () => {
  expect(await run('/bin/echo', 'x'.repeat(3 << 20))).toBe('cannot be run (E2BIG)');
  expect(await run('/no/such')).toBe('cannot be run (ENOENT)');
  expect(await run('/bin/sh', '-c', 'exit 3')).toBe('failed (exit code 3)');
  expect(await run('/bin/true')).toBeUndefined();
});
