/** From `state` 2 to `connected`, as dom0's watch sees it: of guests that come one after the other. */
import { NICDOM } from '../../src/simulator/host.js';
import { backendDir } from '../../src/simulator/nic.js';
import { eventually } from '../agent/agent-process.js';
import { runMs } from '../bench/process-figures.js';
import { type LoadHost, MODES, type Mode } from './load-host.js';

export interface Attach {
  readonly ms: number;
  /** Of the agent, from before the directory came until it was connected. */
  readonly cpuMs: number;
}

export class Attaches {
  /** Of each node's events. */
  private readonly times = new Map<string, number[]>();
  private domid = 20_000;
  private constructor(private readonly world: LoadHost) {}

  static async open(world: LoadHost): Promise<Attaches> {
    const attaches = new Attaches(world);
    await world.host.dom0.watch(`/local/domain/${NICDOM}/backend/vif`, ({ path }) => {
      const times = attaches.times.get(path) ?? [];
      attaches.times.set(path, [...times, performance.now()]);
    });
    return attaches;
  }

  /** The guests go again. */
  async each(count: number, mode: Mode = 'bridge'): Promise<Attach[]> {
    const found: Attach[] = [];
    const first = this.domid;
    for (let i = 0; i < count; i++) found.push(await this.one(mode));
    await Promise.all(found.map((_, i) => this.world.host.destroyGuest(first + i)));
    return found;
  }

  private async one(mode: Mode): Promise<Attach> {
    const cpuBefore = runMs(this.world.agent.pid);
    const domid = this.domid++;
    const dir = backendDir({ domid, devid: 0, backendDomid: NICDOM });
    this.times.clear();
    await this.world.host.createGuest(domid, [MODES[mode](domid)]);
    await eventually(
      async () => (await this.world.host.backendNode(domid, 0, 'hotplug-status')) === 'connected',
      20_000,
    );
    const ms = this.written(`${dir}/hotplug-status`) - this.written(`${dir}/state`);
    return { ms, cpuMs: runMs(this.world.agent.pid) - cpuBefore };
  }

  /** When it was written after libxl had made it. */
  private written(path: string): number {
    const time = this.times.get(path)?.[1];
    if (time === undefined) throw new Error(`${path} was not written`);
    return time;
  }
}
