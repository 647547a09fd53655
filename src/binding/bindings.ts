/**
 * Keeps what is bound to interfaces as long as they are there.
 *
 * INVARIANTS
 * - Each appearance of an interface starts a binding's commands at most once; what follows its end waits for their end.
 * - Addresses and routes come before the probe, and are repaired at each look.
 * - When vifd ends it ends what it has started, and leaves addresses, routes and masquerading.
 */
import type { Logger } from 'pino';
import { type Binding, vifMatch } from '../config/schema.js';
import { applySteps, observe } from '../declared/apply.js';
import { Said } from '../declared/said.js';
import { describeStep, type Step } from '../declared/step.js';
import { hasCode, VifdError } from '../errors.js';
import type { HostKernel } from '../network/host-kernel.js';
import { ensureSysctl } from '../network/sysctl.js';
import { onAppeared, onGone, subjectOf } from './actions.js';
import { Masquerade } from './masquerade.js';
import { type Items, planBindings } from './plan.js';
import { type Appearance, appearances, forwardedFamilies, hasPlace, type Masqueraded, type SeenVif } from './wanted.js';

interface Present {
  readonly appearance: Appearance;
  readonly ending: AbortController;
}

export const FORWARDING = { ipv4: 'net.ipv4.ip_forward', ipv6: 'net.ipv6.conf.all.forwarding' } as const;

export class Bindings {
  private readonly present = new Map<string, Present>();
  /** What is under way, by binding and interface's name: one thing after the other. */
  private readonly work = new Map<string, Promise<void>>();
  private readonly ending = new AbortController();
  private readonly said: Said;
  private owned: Items = new Map();
  private readonly masquerade: Masquerade;
  /** Whether there may be any: a vifd before this one may have left some. */
  private masks = true;
  constructor(
    readonly kernel: HostKernel,
    readonly log: Logger,
  ) {
    this.said = new Said(log);
    this.masquerade = new Masquerade(kernel);
  }

  /**
   * Puts right what is to be put right, and starts what is to be started. Resolves with whether something had drifted while
   * nothing appeared or went. While it is not known which vifs there are (undefined) nothing that is for one is taken away.
   * Rejects with NetlinkError.
   */
  async look(bindings: readonly Binding[], vifs: readonly SeenVif[] | undefined): Promise<boolean> {
    if (bindings.length === 0 && this.present.size === 0 && this.owned.size === 0 && !this.masks) return false;
    const seen = await observe(this.kernel);
    const now = bindings.flatMap((binding) => appearances(binding, seen, vifs));
    const ready = now.filter((one) => hasPlace(one, seen));
    const known = vifs === undefined ? bindings.filter((one) => vifMatch(one) === undefined) : bindings;
    const { steps, warnings, masqueraded, owned } = planBindings(known, now, seen, this.owned);
    this.owned = owned;
    const masks = await this.mask(masqueraded, known.length === bindings.length);
    for (const name of new Set([...bindings.map((one) => one.name), ...steps.keys()])) {
      const binding = ready.find((one) => one.binding.name === name)?.binding;
      const faults = [
        ...(await this.apply(name, steps.get(name) ?? [])),
        ...(binding ? await this.forward(binding) : []),
        ...masks.faults.filter((one) => one.binding === name).map(({ fault }) => fault),
      ];
      this.said.warn(`[bind.${name}]`, [...(warnings.get(name) ?? []), ...faults]);
    }
    return !this.follow(ready, bindings) && (steps.size > 0 || masks.changed);
  }

  async stop(): Promise<void> {
    this.ending.abort();
    for (const { ending } of this.present.values()) ending.abort();
    await Promise.all(this.work.values());
  }

  private async apply(name: string, steps: readonly Step[]): Promise<string[]> {
    const done: Step[] = [];
    try {
      await applySteps(steps, this.kernel, (step) => done.push(step));
      return [];
    } catch (error) {
      // It went meanwhile, or another binding was quicker with the same: the next look says what there is to say.
      if (hasCode(error, 'ENODEV', 'ENETDOWN', 'EEXIST')) return [];
      return [wordsOf(error)];
    } finally {
      if (done.length > 0) this.log.info(`[bind.${name}]: ${done.map(describeStep).join(', ')}`);
    }
  }

  private async mask(wanted: ReadonlyMap<string, Masqueraded>, isAll: boolean) {
    if (wanted.size === 0 && !this.masks) return { changed: false, faults: [] };
    let changed = false;
    const said = (name: string | undefined, sentence: string) => {
      changed = true;
      this.log.info(`${name === undefined ? '[bind]' : `[bind.${name}]`}: ${sentence}`);
    };
    const faults = await this.masquerade.ensure(wanted, said);
    if (isAll) await this.masquerade.removeOthers(wanted, said);
    this.masks = wanted.size > 0 || !(await this.masquerade.isEmpty());
    return { changed, faults };
  }

  private async forward(binding: Binding): Promise<string[]> {
    const faults: string[] = [];
    for (const name of forwardedFamilies(binding).map((family) => FORWARDING[family]))
      await ensureSysctl(name, '1').then(
        (changed) => changed && this.log.info(`${subjectOf(binding)}: ${name} = 1`),
        (error) => faults.push(wordsOf(error)),
      );
    return faults;
  }

  /**
   * What has appeared and what has gone since the last look; false: nothing. A binding that is configured no more has not
   * gone.
   */
  private follow(now: readonly Appearance[], bindings: readonly Binding[]): boolean {
    const before = [...this.present.keys()];
    const keys = new Set(now.map(({ key }) => key));
    for (const [key, { appearance, ending }] of this.present) {
      if (keys.has(key)) continue;
      this.present.delete(key);
      ending.abort();
      const binding = bindings.find(({ name }) => name === appearance.binding.name);
      if (binding !== undefined)
        this.enqueue(appearance, () => onGone({ ...appearance, binding }, this.log, this.ending.signal));
    }
    for (const appearance of now) {
      if (this.present.has(appearance.key) || this.ending.signal.aborted) continue;
      const ending = new AbortController();
      this.present.set(appearance.key, { appearance, ending });
      this.enqueue(appearance, () => onAppeared(appearance, this, ending.signal));
    }
    return before.join() !== [...this.present.keys()].join();
  }

  private enqueue({ binding, ifname }: Appearance, task: () => Promise<void>): void {
    const place = `${binding.name} ${ifname}`;
    const done: Promise<void> = (this.work.get(place) ?? Promise.resolve()).then(task).finally(() => {
      if (this.work.get(place) === done) this.work.delete(place);
    });
    this.work.set(place, done);
  }
}

const wordsOf = (error: unknown): string =>
  error instanceof VifdError ? error.message : `unexpected: ${(error as Error).stack}`;
