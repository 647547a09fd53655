/** The generation of nf_tables, without a kernel: its answer, and what is our own and what is others'. */
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { NetlinkError } from '../../src/errors.js';
import { Generation, parseGeneration } from '../../src/network/generation.js';
import { type NetlinkRequest, NetlinkSocket } from '../../src/network/netlink.js';

/** As Linux 6.18 answers: struct nfgenmsg, NFTA_GEN_ID 0x01020304, NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME "node". */
const answer = (id: string) =>
  Buffer.from(`00000000 08000100${id} 080002000000540e 090003006e6f646500000000`.replaceAll(' ', ''), 'hex');

describe('the answer', () => {
  test('is in the order of the network', () => expect(parseGeneration(answer('01020304'))).toBe(0x01020304));
  test.each([0, 4, 7, 11])('cut to %i bytes is none', (length) => {
    expect(parseGeneration(answer('01020304').subarray(0, length))).toBeUndefined();
  });
});

describe('changes by others', () => {
  let now: number;
  let asked: NetlinkRequest[];
  let generation: Generation;
  beforeEach(() => {
    now = 7;
    asked = [];
    generation = new Generation();
    const spy = vi.spyOn(NetlinkSocket.prototype, 'request').mockImplementation(async (request) => {
      asked.push(request);
      return [answer(now.toString(16).padStart(8, '0'))];
    });
    onTestFinished(() => spy.mockRestore());
  });

  test('are asked for as linux/netfilter/nf_tables.h says', async () => {
    await generation.changes();
    expect(asked[0]).toMatchObject({ type: 0x0a10, payload: new Uint8Array(4), expect: 'one' });
  });

  test('none, one, and several at once', async () => {
    const first = await generation.changes();
    expect(await generation.changes()).toBe(first);
    now += 1;
    const second = await generation.changes();
    expect(second).not.toBe(first);
    now += 5;
    expect([first, second]).not.toContain(await generation.changes());
  });

  test.each<[string, number, boolean]>([
    ['a transaction of our own is none', 1, true],
    ['one that changed nothing is none', 0, true],
    ['one beside a change by others is', 2, false],
  ])('%s', async (_, more, same) => {
    const before = await generation.changes();
    const after = await generation.transact(async () => {
      now += more;
    });
    expect([after === before, (await generation.changes()) === before]).toEqual([same, same]);
  });

  test('a transaction that was refused, and still there was a change', async () => {
    const before = await generation.changes();
    const refused = generation.transact(async () => {
      now += 1;
      throw new Error('refused');
    });
    await expect(refused).rejects.toThrow('refused');
    expect(await generation.changes()).not.toBe(before);
  });

  test('transactions of our own run one at a time, and one that is done but not counted is waited for', async () => {
    const before = await generation.changes();
    let running = 0;
    const one = () =>
      generation.transact(async () => {
        expect(++running).toBe(1);
        now += 1;
        await new Promise((resolve) => setTimeout(resolve, 5));
        running -= 1;
      });
    const all = [one(), one(), one()];
    await new Promise((resolve) => setTimeout(resolve, 2));
    expect([await generation.changes(), ...(await Promise.all(all))]).toEqual([before, before, before, before]);
  });

  test('where they cannot be asked for, there is one every 5 s', async () => {
    vi.useFakeTimers({ toFake: ['performance'], now: 0 });
    onTestFinished(() => void vi.useRealTimers());
    const refusal = new NetlinkError('EPERM', 'get the generation of the rules', '', 1);
    vi.mocked(NetlinkSocket.prototype.request).mockRejectedValue(refusal);
    const before = await generation.changes();
    expect(await generation.transact(async () => undefined)).toBe(before);
    vi.advanceTimersByTime(4_900);
    expect(await generation.changes()).toBe(before);
    vi.advanceTimersByTime(200);
    expect(await generation.changes()).not.toBe(before);
  });
});
