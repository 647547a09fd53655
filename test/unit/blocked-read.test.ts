/** The last resort of a program that is done, by a clock that is set by hand. */
import { afterEach, expect, test, vi } from 'vitest';
import { endDespiteBlockedRead } from '../../src/xenstore/transport.js';

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test('a program that is done kills itself where it cannot end, but not for being slow on a busy machine', () => {
  vi.useFakeTimers();
  const kill = vi.spyOn(process, 'kill').mockReturnValue(true);
  endDespiteBlockedRead();
  vi.advanceTimersByTime(450);
  expect(kill).not.toHaveBeenCalled();
  vi.advanceTimersByTime(100);
  expect(kill.mock.calls).toEqual([[process.pid, 'SIGKILL']]);
});
