import { Lanes } from '../lanes.js';

/** A vif that is slow to read holds the others up for so long. */
const GATHER_MAX_MS = 50;

/** Few attach at once; but what is cheaper for many together they ask for together. */
export class AttachQueue extends Lanes {
  private readonly coming = new Set<object>();
  private nobodyComes: (() => void)[] = [];
  /** Interface names on whose way a vif is. */
  private readonly names = new Set<string>();

  /** Alone under this name: its guard would take the place of another's that has the name a moment later. False: another is at it. */
  async alone<T>(ifname: string, work: () => Promise<T>): Promise<T | false> {
    if (this.names.has(ifname)) return false;
    this.names.add(ifname);
    return work().finally(() => this.names.delete(ifname));
  }

  /** A vif of which it is not known yet what it needs; the result is called when it is, and may be called again. */
  expect(): () => void {
    const one = {};
    this.coming.add(one);
    return () => {
      if (this.coming.delete(one) && this.coming.size === 0) this.go();
    };
  }

  /** Resolves when no vif is expected any more: at once for one alone. */
  async gather(): Promise<void> {
    if (this.coming.size === 0) return;
    const timer = setTimeout(() => this.go(), GATHER_MAX_MS);
    await new Promise<void>((resolve) => this.nobodyComes.push(resolve));
    clearTimeout(timer);
  }

  private go(): void {
    for (const resolve of this.nobodyComes.splice(0)) resolve();
  }
}
