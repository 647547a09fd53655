/**
 * EDGE: runs nft(8), a process for each transaction. One always waits for its rules (1 MB of its own): to start it takes
 * twice as long as what it does.
 */
import { Child, Children, type Ended } from '../child.js';

export const NFT_MAX_MS = 5_000;
/** After one that hung nobody waits for another for so long: each vif asks several times, one after the other. */
const HUNG_MS = 5_000;
const HUNG: Ended = { code: null, signal: null, isLate: true, out: '', err: '' };
/** Nobody is to wait for the start of the next. */
const NEXT_AFTER_MS = 100;
const FROM_STDIN = ['-f', '-'];

/** Both reject with VifdError where nft cannot be run. */
export class Nft {
  private next: Child | undefined;
  private timer: NodeJS.Timeout | undefined;
  private hungUntil = 0;
  constructor(private readonly children = new Children()) {}

  /** `words` behind `nft`. */
  run(...words: readonly string[]): Promise<Ended> {
    return this.work(() => new Child('nft', words), '');
  }

  private async work(child: () => Child, input: string): Promise<Ended> {
    if (performance.now() < this.hungUntil) return HUNG;
    const ended = await this.children.work(child(), input, NFT_MAX_MS);
    if (ended.isLate) this.hungUntil = performance.now() + HUNG_MS;
    return ended;
  }

  /** All of it or nothing: nft(8), -f. */
  async transaction(lines: readonly string[]): Promise<Ended> {
    const ended = await this.work(() => this.takeNext(), `${lines.join('\n')}\n`);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.startNext(), NEXT_AFTER_MS);
    this.timer.unref();
    return ended;
  }

  private takeNext(): Child {
    const child = this.next?.isUsable ? this.next : new Child('nft', FROM_STDIN);
    this.next = undefined;
    return child;
  }

  close(): void {
    clearTimeout(this.timer);
    this.next?.end();
  }

  private startNext(): void {
    if (this.next?.isUsable) return;
    this.next = new Child('nft', FROM_STDIN);
    this.next.setHolding(false);
  }
}
