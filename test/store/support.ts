/** What the tests of this folder share: a simulated store on sockets in a directory of its own, and peers that misbehave. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { SimulatedStore } from '../../src/simulator/store.js';
import type { Quotas } from '../../src/simulator/tree.js';
import { type ClientOptions, connectXenstore, type XenstoreClient } from '../../src/xenstore/client.js';

/** The driver domain of these tests, and another that is nobody. */
export const NICDOM = 1;
export const GUEST = 5;

export interface World {
  readonly store: SimulatedStore;
  readonly directory: string;
  socket(domid: number): string;
  connect(domid: number, options?: ClientOptions): Promise<XenstoreClient>;
}

/** A store with dom0, a driver domain and a guest; gone when the test is over. */
export async function startWorld(quotas: Partial<Quotas> = {}): Promise<World> {
  const directory = temporaryDirectory();
  const store = new SimulatedStore({ quotas });
  const socket = (domid: number) => join(directory, `${domid}.sock`);
  for (const domid of [0, NICDOM, GUEST]) await store.listen(domid, socket(domid));
  onTestFinished(() => store.close());
  const connect = async (domid: number, options?: ClientOptions) => {
    const client = await connectXenstore(socket(domid), options);
    onTestFinished(() => client.close());
    return client;
  };
  const dom0 = await connect(0);
  await makeDomains(dom0);
  return { store, directory, socket, connect };
}

/** What libxl writes of a domain, as far as it matters here. */
async function makeDomains(dom0: XenstoreClient): Promise<void> {
  for (const domid of [NICDOM, GUEST]) {
    const home = `/local/domain/${domid}`;
    await dom0.write(`${home}/domid`, String(domid));
    await dom0.mkdir(`${home}/data`);
    await dom0.mkdir(`${home}/backend/vif`);
    for (const path of [home, `${home}/domid`]) await dom0.setPerms(path, ['n0', `r${domid}`]);
    await dom0.setPerms(`${home}/data`, [`n${domid}`]);
    for (const path of [`${home}/backend`, `${home}/backend/vif`]) await dom0.setPerms(path, ['n0', `r${domid}`]);
  }
}

export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-store-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A peer that is no xenstored: what it does with a connection is up to the test. */
export async function startPeer(onConnection: (socket: Socket) => void): Promise<string> {
  const path = join(temporaryDirectory(), 'peer.sock');
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return path;
}

/** Polls until it holds; fails as the last attempt failed. */
export async function until(holds: () => boolean | Promise<boolean>, timeoutMs = 5000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
