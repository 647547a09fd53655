/** What a domain may use, and what the store bears: quotas (contract 5.4), a thousand watches, clients that do not read. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { XenstoreClient } from '../../src/xenstore/client.js';
import { encodeRequest, type Packet, Parser, XS } from '../../src/xenstore/wire.js';
import { GUEST, NICDOM, startWorld, until } from './support.js';

const HOME = `/local/domain/${NICDOM}`;
const dir = (devid: number) => `${HOME}/backend/vif/${GUEST}/${devid}`;
const OF_LIBXL = 'frontend frontend-id online state script mac bridge handle type hotplug-status'.split(
  ' ',
); /* and the directory itself: 11 */
const OF_NETBACK = Array.from({ length: 12 }, (_, i) => `feature-${i}`);

/** As libxl does: the directory with its permissions first. */
async function attach(dom0: XenstoreClient, devid: number): Promise<void> {
  await dom0.transaction(async (tx) => {
    await tx.mkdir(dir(devid));
    await tx.setPerms(dir(devid), [`n${NICDOM}`, `r${GUEST}`]);
    for (const node of OF_LIBXL) await tx.write(`${dir(devid)}/${node}`, 'x');
  });
}

describe('nodes', () => {
  test('43 vifs of 23 nodes fit, the 44th does not; what exists can still be written', async () => {
    const { store, connect: open } = await startWorld();
    const [dom0, kernel] = [await open(0), await open(NICDOM)];
    const before = store.ownedNodes(NICDOM);
    const netback = async (devid: number) => {
      for (const node of OF_NETBACK) await kernel.write(`${dir(devid)}/${node}`, '1');
    };
    for (let devid = 0; devid < 43; devid++) {
      await attach(dom0, devid);
      await netback(devid);
    }
    expect(store.ownedNodes(NICDOM) - before).toBe(43 * 23);
    await attach(dom0, 43); // dom0 is not held to it, but it counts
    await expect(netback(43)).rejects.toMatchObject({ code: 'ENOSPC', op: 'WRITE', path: `${dir(43)}/feature-0` });
    await kernel.write(`${dir(43)}/hotplug-status`, 'connected');
    await expect(kernel.write(`${dir(43)}/hotplug-error`, 'why')).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(kernel.mkdir('data/x')).rejects.toMatchObject({ code: 'ENOSPC' });
    await dom0.rm(dir(0));
    await netback(43);
    expect(store.ownedNodes(NICDOM) - before).toBe(43 * 23);
  });

  test('all or nothing: a path whose parents fit, but not it', async () => {
    const { store, connect: open } = await startWorld({ nodes: 5 });
    const client = await open(NICDOM);
    const left = 5 - store.ownedNodes(NICDOM);
    const path = `data/${Array.from({ length: left + 1 }, (_, i) => i).join('/')}`;
    await expect(client.write(path, '1')).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(await client.directory('data')).toEqual([]);
    await client.write(path.slice(0, path.lastIndexOf('/')), '1');
    expect(store.ownedNodes(NICDOM)).toBe(5);
  });

  test('in a transaction, and given back when it is aborted', async () => {
    const { store, connect: open } = await startWorld({ nodes: 10 });
    const client = await open(NICDOM);
    const left = 10 - store.ownedNodes(NICDOM);
    const filling = client.transaction(async (tx) => {
      for (let i = 0; i < left; i++) await tx.mkdir(`data/${i}`);
    });
    // They are counted at its end, and one fewer than outside of a transaction fits (transaction_fix_domains()).
    await expect(filling).rejects.toMatchObject({ code: 'ENOSPC', op: 'TRANSACTION_END' });
    expect(store.ownedNodes(NICDOM)).toBe(10 - left);
  });

  test('a node that is given to another counts for that one', async () => {
    const { store, connect: open } = await startWorld();
    const dom0 = await open(0);
    const before = [store.ownedNodes(NICDOM), store.ownedNodes(GUEST)] as const;
    await dom0.write('/tool/x', '1');
    await dom0.setPerms('/tool/x', [`n${NICDOM}`]);
    expect(store.ownedNodes(NICDOM)).toBe(before[0] + 1);
    await dom0.setPerms('/tool/x', [`n${GUEST}`]);
    expect([store.ownedNodes(NICDOM), store.ownedNodes(GUEST)]).toEqual([before[0], before[1] + 1]);
    await dom0.rm('/tool/x');
    expect(store.ownedNodes(GUEST)).toBe(before[1]);
  });

  test('size: the value, or the names of the children', async () => {
    const client = await (await startWorld()).connect(NICDOM);
    await client.write('data/x', 'v'.repeat(2048 - 24 - 8 - 1));
    await expect(client.write('data/x', 'v'.repeat(2048 - 24 - 8))).rejects.toMatchObject({ code: 'ENOSPC' });
    let made = 0;
    const filling = async () => {
      for (; made < 600; made++) await client.mkdir(`data/many/${String(made).padStart(3, '0')}`);
    };
    await expect(filling()).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(made).toBe(Math.ceil((2048 - 24 - 8) / 4) - 1);
    expect(await client.directory('data/many')).toHaveLength(made);
  });

  test('permissions: five', async () => {
    const client = await (await startWorld()).connect(NICDOM);
    await client.mkdir('data/x');
    await client.setPerms('data/x', ['n1', 'r2', 'r3', 'r4', 'r5']);
    await expect(client.setPerms('data/x', ['n1', 'r2', 'r3', 'r4', 'r5', 'r6'])).rejects.toMatchObject({
      code: 'ENOSPC',
    });
  });
});

describe('watches and transactions', () => {
  test('128 watches and, as in 4.17, one more, over all connections of the domain; the next is E2BIG', async () => {
    const { connect: open } = await startWorld();
    const [one, two] = [await open(NICDOM), await open(NICDOM)];
    const watches = await Promise.all(Array.from({ length: 100 }, (_, i) => one.watch(`data/${i}`, () => undefined)));
    for (let i = 0; i < 29; i++) await two.watch(`data/${i}`, () => undefined);
    await expect(two.watch('data', () => undefined)).rejects.toMatchObject({ code: 'E2BIG', op: 'WATCH' });
    await watches[0]?.close();
    await two.watch('data', () => undefined);
    const other = await open(GUEST);
    await other.watch('data', () => undefined);
  });

  test('10 transactions and, as in 4.17, one more; the next is ENOSPC', async () => {
    const { connect: open } = await startWorld();
    const client = await open(NICDOM);
    const begin = () => client.request({ op: 'TRANSACTION_START' });
    const ids = await Promise.all(Array.from({ length: 11 }, begin));
    await expect(begin()).rejects.toMatchObject({ code: 'ENOSPC', op: 'TRANSACTION_START' });
    await client.request({
      op: 'TRANSACTION_END',
      commit: false,
      tx: Number.parseInt(new TextDecoder().decode(ids[0]), 10),
    });
    await begin();
    const dom0 = await open(0);
    for (let i = 0; i < 20; i++) await dom0.request({ op: 'TRANSACTION_START' });
  });

  test('a connection that ends gives everything back', async () => {
    const { connect: open } = await startWorld();
    const first = await open(NICDOM);
    for (let i = 0; i < 128; i++) await first.watch(`data/${i}`, () => undefined);
    for (let i = 0; i < 10; i++) await first.request({ op: 'TRANSACTION_START' });
    await first.close();
    const second = await open(NICDOM);
    await until(() =>
      second
        .watch('data', () => undefined)
        .then(
          () => true,
          () => false,
        ),
    );
    await second.transaction((tx) => tx.write('data/x', '1'));
  });
});

describe('load', () => {
  test('a thousand watches: each change is told once to each that is concerned', async () => {
    const { connect: open } = await startWorld();
    const [dom0, other] = [await open(0), await open(0)];
    const heard = new Map<number, string[]>();
    for (let i = 0; i < 1000; i++)
      await dom0.watch(`/tool/n${i}`, ({ path }) => heard.set(i, [...(heard.get(i) ?? []), path]));
    await until(() => heard.size === 1000);
    heard.clear();
    await other.transaction(async (tx) => {
      for (let i = 0; i < 1000; i++) await tx.write(`/tool/n${i}/state`, '4');
    });
    await until(() => heard.size === 1000);
    await dom0.read('/tool');
    for (let i = 0; i < 1000; i++) expect(heard.get(i)).toEqual([`/tool/n${i}/state`]);
  });

  test('a client that does not read: the same event waits once, more than its quota is lost, and it is not cut off', async () => {
    const { socket, connect: open } = await startWorld({ memory: 512 * 1024 });
    const dom0 = await open(0);
    const deaf = await silent(socket(NICDOM));
    for (let i = 0; i < 20; i++)
      deaf.socket.write(encodeRequest({ op: 'WATCH', path: 'data', token: `${i}-${'t'.repeat(1000)}` }, i));
    const change = async (count: number, node: (i: number) => string) => {
      for (let i = 0; i < count; i++) await dom0.write(`${HOME}/data/${node(i)}`, String(i));
    };
    await change(500, () => 'same');
    await change(500, (i) => `n${i}`);
    // 1000 changes for 20 watches of 1 KiB each would be 20 MiB. What socket and quota hold is less than 2.
    const heard = deaf.listen();
    deaf.socket.write(encodeRequest({ op: 'READ', path: 'domid' }, 99));
    await until(() => heard.some(({ type, reqId }) => type === XS.READ && reqId === 99));
    const events = heard.filter(({ type }) => type === XS.WATCH_EVENT);
    expect(events.reduce((sum, { payload }) => sum + payload.length, 0)).toBeLessThan(2 * 1024 * 1024);
    expect(events.length).toBeGreaterThan(100);
    heard.length = 0;
    await change(1, () => 'again');
    await until(() => heard.length === 20);
  });

  test('a client that asks without end and reads nothing: its requests wait, and all are answered when it reads', async () => {
    const { socket, connect: open } = await startWorld();
    const dom0 = await open(0);
    await dom0.write('/tool/big', 'v'.repeat(4000));
    const deaf = await silent(socket(0));
    for (let i = 0; i < 5000; i++) deaf.socket.write(encodeRequest({ op: 'READ', path: '/tool/big' }, i));
    for (let i = 0; i < 100; i++) await dom0.read('/tool'); // it keeps nobody else from being served
    expect(deaf.socket.writableLength).toBeGreaterThan(0); // what it asked is still with itself
    const heard = deaf.listen();
    await until(() => heard.length === 5000);
    expect(heard.map(({ reqId }) => reqId)).toEqual(Array.from({ length: 5000 }, (_, i) => i));
  });
});

/** A client that reads nothing before listen(). */
async function silent(path: string) {
  const socket = connect(path).pause();
  await once(socket, 'connect');
  onTestFinished(() => void socket.destroy());
  const parser = new Parser('simulator');
  const listen = () => {
    const heard: Packet[] = [];
    socket.on('data', (bytes) => heard.push(...parser.push(bytes))).resume();
    return heard;
  };
  return { socket, listen };
}
