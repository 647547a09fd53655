/** `vifd monitor`: what it shows, when it says that it came, and what of the domain's watches it takes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { Arrivals } from '../../src/monitor/arrivals.js';
import { StoreSource } from '../../src/monitor/store-source.js';
import { type StoreHappening, Timeline } from '../../src/monitor/timeline.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { DeviceTransport, openSocket, type Transport } from '../../src/xenstore/transport.js';
import { GUEST, NICDOM, startWorld, until, type World } from './support.js';

/** A vif as dom0 describes it, as far as it matters here. */
async function addVif(world: World, domid: number, devid: number): Promise<void> {
  const dom0 = await world.connect(0);
  const back = `/local/domain/${NICDOM}/backend/vif/${domid}/${devid}`;
  const front = `/local/domain/${domid}/device/vif/${devid}`;
  await dom0.transaction(async (tx) => {
    for (const [dir, owner, reader] of [
      [front, domid, NICDOM],
      [back, NICDOM, domid],
    ] as const) {
      await tx.mkdir(dir);
      await tx.setPerms(dir, [`n${owner}`, `r${reader}`]);
      await tx.write(`${dir}/state`, '1');
    }
    await tx.write(`${back}/online`, '1');
  });
}

const onSocket = (world: World) => openSocket(world.socket(NICDOM));
const onDevice = async (world: World) => new DeviceTransport('/dev/xen/xenbus', world.store.device(NICDOM));

/** A monitor in this process, and what it puts out. */
async function startMonitor(transport: Transport) {
  const events: (StoreHappening & { at: number })[] = [];
  const notes: string[] = [];
  const warnings: string[] = [];
  const store = new XenstoreClient(transport);
  onTestFinished(() => store.close());
  const timeline = new Timeline();
  const arrivals = new Arrivals((at, entry) => {
    if (entry.source === 'monitor') (entry.level === 'note' ? notes : warnings).push(entry.text);
    for (const happening of timeline.take(at, entry)) events.push({ at, ...(happening as StoreHappening) });
  });
  await new StoreSource(store, arrivals).start();
  const shown = (side: string, domid: number, devid: number, node: string, value: string | null) =>
    until(() =>
      events.some(
        (e) => [e.side, e.domid, e.devid, e.node, e.value].join() === [side, domid, devid, node, value].join(),
      ),
    );
  return { events, notes, warnings, shown };
}

/** How many more watches the driver domain can have; takes and gives them back. */
async function watchesLeft(world: World): Promise<number> {
  const client = await world.connect(NICDOM);
  for (let count = 0; ; count++) {
    try {
      await client.watch('data', () => undefined, `t${count}`);
    } catch {
      await client.close();
      await sleep(20);
      return count;
    }
  }
}

test('one watch for the backends, and one for a guest from its first vif to its last', async () => {
  const world = await startWorld();
  const all = await watchesLeft(world);
  const { shown } = await startMonitor(await onSocket(world));
  expect(await watchesLeft(world)).toBe(all - 1);
  const dom0 = await world.connect(0);
  for (const devid of [0, 1, 2]) {
    await addVif(world, GUEST, devid);
    await shown('frontend', GUEST, devid, 'state', '1');
    expect(await watchesLeft(world)).toBe(all - 2);
  }
  for (const devid of [0, 1, 2]) {
    expect(await watchesLeft(world)).toBe(all - 2);
    await dom0.rm(`/local/domain/${NICDOM}/backend/vif/${GUEST}/${devid}`);
    await shown('backend', GUEST, devid, '', null);
  }
  await until(async () => (await watchesLeft(world)) === all - 1);
});

test('of the guest only the states of its vifs are shown, as they change', async () => {
  const world = await startWorld();
  await addVif(world, GUEST, 0);
  await addVif(world, GUEST, 1);
  const { events, shown, warnings } = await startMonitor(await onSocket(world));
  const guest = await world.connect(GUEST);
  const front = `/local/domain/${GUEST}/device/vif`;
  for (const devid of [0, 1]) await shown('frontend', GUEST, devid, 'state', '1');
  const before = events.length;
  await guest.write(`${front}/0/feature-sg`, '1');
  await guest.write(`${front}/0/state/deeper`, '1');
  await guest.write(`${front}/0/state`, '4');
  await shown('frontend', GUEST, 0, 'state', '4');
  await guest.write(`${front}/1/state`, '4');
  await shown('frontend', GUEST, 1, 'state', '4');
  await guest.rm(`${front}/1`);
  await shown('frontend', GUEST, 1, 'state', null);
  expect(
    events
      .slice(before)
      .filter(({ side }) => side === 'frontend')
      .map(({ devid, node, value }) => [devid, node, value]),
  ).toEqual([
    [0, 'state', '4'],
    [1, 'state', '4'],
    [1, 'state', null],
  ]);
  expect(warnings).toEqual([]);
});

test('the leaving of a vif that was there before is shown, also when the whole guest goes at once', async () => {
  const world = await startWorld();
  const all = await watchesLeft(world);
  for (const devid of [0, 1, 2]) await addVif(world, GUEST, devid);
  const { shown, notes } = await startMonitor(await onSocket(world));
  expect(notes.at(-1)).toBe('here now: vif5.0 vif5.1 vif5.2');
  await shown('frontend', GUEST, 2, 'state', '1');
  const dom0 = await world.connect(0);
  await dom0.rm(`/local/domain/${NICDOM}/backend/vif/${GUEST}/1`);
  await shown('backend', GUEST, 1, '', null);
  await dom0.rm(`/local/domain/${NICDOM}/backend/vif/${GUEST}`);
  await shown('backend', GUEST, 0, '', null);
  await shown('backend', GUEST, 2, '', null);
  await until(async () => (await watchesLeft(world)) === all - 1);
});

/** A transport whose daemon is a newer one: ENOSPC, or oxenstored's EQUOTA, which the client reads as that. */
test.each([
  ['E2BIG on the device', onDevice, 'E2BIG'],
  ['E2BIG on the socket', onSocket, 'E2BIG'],
  ['ENOSPC on the socket', onSocket, 'ENOSPC'],
  ['EQUOTA on the socket', onSocket, 'EQUOTA'],
])('without a watch left it says so, with the remedy, and goes on: %s', async (_, connect, code) => {
  const world = await startWorld({ watches: 0 }); // and as in 4.17 one more
  const transport = await connect(world);
  const { warnings, shown } = await startMonitor(code === 'E2BIG' ? transport : renaming(transport, code));
  await addVif(world, GUEST, 0);
  await shown('frontend', GUEST, 0, 'state', '1');
  await addVif(world, 6, 0);
  await shown('backend', 6, 0, 'state', '1');
  await until(() => warnings.length === 2);
  expect(warnings[0]).toMatch(
    /^cannot follow the state of guest 5's side: the xenstore watches .* are used up.*Raise it in dom0: xenstore-control quota set watches 1000/,
  );
  expect(warnings[1]).toBe("cannot follow the state of guest 6's side: no xenstore watch is left (see above)");
});

/** Replaces the answer E2BIG by another daemon's word. */
function renaming(inner: Transport, code: string): Transport {
  return {
    peer: inner.peer,
    maxInFlight: inner.maxInFlight,
    send: (message) => inner.send(message),
    close: (wakeUp, replyDue) => inner.close(wakeUp, replyDue),
    released: async () => undefined,
    start: (onBytes, onClosed) =>
      inner.start((bytes) => {
        const at = Buffer.from(bytes).indexOf('E2BIG\0');
        if (at < 0) return onBytes(bytes);
        const before = Buffer.from(bytes.subarray(0, at));
        before.writeUInt32LE(code.length + 1, at - 4);
        onBytes(Buffer.concat([before, Buffer.from(`${code}\0`), bytes.subarray(at + 6)]));
      }, onClosed),
  };
}

test('when no watch at all is left it ends with the quota and the remedy', async () => {
  const world = await startWorld({ watches: 0 });
  await (await world.connect(NICDOM)).watch('data', () => undefined);
  await expect(startMonitor(await onSocket(world))).rejects.toMatchObject({
    code: 'EQUOTA',
    message: expect.stringMatching(/^vifd cannot watch backend\/vif: .*Raise it in dom0/),
  });
});

test('the time is when the event came, not when those before it had been read', async () => {
  const { events, shown, write } = await startSlowed(200);
  for (const node of ['a', 'b', 'state']) await write(node, '2');
  const writtenAt = Date.now();
  await shown('backend', GUEST, 0, 'state', '2');
  expect(Date.now() - writtenAt).toBeGreaterThan(400);
  expect((events.at(-1)?.at ?? 0) - writtenAt).toBeLessThan(150);
});

test('a value that an event read too late is shown with the time of the event that brought it', async () => {
  const { events, shown, write } = await startSlowed(300);
  const before = events.length;
  await write('state', '2');
  await sleep(150);
  const writtenAt = Date.now();
  await write('state', '4');
  await shown('backend', GUEST, 0, 'state', '4');
  expect(events.slice(before).map(({ value }) => value)).toEqual(['4']);
  expect((events.at(-1)?.at ?? 0) - writtenAt).toBeGreaterThan(-50); // two clocks
});

/** A monitor that has shown a vif and now waits so long for every answer. */
async function startSlowed(ms: number) {
  const world = await startWorld();
  await addVif(world, GUEST, 0);
  let slowMs = 0;
  const monitor = await startMonitor(slowed(await onSocket(world), () => slowMs));
  await monitor.shown('frontend', GUEST, 0, 'state', '1');
  await sleep(50);
  slowMs = ms;
  const dom0 = await world.connect(0);
  const dir = `/local/domain/${NICDOM}/backend/vif/${GUEST}/0`;
  return { ...monitor, write: (node: string, value: string) => dom0.write(`${dir}/${node}`, value) };
}

/** One message at a time, as on the device, and each waits. */
function slowed(inner: Transport, ms: () => number): Transport {
  return {
    peer: inner.peer,
    maxInFlight: 1,
    send: async (message) => {
      if (ms() > 0) await sleep(ms());
      return inner.send(message);
    },
    close: () => inner.close(),
    released: () => inner.released(),
    start: (onBytes, onClosed) => inner.start(onBytes, onClosed),
  };
}

/** The command itself. */
function run(world: World, ...args: string[]) {
  const words = ['dist/main.js', 'monitor', '--only', 'store', '--xenstore', world.socket(NICDOM), ...args];
  const child = spawn(process.execPath, words);
  onTestFinished(() => void child.kill('SIGKILL'));
  const said = { out: '', err: '' };
  child.stdout.on('data', (bytes) => {
    said.out += bytes;
  });
  child.stderr.on('data', (bytes) => {
    said.err += bytes;
  });
  return { child, said };
}

test('the first lines say what is listened to, that Ctrl-C ends it, and what is here; and Ctrl-C does', async () => {
  const world = await startWorld();
  const { child, said } = run(world);
  await until(() => said.out.split('\n').length > 3);
  const [first, second, third] = said.out.split('\n');
  expect(first).toMatch(/^listening on \/.*1\.sock to every vif in backend\/vif .*Ctrl-C ends it$/);
  expect(second).toMatch(/^times are UTC/);
  expect(third).toBe('no vif is here now');
  child.kill('SIGINT');
  expect(await once(child, 'exit')).toEqual([0, null]);
  expect(said.err).toBe('');
});

test('--json has nothing but objects, no escapes of a terminal, and a reader that goes away ends it', async () => {
  const world = await startWorld();
  const { child, said } = run(world, '--json');
  await sleep(300);
  await addVif(world, GUEST, 0);
  const hostile = 'red\x1b[31m\x9b2J\u202e';
  await (await world.connect(0)).write(`/local/domain/${NICDOM}/backend/vif/${GUEST}/0/ip`, hostile);
  await until(() => said.out.includes('"node":"ip"') && said.out.endsWith('\n'));
  const events = said.out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  for (const event of events) expect(event).toMatchObject({ version: 1, source: 'store', domid: GUEST });
  expect(events.find(({ node }) => node === 'ip')).toMatchObject({ value: hostile });
  expect(said.out).not.toMatch(/[^\n -~]/);
  child.stdout.destroy();
  await addVif(world, GUEST, 1);
  expect(await once(child, 'exit')).toEqual([0, null]);
  expect(said.err).toBe('');
});
