/**
 * A record of `vifd monitor` as a test: what dom0, the guest and the kernel did in it is done again, in the same order, to a
 * xenstore and a kernel of memory with the reconciler of today between them.
 */
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import type { Entry, LinkEntry, StoreEntry } from '../../src/monitor/entry.js';
import { Programs } from '../../src/network/hotplug-script.js';
import { AttachQueue } from '../../src/vif/attach-queue.js';
import { Reconciler } from '../../src/vif/reconciler.js';
import type { XenstoreClient } from '../../src/xenstore/client.js';
import { parseBackendPath } from '../../src/xenstore/paths.js';
import { NICDOM, startWorld } from '../store/support.js';
import { MemoryKernel } from '../support/memory-kernel.js';
import { eventually } from './agent-process.js';

export class ReplayedHost {
  private constructor(
    readonly kernel: MemoryKernel,
    readonly nicdom: XenstoreClient,
    private readonly dom0: XenstoreClient,
    private readonly reconciler: Reconciler,
  ) {}

  static async start(): Promise<ReplayedHost> {
    const world = await startWorld();
    const nicdom = await world.connect(NICDOM);
    const parts = {
      store: nicdom,
      config: DEFAULTS,
      privileged: false,
      knowsAllVifs: true,
      attaching: new AttachQueue(4),
      programs: new Programs(),
    };
    const kernel = new MemoryKernel();
    const reconciler = new Reconciler({ ...parts, kernel, log: pino({ level: 'silent' }) });
    onTestFinished(() => reconciler.stop());
    await nicdom.watch('backend/vif', ({ path }) => reconciler.onStoreEvent(path));
    return new ReplayedHost(kernel, nicdom, await world.connect(0), reconciler);
  }

  /** Once more what others did; what the agent did then is waited for. */
  async feed(entry: Entry): Promise<void> {
    if (entry.source === 'link') return this.link(entry);
    if (entry.source !== 'store') return;
    const { path, value } = entry;
    if (!isAgents(entry)) return this.others(path, value);
    const now = async () => (await this.nicdom.readOptional(path)) ?? null;
    await eventually(
      async () => (await now()) === value,
      5_000,
      () => `${path} should become ${value}`,
    );
  }

  private async others(path: string, value: string | null): Promise<void> {
    const place = parseBackendPath(path);
    const whole = path.startsWith('/') ? path : `/local/domain/${NICDOM}/${path}`;
    if (value === null) return this.dom0.rm(whole).catch(() => undefined); // gone with its directory
    await this.dom0.write(whole, value);
    const guest = place?.key.domid ?? Number(whole.split('/')[3]);
    const [owner, reader] = place === undefined ? [guest, NICDOM] : [NICDOM, guest];
    await this.dom0.setPerms(whole, [`n${owner}`, `r${reader}`]);
  }

  /** How a vif's interface changed was the agent's doing, too. */
  private link({ change, link }: LinkEntry): void {
    const { links } = this.kernel;
    if (change === 'gone') links.delete(link.ifindex);
    else if (link.kind === 'bridge' || !links.has(link.ifindex))
      links.set(link.ifindex, { alias: '', addrGenMode: 0, lower: 0, vlanFiltering: false, port: undefined, ...link });
    this.reconciler.onLinkEvent(link.ifname);
  }
}

function isAgents({ path, value }: StoreEntry): boolean {
  const node = parseBackendPath(path)?.node;
  if (node === 'hotplug-status') return value === 'connected' || value === 'error';
  return node === 'hotplug-error' || (node === '' && value === null);
}
