/**
 * EDGE: an nftables table of vifd. A map leads from an interface's name to the chain of rules for the frames that come in by
 * it, so rules can be in force before the interface is up, or there at all.
 *
 * INVARIANTS
 * - Each run of nft is one transaction: a guard is whole, or it is not there. Rules of others are never touched.
 * - Changes that come while nft runs wait and share the next run; one that nft refuses does no harm to the others.
 */
import { AttachError, printable, type VifdError } from '../errors.js';
import { type Guard, type GuardChange, headOf, linesFor, type TableForm } from './guard-table.js';
import { NFT_MAX_MS, type Nft, type NftSays } from './nft.js';

const INSTALL = {
  guarded: 'install nftables, or set guard = "off"',
  masqueraded: 'install nftables, or route: mode = "routed"',
} as const;

interface Change extends GuardChange {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** What is there. */
interface State {
  /** The chain to which each name leads. */
  readonly chains: ReadonlyMap<string, string>;
  /** The names whose chain has rules, and is asked. */
  readonly inForce: ReadonlySet<string>;
  /** Whether the map is asked at all. */
  readonly asked: boolean;
}

const NOTHING: State = { chains: new Map(), inForce: new Set(), asked: false };

export class Nftables {
  /** As it was read or written last. */
  private state: Promise<State> | undefined;
  private readAt = 0;
  private waiting: Change[] = [];
  private running = false;
  /** The last change of each name that is not done yet. */
  private readonly underWay = new Map<string, Promise<void>>();
  constructor(
    private readonly form: TableForm,
    private readonly nft: Nft,
  ) {}

  /** The chain that guards this interface, as it was at most `maxAgeMs` ago. Without nft there is none. */
  async chainOf(ifname: string, maxAgeMs: number): Promise<string | undefined> {
    await this.underWay.get(ifname)?.catch(() => undefined); // or one that is about to go would be taken for one that stays
    const { chains, inForce } = await this.read(maxAgeMs);
    return inForce.has(ifname) ? chains.get(ifname) : undefined;
  }

  /** All names that lead to a chain. */
  async names(): Promise<string[]> {
    return [...(await this.read(Number.POSITIVE_INFINITY)).chains.keys()];
  }

  /** Resolves when the guard is in force. Rejects with AttachError. */
  async set(ifname: string, guard: Guard | undefined): Promise<void> {
    const done = new Promise<void>((resolve, reject) => {
      this.waiting.push({ ifname, guard, resolve, reject });
    });
    this.underWay.set(ifname, done);
    void this.work();
    await done.finally(() => {
      if (this.underWay.get(ifname) === done) this.underWay.delete(ifname);
    });
  }

  private async work(): Promise<void> {
    if (this.running) return;
    this.running = true;
    await undefined; // those who ask in the same moment
    while (this.waiting.length > 0) await this.applyAll(this.waiting.splice(0));
    this.running = false;
  }

  /** All at once; if that fails, with what is really there each for itself. */
  private async applyAll(changes: readonly Change[]): Promise<void> {
    try {
      await this.apply(changes);
      for (const { resolve } of changes) resolve();
    } catch {
      this.state = undefined;
      for (const change of changes) await this.apply([change]).then(change.resolve, change.reject);
    }
  }

  private async apply(changes: readonly Change[]): Promise<void> {
    const { chains, inForce, asked } = await this.read(Number.POSITIVE_INFINITY);
    const after = new Map(chains);
    const whole = new Set([...inForce].map((ifname) => chains.get(ifname)));
    const lines = changes.flatMap((change) => linesFor(this.form, change, after, whole));
    if (lines.length === 0) return;
    const used = new Set(after.values());
    const unused = new Set([...chains.values()].filter((chain) => !used.has(chain)));
    const { table } = this.form;
    const gone = [...unused].map((chain) => `delete chain ${table} ${chain}`);
    // The kernel takes four times as long for a change to a chain that packets pass (nf_tables waits for RCU then), so that
    // is made anew only where it does not ask the map.
    const head = asked ? [] : headOf(this.form);
    const look = `list chain ${table} ${this.form.asks}`;
    const listed = await this.transaction([...head, ...lines, ...gone, look]);
    if (asked && !listed.includes(`vmap @${this.form.map}`)) {
      this.state = undefined; // flushed by another, unseen: so may be what was taken for whole
      return this.apply(changes);
    }
    const set = changes.map(({ ifname }) => ifname).filter((ifname) => after.has(ifname));
    this.state = Promise.resolve({ chains: after, inForce: new Set([...inForce, ...set]), asked: true });
  }

  private read(maxAgeMs: number): Promise<State> {
    if (this.state === undefined || performance.now() - this.readAt > maxAgeMs) {
      this.readAt = performance.now();
      this.state = this.list().catch(() => NOTHING); // no such table, or no nft
    }
    return this.state;
  }

  private async list(): Promise<State> {
    const { table, asks } = this.form;
    return parseState(await this.outOf(this.nft.run('-j', 'list', 'table', ...table.split(' '))), asks);
  }

  private transaction(lines: readonly string[]): Promise<string> {
    return this.outOf(this.nft.transaction(lines));
  }

  private async outOf(saying: Promise<NftSays>): Promise<string> {
    const { purpose } = this.form;
    const { code, out, err } = await saying.catch((cause: VifdError) => {
      throw new AttachError('ENONFT', `the vif cannot be ${purpose}: ${cause.message}`, INSTALL[purpose], { cause });
    });
    if (code === 0) return out;
    const why =
      code === null ? `it did not end within ${NFT_MAX_MS / 1000} s` : printable(err.split('\n')[0] ?? '', 200);
    throw new AttachError('ENFT', `the vif cannot be ${purpose}: nft refused the rules`, why);
  }
}

/** The words of libnftables-json(5) that matter here; others may have put anything into the table. */
interface Listed {
  readonly map?: { readonly elem?: readonly [string, { readonly jump?: { readonly target?: string } }][] };
  readonly rule?: { readonly chain: string; readonly expr: readonly object[] };
}

function parseState(json: string, asks: string): State {
  const { nftables } = JSON.parse(json) as { nftables: Listed[] };
  const elements = nftables.flatMap(({ map }) => map?.elem ?? []);
  const chains = new Map(
    elements.flatMap(([name, verdict]) => (verdict.jump?.target ? [[name, verdict.jump.target]] : [])),
  );
  const rules = nftables.flatMap(({ rule }) => rule ?? []);
  const asked = rules.some(({ chain, expr }) => chain === asks && expr.some((one) => 'vmap' in one));
  const full = new Set(rules.map(({ chain }) => chain));
  const inForce = asked ? [...chains].filter(([, chain]) => full.has(chain)).map(([name]) => name) : [];
  return { chains, inForce: new Set(inForce), asked };
}
