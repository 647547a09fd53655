/**
 * EDGE: an nftables table of vifd. A map leads from an interface's name to the chain of rules for the frames that come in by
 * it, so rules can be in force before the interface is up, or there at all.
 *
 * INVARIANTS
 * - Each run of nft is one transaction: a guard is whole, or it is not there. Rules of others are never touched.
 * - Changes that come while nft runs wait and share the next run; one that nft refuses does no harm to the others. One that
 *   nft does not end is nobody's fault: all that share it are told so at once.
 * - The table is read again when others have changed any rules, and only then: nft takes the longer for it, the more is there.
 */

import { type Ended, remedyForProgram } from '../child.js';
import { AttachError, hasCode, printable, type VifdError } from '../errors.js';
import type { Generation } from './generation.js';
import { type Guard, type GuardChange, headOf, linesFor, type TableForm } from './guard-table.js';
import { NFT_MAX_MS, type Nft } from './nft.js';

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

const NO_TABLE = /No such file or directory/; // ENOENT, as nft has it
const NOTHING: State = { chains: new Map(), inForce: new Set(), asked: false };

/** What is there as long as others change nothing: Generation.changes(). */
interface Current {
  readonly changes: number;
  readonly state: Promise<State>;
}

/** `stale`: as it was read or written last, and none before that; nobody waits for nft then. */
export type GuardLook = 'now' | 'stale';

export class Nftables {
  private current: Current | undefined;
  private stale = NOTHING;
  private waiting: Change[] = [];
  private running = false;
  /** The last change of each name that is not done yet. */
  private readonly underWay = new Map<string, Promise<void>>();
  constructor(
    private readonly form: TableForm,
    private readonly nft: Nft,
    private readonly generation: Generation,
  ) {}

  /** The chain that guards this interface. Without nft there is none. Rejects with AttachError where nft does not answer. */
  async chainOf(ifname: string, look: GuardLook): Promise<string | undefined> {
    await this.underWay.get(ifname)?.catch(() => undefined); // or one that is about to go would be taken for one that stays
    const { chains, inForce } = look === 'stale' ? this.stale : await (await this.look()).state;
    return inForce.has(ifname) ? chains.get(ifname) : undefined;
  }

  /** All names that lead to a chain, as far as nft says. */
  async names(): Promise<string[]> {
    const { state } = await this.look();
    return [...(await state.catch(() => NOTHING)).chains.keys()];
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

  /** All at once; where nft refuses that, with what is really there each for itself. */
  private async applyAll(changes: readonly Change[]): Promise<void> {
    try {
      await this.apply(changes);
      for (const { resolve } of changes) resolve();
    } catch (error) {
      if (hasCode(error, 'ENFT')) this.current = undefined;
      await this.applyEach(changes, error);
    }
  }

  /** `fault`: of all together. Where it is not the rules', it is that of each, for it would only be waited for again. */
  private async applyEach(changes: readonly Change[], fault: unknown): Promise<void> {
    let last = fault;
    for (const change of changes)
      try {
        if (!hasCode(last, 'ENFT')) throw last;
        await this.apply([change]);
        change.resolve();
      } catch (error) {
        last = error;
        change.reject(error as Error);
      }
  }

  private async apply(changes: readonly Change[]): Promise<void> {
    const current = await this.look();
    const { changes: before } = current;
    const { chains, inForce, asked } = await current.state;
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
    // What of it is there when others made changes meanwhile?
    if ((await this.transaction([...head, ...lines, ...gone])) !== before) return this.apply(changes);
    const set = [...inForce, ...changes.map(({ ifname }) => ifname)].filter((ifname) => after.has(ifname));
    const now = { chains: after, inForce: new Set(set), asked: true };
    // Where it could not be listed, others' are there that are not in it.
    this.current = this.current === current ? { changes: before, state: Promise.resolve(now) } : undefined;
    this.stale = now;
  }

  private async look(): Promise<Current> {
    const changes = await this.generation.changes();
    if (this.current?.changes === changes) return this.current;
    const state = this.list().then(
      (listed) => {
        this.stale = listed;
        return listed;
      },
      (error) => {
        // To be asked again, but where there is no nft.
        if (this.current === current && !hasCode(error, 'ENOENT')) this.current = undefined;
        if (hasCode(error, 'ENFTTIME')) throw error; // the change would take as long again to say the same
        return NOTHING;
      },
    );
    const current = { changes, state };
    this.current = current;
    return current;
  }

  private async list(): Promise<State> {
    const { table, asks } = this.form;
    const ended = await this.nft.run('-j', 'list', 'table', ...table.split(' '));
    if (ended.code === 0) return parseState(ended.out, asks);
    if (NO_TABLE.test(ended.err)) return NOTHING;
    throw this.faultOf(ended); // refused for a reason that may pass; if it does not, the next change says it
  }

  /** Resolves with Generation.changes(). */
  private transaction(lines: readonly string[]): Promise<number> {
    return this.generation.transact(() => this.check(this.nft.transaction(lines)));
  }

  private async check(ending: Promise<Ended>): Promise<void> {
    const { purpose } = this.form;
    const ended = await ending.catch((cause: VifdError) => {
      if (cause.code === 'ECANCELED') throw cause; // not the rules' fault, so the vif must not do without them
      const remedy = remedyForProgram(cause, INSTALL[purpose]);
      throw new AttachError('ENONFT', `the vif cannot be ${purpose}: ${cause.message}`, remedy, { cause });
    });
    if (ended.code !== 0) throw this.faultOf(ended);
  }

  private faultOf({ code, signal, isLate, err }: Ended): AttachError {
    const cannot = `the vif cannot be ${this.form.purpose}`;
    if (isLate) return new AttachError('ENFTTIME', `${cannot}: ${UNDONE}`, LATE);
    if (code === null) return new AttachError('ENFT', `${cannot}: ${UNDONE}`, `it was ended by ${signal}`);
    return new AttachError('ENFT', `${cannot}: nft refused the rules`, printable(err.split('\n')[0] ?? '', 200));
  }
}

const UNDONE = 'nft has not done it';
const LATE = `it did not end within ${NFT_MAX_MS / 1000} s; see what it waits for: time nft list ruleset`;

/** The words of libnftables-json(5) that matter here; others may have put anything into the table. */
interface Listed {
  readonly map?: { readonly elem?: unknown } | null;
  readonly rule?: { readonly chain?: unknown; readonly expr?: unknown } | null;
}

/** Throws for what is not nft's JSON. */
function parseState(json: string, asks: string): State {
  const { nftables } = JSON.parse(json) as { nftables: readonly Listed[] };
  const chains = new Map(nftables.flatMap(({ map }) => listOf(map?.elem).flatMap(jumpOf)));
  const rules = nftables.flatMap(({ rule }) => rule ?? []);
  const asked = rules.some(({ chain, expr }) => chain === asks && listOf(expr).some(asksMap));
  const full = new Set(rules.map(({ chain }) => chain));
  const inForce = asked ? [...chains].filter(([, chain]) => full.has(chain)).map(([name]) => name) : [];
  return { chains, inForce: new Set(inForce), asked };
}

const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const asksMap = (expression: unknown): boolean =>
  typeof expression === 'object' && expression !== null && 'vmap' in expression;

/** `["vif5.0", {"jump": {"target": "guard_1"}}]`. Names go back to nft: only words that it takes for one word count. */
function jumpOf(element: unknown): [string, string][] {
  const [name, verdict] = listOf(element);
  const chain = (verdict as { jump?: { target?: unknown } | null } | null | undefined)?.jump?.target;
  const isWhole =
    typeof name === 'string' && /^[^"\n]+$/.test(name) && typeof chain === 'string' && /^\w+$/.test(chain);
  return isWhole ? [[name, chain]] : [];
}
