/**
 * A record of `vifd monitor` as a test: what dom0, the guest and the kernel did in it is done again, in the same order, to a
 * xenstore and a kernel of memory with the reconciler of today between them.
 */
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import { Lanes } from '../../src/lanes.js';
import type { Entry, LinkEntry, StoreEntry } from '../../src/monitor/entry.js';
import { Reconciler } from '../../src/vif/reconciler.js';
import type { XenstoreClient } from '../../src/xenstore/client.js';
import { parseBackendPath } from '../../src/xenstore/paths.js';
import { NICDOM, startWorld } from '../store/support.js';
import { MemoryKernel } from './memory-host.js';

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
    const parts = { store: nicdom, config: DEFAULTS, privileged: false, attaching: new Lanes(4) };
    const kernel = new MemoryKernel();
    const reconciler = new Reconciler({ ...parts, kernel, log: pino({ level: 'silent' }) });
    onTestFinished(() => reconciler.stop());
    await nicdom.watch('backend/vif', ({ path }) => reconciler.onStoreEvent(path));
    return new ReplayedHost(kernel, nicdom, await world.connect(0), reconciler);
  }

  /** Once more, unless it was the agent's own doing. */
  async feed(entry: Entry): Promise<void> {
    if (entry.source === 'store') await this.store(entry);
    if (entry.source === 'link') this.link(entry);
  }

  private async store({ path, value }: StoreEntry): Promise<void> {
    const place = parseBackendPath(path);
    const isAgents = place?.node.startsWith('hotplug-') ? value !== '' : place?.node === '' && value === null;
    if (isAgents) return;
    const whole = path.startsWith('/') ? path : `/local/domain/${NICDOM}/${path}`;
    if (value === null) return this.dom0.rm(whole).catch(() => undefined); // with its directory
    await this.dom0.write(whole, value);
    const guest = Number(whole.split('/')[place === undefined ? 3 : 6]);
    const [owner, reader] = place === undefined ? [guest, NICDOM] : [NICDOM, guest];
    await this.dom0.setPerms(whole, [`n${owner}`, `r${reader}`]);
  }

  private link({ change, link }: LinkEntry): void {
    if (change === 'gone') this.kernel.links.delete(link.ifindex);
    else if (!this.kernel.links.has(link.ifindex))
      this.kernel.links.set(link.ifindex, { alias: '', addrGenMode: 0, ...link });
    this.reconciler.onLinkEvent(link.ifname);
  }
}
