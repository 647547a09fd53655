/** When a leaving vif's directory goes, against a clock that is set by hand. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Departure, type GuestActivity } from '../../src/vif/departure.js';

let now = 0;
beforeEach(() => {
  now = 100_000;
  vi.spyOn(performance, 'now').mockImplementation(() => now);
});
afterEach(() => vi.restoreAllMocks());

const CLOSED = 6;
const departure = (guest: GuestActivity = { leaving: 1 }) => new Departure(() => guest);

test('a single vif goes a second after dom0 and the kernel have done with it', () => {
  const vif = departure();
  expect(vif.begin('closed', CLOSED)).toBe(1_000);
  now += 999;
  expect(vif.isOver()).toBe(false);
  now += 1;
  expect(vif.isOver()).toBe(true);
});

test('one of many waits until all of the guest have been quiet, and longer for each that leaves', () => {
  const guest = { leaving: 16, changedAt: now };
  const vif = departure(guest);
  expect(vif.begin('closed', CLOSED)).toBe(2_500);
  now += 2_000;
  guest.changedAt = now; // dom0 is still at it
  expect(vif.begin('closed', CLOSED)).toBe(2_500);
  now += 2_500;
  expect(vif.isOver()).toBe(true);
});

test('but not longer than dom0 waits for it: 8 s of its 10', () => {
  const guest = { leaving: 16, changedAt: now };
  const vif = departure(guest);
  vif.begin('closed', CLOSED);
  for (let i = 0; i < 8; i++) {
    now += 999;
    guest.changedAt = now;
    expect(vif.isOver()).toBe(false);
  }
  now += 8;
  expect(vif.isOver()).toBe(true);
});

test('a new state gets its own time, the same one none', () => {
  const vif = departure();
  vif.begin('abandoned', 5);
  now += 4_000;
  expect(vif.begin('abandoned', 5)).toBe(2_000);
  expect(vif.begin('closed', CLOSED)).toBe(1_000);
  now += 500;
  vif.cancel();
  expect(vif.begin('closed', CLOSED)).toBe(1_000);
});

test('an abandoned one is never over without another look', () => {
  const vif = departure();
  expect(vif.begin('abandoned', 5)).toBe(6_000);
  now += 7_000;
  expect(vif.isOver()).toBe(false);
  expect(vif.begin('abandoned', 5)).toBe(0);
});

test('what another removes may go after the grace, and goes a while later when that other has not done it', () => {
  const vif = departure();
  expect(vif.begin('closed', CLOSED)).toBe(1_000);
  vif.leaveToAnother();
  expect(vif.begin('closed', CLOSED)).toBe(1_000); // to be looked at when it may go
  expect(vif.mayGo).toBe(false);
  now += 1_000;
  expect(vif.mayGo).toBe(true);
  expect(vif.isOver()).toBe(false);
  expect(vif.begin('closed', CLOSED)).toBe(1_500);
  now += 1_500;
  expect(vif.isOver()).toBe(true);
});

test('a word of dom0 whose event is late or lost: dom0 has the whole grace from when it was read', () => {
  const late = departure({ changedAt: now - 60_000, leaving: 1 });
  expect(late.begin('closed', CLOSED)).toBe(1_000);
});
