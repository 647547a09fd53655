/**
 * Between any two steps of an attach something goes wrong: a request is refused, the directory vanishes, the interface
 * vanishes. The reconciler runs in this process, with a kernel of memory only, so that every single step can be hit.
 */
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import { NetlinkError } from '../../src/errors.js';
import type { KernelNetwork } from '../../src/network/kernel.js';
import type { Link, LinkChange } from '../../src/network/rtnetlink.js';
import { NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import type { LinkFactory } from '../../src/simulator/links.js';
import { Reconciler } from '../../src/vif/reconciler.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { openSocket, type Transport } from '../../src/xenstore/transport.js';
import { eventually } from './agent-process.js';

/** Interfaces in memory; netback makes them here, and each question or change can be hit. */
class MemoryKernel implements KernelNetwork, LinkFactory {
  readonly links = new Map<number, Link>();
  calls = 0;
  beforeCall: (call: number) => void | Promise<void> = () => {};
  onChange: (ifname: string) => void = () => {};
  private nextIndex = 10;

  async create(ifname: string): Promise<void> {
    const link = {
      ifname,
      up: false,
      address: 'fe:ff:ff:ff:ff:ff',
      mtu: 1500,
      txqlen: 32,
      master: 0,
      carrier: false,
      kind: '',
      alias: '',
      parentDev: '',
      addrGenMode: 0,
    };
    const ifindex = this.nextIndex++;
    this.links.set(ifindex, { ...link, ifindex });
    this.onChange(ifname);
  }
  addBridge(ifname: string): void {
    this.links.set(1, {
      ...({} as Link),
      ifindex: 1,
      ifname,
      kind: 'bridge',
      mtu: 1500,
      up: true,
      parentDev: '',
      alias: '',
    });
  }
  async remove(ifname: string): Promise<void> {
    for (const [index, link] of this.links) if (link.ifname === ifname) this.links.delete(index);
    this.onChange(ifname);
  }
  find(ifname: string): Link | undefined {
    return [...this.links.values()].find((link) => link.ifname === ifname);
  }
  private async step(ifindex?: number): Promise<void> {
    await this.beforeCall(this.calls++);
    if (ifindex !== undefined && !this.links.has(ifindex))
      throw new NetlinkError('ENODEV', 'touch', `if${ifindex}`, 19);
  }
  async getLink(ifname: string): Promise<Link | undefined> {
    await this.step();
    return this.find(ifname);
  }
  async listLinks(): Promise<Link[]> {
    await this.step();
    return [...this.links.values()];
  }
  async setLink({ ifindex }: Link, change: LinkChange): Promise<void> {
    await this.step(ifindex);
    this.links.set(ifindex, { ...(this.links.get(ifindex) as Link), ...change });
  }
  async listAddresses(): Promise<[]> {
    await this.step();
    return [];
  }
  async deleteAddress(): Promise<void> {
    await this.step();
  }
  async getWantedFeatures({ ifindex }: Link): Promise<Set<string>> {
    await this.step(ifindex);
    return new Set(['tx-checksum-ipv4']);
  }
  async clearFeatures({ ifindex }: Link): Promise<void> {
    await this.step(ifindex);
  }
}

/** A connection whose n-th message waits for a hook. */
function hooked(inner: Transport, before: (message: number) => void | Promise<void>): Transport {
  let count = 0;
  let turn = Promise.resolve();
  return {
    peer: inner.peer,
    maxInFlight: inner.maxInFlight,
    start: (onBytes, onClosed) => inner.start(onBytes, onClosed),
    close: (wakeUp) => inner.close(wakeUp),
    send: (message) => {
      turn = turn.then(async () => {
        await before(count++);
        await inner.send(message);
      });
      return turn;
    },
  };
}

let host: SimulatedHost;
let kernel: MemoryKernel;
let store: XenstoreClient;
let reconciler: Reconciler;
let messages = 0;
let beforeMessage: (message: number) => void | Promise<void> = () => {};

async function start(): Promise<void> {
  kernel = new MemoryKernel();
  kernel.addBridge('br0');
  beforeMessage = () => {};
  host = await SimulatedHost.start({ netback: { links: kernel } });
  const transport = hooked(await openSocket(host.socketOf(NICDOM)), (message) => {
    messages = message;
    return beforeMessage(message);
  });
  store = new XenstoreClient(transport);
  reconciler = new Reconciler({ store, kernel, config: DEFAULTS, log: pino({ level: 'silent' }), privileged: false });
  kernel.onChange = (ifname) => reconciler.onLinkEvent(ifname);
  await store.watch('backend/vif', ({ path }) => reconciler.onStoreEvent(path));
  await reconciler.scan();
}

const status = () => host.backendNode(5, 0, 'hotplug-status');
const connected = () => eventually(async () => (await status()) === 'connected' && kernel.find('vif5.0')?.up === true);

afterEach(async () => {
  await store.close();
  await reconciler.stop();
  await host.close();
});

/** An undisturbed attach takes at least so many kernel calls. */
const STEPS = Array.from({ length: 6 }, (_, i) => i);

describe('a netlink request is refused once, at every step', () => {
  test.each(
    STEPS.flatMap((step) =>
      ['EPERM', 'EBUSY', 'EEXIST', 'ENODEV', 'EINVAL', 'ETIMEDOUT'].map((code) => [step, code] as const),
    ),
  )('step %i: %s', async (step, code) => {
    await start();
    const first = kernel.calls;
    kernel.beforeCall = (call) => {
      if (call === first + step) throw new NetlinkError(code, 'test', 'vif5.0', 1);
    };
    await host.createGuest(5, [{ bridge: 'br0' }]);
    await connected();
    expect(kernel.find('vif5.0')).toMatchObject({ master: 1, txqlen: 1000, up: true });
    expect(await host.backendNode(5, 0, 'hotplug-error')).toBeUndefined();
  });
});

test.each(STEPS)('the interface vanishes before kernel call %i, and comes again', async (step) => {
  await start();
  const first = kernel.calls;
  kernel.beforeCall = async (call) => {
    if (call !== first + step) return;
    await kernel.remove('vif5.0');
    setTimeout(() => void kernel.create('vif5.0'), 30);
  };
  await host.createGuest(5, [{ bridge: 'br0' }]);
  expect(kernel.calls).toBeGreaterThan(first + step);
  await connected();
  expect(kernel.find('vif5.0')).toMatchObject({ master: 1, txqlen: 1000, up: true });
});

/** An undisturbed attach takes at least so many requests. */
const MESSAGES = Array.from({ length: 16 }, (_, i) => i);

test.each(MESSAGES)(
  'the directory vanishes before request %i: forgotten, and made again it is connected',
  async (step) => {
    await start();
    const first = messages;
    let removed = false;
    beforeMessage = async (message) => {
      if (message !== first + 1 + step) return;
      await host.dom0.rm('/local/domain/1/backend/vif/5');
      removed = true;
    };
    const { ok } = await host.createGuest(5, [{ bridge: 'br0' }], { connects: false });
    await eventually(() => removed);
    await eventually(() => {
      const { connected, failed } = reconciler.counts();
      return connected + failed === 0;
    });
    expect(await host.backendNode(5, 0, 'state')).toBeUndefined(); // nothing of ours has brought it back
    if (ok) await host.destroyGuest(5); // else xl has given the guest up by itself
    await host.createGuest(6, [{ bridge: 'br0' }], { connects: false });
    await eventually(async () => (await host.backendNode(6, 0, 'hotplug-status')) === 'connected');
  },
);
