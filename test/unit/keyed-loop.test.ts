import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { KeyedLoop } from '../../src/keyed-loop.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A loop whose runs last until they are released. */
function slowLoop(settleMs = 0) {
  const started: string[] = [];
  const release: (() => void)[] = [];
  const loop = new KeyedLoop<string>((key) => {
    started.push(key);
    return new Promise((resolve) => release.push(() => resolve(settleMs)));
  });
  const finish = async () => {
    release.shift()?.();
    await vi.advanceTimersByTimeAsync(0);
  };
  return { loop, started, finish };
}

test('many kicks during a run cause exactly one more', async () => {
  const { loop, started, finish } = slowLoop();
  const done = loop.kick('a');
  for (let i = 0; i < 10; i++) void loop.kick('a');
  expect(started).toEqual(['a']);
  await finish();
  expect(started).toEqual(['a', 'a']);
  await finish();
  await done;
  expect(started).toEqual(['a', 'a']);
});

test('a key that hangs does not delay another', async () => {
  const { loop, started } = slowLoop();
  void loop.kick('a');
  void loop.kick('b');
  expect(started).toEqual(['a', 'b']);
});

test('of several delays the shortest counts, and a run makes the others void', async () => {
  const { loop, started, finish } = slowLoop();
  loop.kickLater('a', 1000);
  loop.kickLater('a', 100);
  loop.kickLater('a', 5000);
  await vi.advanceTimersByTimeAsync(99);
  expect(started).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(started).toEqual(['a']);
  await finish();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(started).toEqual(['a']);
});

test('after stop nothing starts any more', async () => {
  const { loop, started, finish } = slowLoop();
  void loop.kick('a');
  void loop.kick('a');
  loop.kickLater('b', 10);
  const stopped = loop.stop();
  await finish();
  await stopped;
  void loop.kick('c');
  await vi.advanceTimersByTimeAsync(100);
  expect(started).toEqual(['a']);
});

test('a run that has put all right lets a kick of meanwhile wait', async () => {
  const { loop, started, finish } = slowLoop(200);
  void loop.kick('a');
  void loop.kick('a');
  await finish();
  await vi.advanceTimersByTimeAsync(199);
  expect(started).toEqual(['a']);
  await vi.advanceTimersByTimeAsync(1);
  expect(started).toEqual(['a', 'a']);
});

test('a delay that ends during a run does not swallow later ones', async () => {
  const { loop, started, finish } = slowLoop(50);
  void loop.kick('a');
  loop.kickLater('a', 10);
  await vi.advanceTimersByTimeAsync(20); // fires while the run is under way
  await finish();
  await vi.advanceTimersByTimeAsync(50);
  expect(started).toEqual(['a', 'a']);
  await finish();
  loop.kickLater('a', 10);
  await vi.advanceTimersByTimeAsync(10);
  expect(started).toEqual(['a', 'a', 'a']);
});
