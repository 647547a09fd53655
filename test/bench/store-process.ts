/**
 * The simulated dom0 and xenstored in a process of their own, so that the agents are measured and not the simulator's
 * event loop. Started by stage.ts, which sends commands; the agents and the observer come over the sockets.
 *
 * No netback: interfaces exist before `state` 2, and `state` 2 of a whole burst is written from inside the store, in
 * one transaction, so that all of them wait from the same moment on.
 */
import { join } from 'node:path';
import { backendDir, domainDir, frontendDir, libxlDir } from '../../src/simulator/nic.js';
import { SimulatedStore } from '../../src/simulator/store.js';
import { Toolstack, type Vif } from '../../src/simulator/toolstack.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { openSocket } from '../../src/xenstore/transport.js';
import { encodeRequest, type Packet, Parser, parseStrings, type Request } from '../../src/xenstore/wire.js';

/** One guest whose vifs all have the same driver domain. */
export interface Group {
  readonly domid: number;
  readonly backendDomid: number;
  readonly count: number;
  /** What the vifs have beside; by default they are ports of br0. */
  readonly vif?: Pick<Vif, 'ip' | 'script'>;
}

export type Command =
  | { readonly do: 'start'; readonly directory: string; readonly driverDomains: readonly number[] }
  | { readonly do: 'create' | 'connect' | 'remove'; readonly group: Group };

const store = new SimulatedStore({ quotas: { nodes: 100_000, watches: 10_000 } });
let dom0: XenstoreClient;
let toolstack: Toolstack;

const vifs = ({ domid, backendDomid, count, vif }: Group): Vif[] =>
  Array.from({ length: count }, (_, devid) => ({ domid, devid, backendDomid, bridge: 'br0', ...vif }));

async function start(directory: string, driverDomains: readonly number[]): Promise<void> {
  for (const domid of [0, ...driverDomains]) await store.listen(domid, join(directory, `${domid}.sock`));
  dom0 = new XenstoreClient(await openSocket(join(directory, '0.sock')));
  toolstack = new Toolstack(dom0);
  await toolstack.initDom0();
  for (const domid of driverDomains) {
    await toolstack.createDomain({ domid, name: `nicdom${domid}`, driverDomain: true });
  }
}

/** What libxl writes before it waits for `state` 2: the waiting itself would only take time from the store. */
async function create(group: Group): Promise<void> {
  await toolstack.createDomain({ domid: group.domid, name: `guest${group.domid}` });
  for (const vif of vifs(group)) await dom0.transaction((tx) => toolstack.writeVif(tx, vif));
}

/** `state` 2 of all vifs of the group, in one transaction of the driver domain's kernel. */
function connect(group: Group): void {
  const replies: Packet[] = [];
  const [toKernel, toStore] = [new Parser('kernel'), new Parser('store')];
  const kernel = store.connect(group.backendDomid, (bytes) => replies.push(...toKernel.push(bytes)));
  const ask = (request: Request) => {
    for (const packet of toStore.push(encodeRequest(request, 1))) kernel.handle(packet);
  };
  ask({ op: 'TRANSACTION_START' });
  const tx = Number(parseStrings(replies[0]?.payload ?? new Uint8Array(0))[0]);
  for (const vif of vifs(group)) {
    const path = `${backendDir(vif)}/state`;
    ask({ op: 'READ', path, tx });
    ask({ op: 'WRITE', path, value: Buffer.from('2'), tx });
  }
  ask({ op: 'TRANSACTION_END', commit: true, tx });
  kernel.end();
}

/** The end of a guest, without the protocol of a removal: only attaching is measured here. */
async function remove(group: Group): Promise<void> {
  for (const vif of vifs(group)) {
    await dom0.transaction(async (tx) => {
      for (const dir of [frontendDir(vif), libxlDir(vif), backendDir(vif)]) await tx.rm(dir);
    });
  }
  await dom0.rm(`${domainDir(group.backendDomid)}/backend/vif/${group.domid}`);
  await dom0.rm(domainDir(group.domid));
}

async function obey(command: Command): Promise<void> {
  switch (command.do) {
    case 'start':
      return start(command.directory, command.driverDomains);
    case 'create':
      return create(command.group);
    case 'connect':
      return connect(command.group);
    case 'remove':
      return remove(command.group);
    default:
      return command satisfies never;
  }
}

process.on('message', (command: Command) => {
  obey(command).then(
    () => process.send?.('done'),
    (error: Error) => process.send?.(`failed: ${error.stack}`),
  );
});
process.on('disconnect', () => process.exit());
