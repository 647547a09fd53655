/**
 * What must hold, always and when all is quiet.
 *
 * INVARIANTS
 * 1. The agent removes a backend directory only at `state` 6 with `online` 0, or when the guest's directory and the interface are gone (contract 8.5).
 * 2. dom0 gets its removal in time, and its own read of `state` 6 before that (contract 2.3, 10.4).
 * 3. The agent writes no node but its own; `connected` only when all that was asked for is in force.
 * 4. An interface that is connected is not taken down, and nothing that an interface in use needs is taken away.
 * 5. At most one look at a vif at a time.
 * 6. When all is quiet: connected, or an error with a sentence, or forgotten without a trace; and a look at what has not changed
 *    changes nothing.
 */

import { NICDOM } from '../../src/simulator/host.js';
import { type Attachment, guardTable, isRouted } from '../../src/vif/attachment.js';
import { parseBackend, type RawNodes, XenbusState } from '../../src/vif/backend.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { Vif } from '../../src/vif/vif.js';
import { type BackendKey, backendDir, type KeyText, keyText } from '../../src/xenstore/paths.js';
import { Clock } from './clock.js';
import type { VifPlan, World } from './world.js';

const HOME = `/local/domain/${NICDOM}`;
const OWN =
  /^(WRITE|RM) (backend\/vif\/\d+\/\d+\/hotplug-(status|error)|\/local\/domain\/\d+\/device\/vif\/\d+\/mtu|data\/vifd)(=|$)/;
const OWN_RM = /^RM (backend\/vif\/\d+\/\d+|error\/backend\/vif\/\d+(\/\d+)?)$/;

/** Whose looks are under way: by the agent's own things, so that those of a killed one do not count. */
const looking = new WeakMap<object, Map<string, number>>();
let onTwo: (key: string) => void = () => {};

/** Counts looks at the vifs of one agent; put in place once. */
export function countLooks(): void {
  const { look } = Vif.prototype;
  Vif.prototype.look = async function (this: Vif) {
    const { io, key } = this as unknown as { io: object; key: BackendKey };
    const counts = looking.get(io) ?? new Map<string, number>();
    looking.set(io, counts);
    const count = (counts.get(keyText(key)) ?? 0) + 1;
    counts.set(keyText(key), count);
    if (count > 1) onTwo(keyText(key));
    return look.call(this).finally(() => counts.set(keyText(key), (counts.get(keyText(key)) ?? 0) - 1));
  };
}

export class Judge {
  readonly faults: string[] = [];
  /** Changes that the agent made, in xenstore and in the kernel. */
  changes: string[] = [];
  /** Requests are refused, late or lost: dom0 may lose patience with whatever it begins to wait for. */
  refusing = false;
  /** Another program's hand is in it: links may be taken down. */
  otherHands = false;
  /** Those with which dom0's present wait may be too long: an event was lost meanwhile, or the agent was not there. */
  private readonly excused = new Set<KeyText>();
  /** Those of which netback, or dom0 before it, has given the present life up. */
  private readonly broken = new Set<KeyText>();
  /** Those with which dom0 has lost patience in their present life, and was excused. */
  private readonly forgiven = new Set<KeyText>();
  /** When another hand was last at any interface: it may have been in the midst of a look. */
  private touchedAt = 0;
  /** How many words of xl's are judged. */
  private readonly heard = new Map<KeyText, number>();
  constructor(private readonly world: World) {
    onTwo = (key) => this.accuse(`two looks at ${key} at a time`);
  }

  accuse(fault: string): void {
    this.faults.push(fault);
  }

  /** Events are lost, or the agent is: whatever dom0 waits for now may be late. */
  disturb(): void {
    for (const vif of this.world.options.vifs) this.excused.add(keyText(vif));
  }

  /** Another hand is at an interface. */
  touch(): void {
    this.touchedAt = Clock.now();
  }

  /** The disturbance is over, and all that came of it. */
  calm(): void {
    this.refusing = this.otherHands = false;
  }

  /** A party has made this move; `waits`: dom0 begins to wait by it, and what was before excuses nothing any more. */
  follow(key: KeyText, move: string, waits: boolean): void {
    if (move === 'attach') for (const past of [this.broken, this.forgiven]) past.delete(key);
    if (move === 'fail' || move === 'add-fails') this.broken.add(key);
    if (waits) this.excused.delete(key);
    if (waits && (this.refusing || this.world.agent === undefined)) this.excused.add(key);
  }

  /** What it would overlook: part of what can happen yet. */
  get mercy(): readonly ReadonlySet<KeyText>[] {
    return [this.excused, this.broken, this.forgiven];
  }

  /** One request of the agent to xenstore. */
  watching(text: string, serve: () => void): void {
    const { world } = this;
    if (/^(WRITE|RM|MKDIR|SET_PERMS)/.test(text)) {
      this.changes.push(text);
      if (!OWN.test(text) && !OWN_RM.test(text)) this.accuse(`the agent may not: ${text}`);
    }
    if (!/^(WRITE|RM|TRANSACTION_END)/.test(text)) return serve();
    const before = world.options.vifs.map((vif) => ({ vif, sight: world.sight(vif), link: world.linkOf(vif) }));
    serve();
    for (const { vif, sight, link } of before) {
      const after = world.sight(vif);
      if (sight.back !== undefined && after.back === undefined) {
        const closed = sight.back.state === 6 && !sight.back.online;
        if (!closed && !(sight.front === undefined && link === undefined))
          this.accuse(`${keyText(vif)} removed while in use: ${JSON.stringify(sight)}`);
      }
      const told = after.back?.status === 'connected' && sight.back?.status !== 'connected';
      const wrong = told && link !== undefined && this.touchedAt !== Clock.now() ? this.missing(vif) : [];
      if (wrong.length > 0) this.accuse(`${keyText(vif)} is told connected without ${wrong.join(', ')}`);
    }
  }

  /** One request of the agent to the kernel. */
  beforeKernel(name: string, args: readonly unknown[]): void {
    if (!/^(set|add|delete)/.test(name)) return;
    const [first, second, table] = args as [{ ifname: string; ifindex: number } | string, object | undefined, string];
    this.changes.push(`${name} ${JSON.stringify(args)}`);
    if (name === 'setGuard')
      this.checkGuardFree(first as string, second as { chain: string } | undefined, table ?? 'bridge');
    if (name !== 'setLink' || this.otherHands || typeof first === 'string') return;
    const change = second as { up?: boolean; master?: number };
    const vif = this.world.options.vifs.find((one) => this.world.linkOf(one)?.ifindex === first.ifindex);
    if (vif === undefined || change.up !== false) return;
    if (this.world.backNode(vif, 'hotplug-status') === 'connected' && this.missing(vif).length === 0)
      this.accuse(`${keyText(vif)} is connected, and its link is taken down`);
  }

  /** A guard that a living vif under this name is held to. */
  private checkGuardFree(ifname: string, guard: { chain: string } | undefined, table: string): void {
    for (const vif of this.world.options.vifs) {
      const want = this.wantOf(vif);
      const link = this.world.linkOf(vif);
      if (want?.guard === undefined || guardTable(want) !== table || link?.ifname !== ifname) continue;
      if (this.world.sight(vif).back?.online && guard?.chain !== want.guard.chain)
        this.accuse(`the guard of ${ifname} is taken away from ${keyText(vif)}`);
    }
  }

  /** After each move. */
  look(): void {
    for (const vif of this.world.options.vifs) {
      const key = keyText(vif);
      const { errors, netback, dom0 } = this.world.life(vif);
      // The guest took its own directory away before hotplug was done: netback is gone, and will never tell `state` 6.
      const isOrphan =
        netback === 'gone' && dom0 === 'there' && this.world.sight(vif).back?.state !== XenbusState.Closed;
      if (isOrphan) this.broken.add(key);
      const isNew = errors.length > (this.heard.get(key) ?? 0);
      this.heard.set(key, errors.length);
      if (!isNew) continue;
      if (this.excused.has(key) || this.broken.has(key)) this.forgiven.add(key);
      else this.accuse(`dom0 says of ${key}: ${errors.at(-1)}`);
    }
  }

  /** What the vif lacks, or has and should not. */
  missing(vif: VifPlan): string[] {
    const want = this.wantOf(vif);
    const { kernel } = this.world;
    const link = this.world.linkOf(vif);
    if (want === undefined || link === undefined) return ['interface'];
    const lacks = (what: string, has: boolean) => (has ? [] : [what]);
    const bridge = [...kernel.links.values()].find(({ ifname }) => ifname === 'br0');
    const { guards } = this;
    return [
      ...lacks(`name ${want.ifname}`, link.ifname === want.ifname),
      ...lacks('up', link.up),
      ...lacks('qlen', link.txqlen === want.txqlen),
      ...lacks('tx off', kernel.isCleared(link.ifindex)),
      ...(want.mode === 'bridge' ? lacks('bridge', link.master === bridge?.ifindex) : []),
      ...lacks('guard', guards(guardTable(want)).get(want.ifname) === want.guard?.chain),
      ...(isRouted(want) ? this.missingRoutes(want, link.ifindex) : []),
    ];
  }

  private readonly guards = (table: string): ReadonlyMap<string, string> =>
    this.world.kernel.tables[table as keyof typeof this.world.kernel.tables];

  private missingRoutes(want: Extract<Attachment, { mode: 'routed' | 'nat' }>, ifindex: number): string[] {
    const { routes } = this.world.kernel;
    return want.addresses
      .filter(
        ({ address }) => !routes.some((route) => route.ifindex === ifindex && route.destination.address === address),
      )
      .map(({ address }) => `route to ${address}`);
  }

  private wantOf(vif: VifPlan): Attachment | undefined {
    const dir = `${HOME}/${backendDir(vif)}`;
    const names = [...(this.world.store.tree.read(dir)?.children ?? [])];
    const nodes: RawNodes = new Map(names.map((name) => [name, this.world.read(`${dir}/${name}`) ?? '']));
    try {
      return resolveAttachment(parseBackend(vif, nodes), this.world.config);
    } catch {
      return undefined;
    }
  }

  /** All is quiet: whatever comes now has come before. `changes`: what the agent changed since it did. */
  verdict(changes: readonly string[]): void {
    if (changes.length > 0) this.accuse(`changed without need: ${changes.join(' | ')}`);
    for (const vif of this.world.options.vifs) this.judgeVif(vif);
    if (this.world.options.vifs.every((vif) => this.world.sight(vif).back === undefined)) this.judgeTraces();
  }

  private judgeVif(vif: VifPlan): void {
    const { dom0, netback } = this.world.life(vif);
    const { back } = this.world.sight(vif);
    const name = keyText(vif);
    const error = this.world.backNode(vif, 'hotplug-error');
    if (dom0 === 'closing' || dom0 === 'removing') return this.accuse(`${name} still leaves`);
    // dom0 may have lost patience with good reason; but the directory goes, unless the guest came back meanwhile.
    const isInUse = back !== undefined && back.state < XenbusState.Closing;
    if (dom0 === 'stuck' && !isInUse && (back !== undefined || !this.forgiven.has(name)))
      return this.accuse(`${name} was never removed`);
    if (back === undefined) return;
    const rival = this.world.options.vifs.find((other) => other !== vif && this.holdsName(other, vif));
    if (rival !== undefined && back.online) {
      if (back.status !== 'error' || !error)
        this.accuse(`${name} cannot have its name and does not say so: ${back.status}`);
    } else if (netback === 'made' && back.online) {
      const wrong = this.missing(vif);
      if (back.status !== 'connected') wrong.push(`status ${back.status}`);
      if (error !== undefined) wrong.push(`no error: ${error}`);
      if (wrong.length > 0) this.accuse(`${name} should be connected, and lacks ${wrong.join(', ')}`);
    }
    if ((netback === 'failed' || netback === 'probed') && back.online && (back.status !== 'error' || !error))
      this.accuse(`${name} cannot be connected and does not say so: ${back.status}, ${error}`);
  }

  /** Whether one has the name that another should have. */
  private holdsName(holder: VifPlan, vif: VifPlan): boolean {
    return this.world.linkOf(holder)?.ifname === this.wantOf(vif)?.ifname && this.world.linkOf(vif) !== undefined;
  }

  private judgeTraces(): void {
    const { agent, kernel } = this.world;
    if (agent === undefined) return;
    const known = agent.reconciler.list().map(({ key, phase }) => `${keyText(key)} ${phase}`);
    if (known.length > 0) this.accuse(`not forgotten: ${known.join(', ')}`);
    const { bridge, inet, nat } = kernel.tables;
    const guards = [bridge, inet, nat].flatMap((table) => [...table.keys()]);
    const left = [
      ...guards,
      ...kernel.rules.map(({ from }) => `rule ${from.address}`),
      ...kernel.proxies.map(({ address }) => `proxy ${address}`),
    ];
    if (left.length > 0) this.accuse(`left behind: ${left.join(', ')}`);
    if (agent.reconciler.counts().leaving > 0) this.accuse('something still leaves');
  }
}
