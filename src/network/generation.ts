/**
 * EDGE: whether others have changed the kernel's rules, by the generation of nf_tables: each transaction that changes
 * anything makes the next (linux/netfilter/nf_tables.h, NFTA_GEN_ID).
 */
import { parseAttributes } from './attributes.js';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink.js';

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_GETGEN = 16;
const NFTA_GEN_ID = 1;
/** struct nfgenmsg: family, version, and an id that is of no use here. */
const NFGENMSG = 4;
const QUESTION = {
  type: (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN,
  payload: new Uint8Array(NFGENMSG),
  expect: 'one',
  op: 'get the generation of the rules',
  ifname: '',
} as const;
/** Where it cannot be asked, others are taken to change something this often. */
const UNKNOWN_MS = 5_000;

/** INVARIANT: our transactions are done one at a time, so that each can be told from a change by others. */
export class Generation {
  private readonly socket = new NetlinkSocket(NETLINK_NETFILTER);
  private last: number | undefined;
  private counted = 0;
  private turn: Promise<unknown> = Promise.resolve();

  /** How often others were seen to have changed rules; as of now. */
  async changes(): Promise<number> {
    // One of our own may be done and not counted yet.
    if ((await this.ask()) !== this.last) await this.inTurn(() => this.count(0));
    return this.counted;
  }

  /** Runs one of ours. Resolves with changes(), right behind it; rejects when that does. */
  transact(transaction: () => Promise<void>): Promise<number> {
    return this.inTurn(async () => {
      let own: 0 | 1 = 0;
      try {
        await transaction();
        own = 1;
      } finally {
        await this.count(own);
      }
      return this.counted;
    });
  }

  close(): void {
    this.socket.close();
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.turn.then(work);
    this.turn = done.catch(() => undefined);
    return done;
  }

  private async count(own: 0 | 1): Promise<void> {
    const now = await this.ask();
    if (now !== this.last && now !== (this.last ?? 0) + own) this.counted += 1;
    this.last = now;
  }

  private async ask(): Promise<number> {
    const [answer] = await this.socket.request(QUESTION).catch(() => []);
    return (answer && parseGeneration(answer)) ?? -Math.floor(performance.now() / UNKNOWN_MS);
  }
}

/** In the network's byte order. Undefined for what is no such answer. */
export function parseGeneration(answer: Uint8Array): number | undefined {
  const id = parseAttributes(answer.subarray(NFGENMSG)).get(NFTA_GEN_ID);
  return id === undefined || id.length < 4 ? undefined : new DataView(id.buffer, id.byteOffset, 4).getUint32(0);
}
