/** EDGE: whether a gateway can be reached by an interface: whether it answers ARP or ND. Not by ping, which it may be told to pass over. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostKernel } from '../network/host-kernel.js';

const POLL_MS = 50;
/** Three questions of the kernel, a second apart; then it is asked anew. */
const ROUND_MS = 3_500;

/** Resolves with true as soon as it answers, with false when it has not within `limitMs` or the signal comes. */
export async function answers(
  { ifname, gateway }: { ifname: string; gateway: string },
  kernel: HostKernel,
  limitMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const until = performance.now() + limitMs;
  for (let asked = Number.NEGATIVE_INFINITY; performance.now() < until && !signal?.aborted; ) {
    const link = await kernel.getLink(ifname).catch(() => undefined);
    if (link !== undefined && performance.now() - asked > ROUND_MS) {
      asked = performance.now();
      await kernel.askNeighbour(link, gateway).catch(() => undefined); // such as while the link is down
    }
    const state = link && (await kernel.getNeighbour(link, gateway).catch(() => undefined));
    if (state === 'answers') return true;
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
  return false;
}
