/** What becomes of changes that nft refuses, and of those that it does not end; with an nft of this process only. */
import { expect, test } from 'vitest';
import type { Ended } from '../../src/child.js';
import type { Generation } from '../../src/network/generation.js';
import { TABLES } from '../../src/network/guard-table.js';
import type { Nft } from '../../src/network/nft.js';
import { Nftables } from '../../src/network/nftables.js';

const ended = (more: Partial<Ended> = {}): Ended => ({
  code: 0,
  signal: null,
  isLate: false,
  out: '',
  err: '',
  ...more,
});
const LATE = ended({ code: null, signal: 'SIGKILL', isLate: true });
const NONE = ended({ code: 1, err: 'Error: No such file or directory' });
/** Nobody else changes any rules. */
const alone = {
  changes: async () => 0,
  transact: (one: () => Promise<void>) => one().then(() => 0),
} as unknown as Generation;

/** `answer` is what a run ends with; undefined: well. */
function table(answer: (words: readonly string[]) => Ended | undefined = () => undefined) {
  const runs = { listed: 0, changed: 0 };
  const nft = {
    run: async () => {
      runs.listed++;
      return answer(['list']) ?? NONE;
    },
    transaction: async (lines: readonly string[]) => {
      runs.changed++;
      return answer(lines) ?? ended();
    },
  } as unknown as Nft;
  const nftables = new Nftables(TABLES.bridge, nft, alone);
  const set = (n: number) => nftables.set(`vif${n}.0`, { chain: `guard_${n}`, rules: ['drop'] });
  return { nftables, set, runs };
}
const hangs = (words: readonly string[]) => words.join().includes('vif');
const SIXTEEN = Array.from({ length: 16 }, (_, i) => i);

test('an nft that does not end is waited for once by all that share its run, and what was in force still is', async () => {
  let isWell = true;
  const { nftables, set, runs } = table((words) => (!isWell && hangs(words) ? LATE : undefined));
  await set(99);
  isWell = false;
  for (const result of await Promise.allSettled(SIXTEEN.map(set)))
    expect(result).toMatchObject({
      status: 'rejected',
      reason: {
        code: 'ENFTTIME',
        message: 'the vif cannot be guarded: nft has not done it',
        hint: 'it did not end within 5 s; see what it waits for: time nft list ruleset',
      },
    });
  expect(await nftables.chainOf('vif99.0', 'now')).toBe('guard_99');
  expect(runs).toEqual({ listed: 1, changed: 2 });
});

test('where it hangs once the rules of one have been refused, the others wait for it no more', async () => {
  const { set, runs } = table((words) => {
    if (words.join().includes('vif3.0')) return words.join().includes('vif4.0') ? ended({ code: 1 }) : LATE;
    return undefined;
  });
  const results = await Promise.allSettled(SIXTEEN.map(set));
  expect(results.map(({ status }) => status).join()).toMatch(/^(fulfilled,){3}(rejected,?){13}$/);
  expect(runs.changed).toBe(5);
});

test('one whose run is killed is made in the next; one whose rules are refused does no harm to the others', async () => {
  let killed = false;
  const { set, runs } = table((words) => {
    if (words.join().includes('vif3.0')) return ended({ code: 1, err: 'Error: syntax error' });
    if (killed) return undefined;
    killed = true;
    return ended({ code: null, signal: 'SIGKILL' });
  });
  await set(99);
  const results = await Promise.allSettled(SIXTEEN.map(set));
  expect(results.flatMap(({ status }, i) => (status === 'rejected' ? [i] : []))).toEqual([3]);
  expect(runs.changed).toBe(1 + 1 + 16);
});

test('an nft that does not list the table is not asked to change it, too', async () => {
  let isWell = false;
  const { nftables, set, runs } = table(() => (isWell ? undefined : LATE));
  await expect(nftables.chainOf('vif1.0', 'now')).rejects.toMatchObject({ code: 'ENFTTIME' });
  await expect(set(1)).rejects.toMatchObject({ code: 'ENFTTIME' });
  expect(await nftables.names()).toEqual([]);
  expect(runs.changed).toBe(0);
  isWell = true;
  await set(1);
  expect(await nftables.chainOf('vif1.0', 'now')).toBe('guard_1');
});

test('of a guard that has gone nothing is kept', async () => {
  const { nftables, set } = table();
  for (const n of SIXTEEN) {
    await set(n);
    await nftables.set(`vif${n}.0`, undefined);
  }
  const { stale } = nftables as unknown as { stale: { chains: Map<string, string>; inForce: Set<string> } };
  expect([stale.chains.size, stale.inForce.size]).toEqual([0, 0]);
});
