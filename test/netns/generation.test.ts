/** When nft lists a table: after a change by another, and then once. Each case counts the runs of the real nft. */
import { execaSync } from 'execa';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { VifdError } from '../../src/errors.js';
import { Generation } from '../../src/network/generation.js';
import { type Guard, TABLES } from '../../src/network/guard-table.js';
import { Nft } from '../../src/network/nft.js';
import { Nftables } from '../../src/network/nftables.js';
import './namespace.js';

const nft = (command: string) => execaSync('nft', [command]).stdout;
const ALL = 'ether saddr != 00:16:3e:00:00:01 drop';
const guard = (n: number): Guard => ({ chain: `guard_${n}`, rules: [ALL] });
const flush = () => void nft('flush table bridge vifd');

let listed: number;
let fault: VifdError | undefined;
let meanwhile: { before?: () => void; after?: () => void };
let [bridge, nat]: Nftables[] = [];
let close: () => void;

class Counted extends Nft {
  override run(...words: readonly string[]) {
    listed += 1;
    if (fault !== undefined) return Promise.reject(fault);
    return super.run(...words);
  }
  override async transaction(lines: readonly string[]) {
    meanwhile.before?.();
    const ended = await super.transaction(lines);
    meanwhile.after?.();
    meanwhile = {};
    return ended;
  }
}

beforeEach(() => {
  nft('flush ruleset');
  const [one, generation] = [new Counted(), new Generation()];
  [bridge, nat] = [new Nftables(TABLES.bridge, one, generation), new Nftables(TABLES.nat, one, generation)];
  listed = 0;
  meanwhile = {};
  close = () => {
    one.close();
    generation.close();
  };
});
afterEach(() => close());
const tables = () => [bridge, nat] as [Nftables, Nftables];

test('our own transactions, of all tables and at the same time, have no table listed again', async () => {
  const [guards, masquerades] = tables();
  for (let n = 1; n <= 4; n++) {
    const both = [
      guards.set(`vif${n}.0`, guard(n)),
      masquerades.set(`vif${n}.0`, { chain: `nat_${n}`, rules: ['masquerade'] }),
    ];
    const looks = Array.from({ length: 20 }, () => guards.names());
    await Promise.all([...both, ...looks]);
    expect(await guards.chainOf(`vif${n}.0`, 'now')).toBe(`guard_${n}`);
  }
  expect(listed).toBe(2);
});

test('a change by another has each of them listed once, at its next look', async () => {
  const [guards, masquerades] = tables();
  await guards.set('vif1.0', guard(1));
  await masquerades.names();
  nft('add table ip others');
  await Promise.all([guards.names(), guards.names(), masquerades.names()]);
  for (let i = 0; i < 3; i++) await guards.names();
  expect(listed).toBe(4);
});

test('a flush is seen by the look right behind it', async () => {
  const [guards] = tables();
  await guards.set('vif1.0', guard(1));
  flush();
  expect(await guards.chainOf('vif1.0', 'stale')).toBe('guard_1');
  expect(await guards.chainOf('vif1.0', 'now')).toBeUndefined();
});

test.each(['before', 'after'] as const)(
  '%s a transaction: a flush by another does not leave it half done',
  async (when) => {
    const [guards] = tables();
    await guards.set('vif1.0', guard(1));
    meanwhile = { [when]: flush };
    await guards.set('vif2.0', guard(2));
    expect(await guards.chainOf('vif1.0', 'now')).toBeUndefined();
    expect(await guards.chainOf('vif2.0', 'now')).toBe('guard_2');
    expect(nft('list table bridge vifd')).toMatch(/chain from_vifs {[^}]*iifname vmap @guards/);
    expect(nft('list chain bridge vifd guard_2')).toContain(ALL);
  },
);

test('what is in force is not set again', async () => {
  const [guards] = tables();
  await guards.set('vif1.0', guard(1));
  meanwhile = {
    before: () => {
      throw new Error('a transaction');
    },
  };
  await guards.set('vif1.0', guard(1));
  await expect(guards.set('vif1.0', undefined)).rejects.toThrow('a transaction');
});

test('a look for which nft could not be run is made again', async () => {
  const [guards] = tables();
  await guards.set('vif1.0', guard(1));
  nft('add table ip others');
  fault = new VifdError('EAGAIN', 'nft cannot be run (EAGAIN)');
  expect(await guards.names()).toEqual([]);
  fault = undefined;
  expect(await guards.names()).toEqual(['vif1.0']);
});
