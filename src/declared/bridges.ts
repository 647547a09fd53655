/**
 * Keeps the declared bridges as they are declared.
 *
 * INVARIANTS
 * - Nothing is taken down or away when vifd ends, or when a bridge is declared no more.
 * - A gateway that answered before a card's addresses moved answers afterwards, or all is put back: also when vifd is told
 *   to end before it is known. A bridge of which that was so is left alone until the next start or reload.
 */
import type { Logger } from 'pino';
import type { DeclaredBridge } from '../config/schema.js';
import { VifdError } from '../errors.js';
import type { HostKernel } from '../network/host-kernel.js';
import { applySteps, observe } from './apply.js';
import { answers } from './gateway.js';
import { type Plan, planBridge } from './plan.js';
import { Said } from './said.js';
import { describeStep, type Step, wayBack } from './step.js';
import { type WantedBridge, wantedBridge } from './wanted.js';

/** Time for a gateway that is not known yet: ARP's and ND's three questions. */
const BEFORE_MS = 3_200;

export class DeclaredBridges {
  /** Looked at before. */
  private readonly ensured = new Set<string>();
  /** Left alone. */
  private readonly givenUp = new Set<string>();
  /** Moved, and it is not known yet whether the gateway answers. */
  private readonly onProbation = new Map<string, Promise<void>>();
  private readonly ending = new AbortController();
  private readonly said: Said;
  constructor(
    private readonly kernel: HostKernel,
    private readonly log: Logger,
  ) {
    this.said = new Said(log);
  }

  /** Brings each to what is declared. Resolves with whether one that was so had drifted. Never rejects. */
  async look(declared: readonly DeclaredBridge[]): Promise<boolean> {
    let drifted = false;
    for (const want of declared.map(wantedBridge)) {
      const { ifname } = want;
      if (this.givenUp.has(ifname) || this.onProbation.has(ifname) || this.ending.signal.aborted) continue;
      const changed = await this.ensure(want).catch((error) => this.said.warn(subjectOf(want), [wordsOf(error)]));
      drifted ||= changed === true && this.ensured.has(ifname);
      this.ensured.add(ifname);
    }
    return drifted;
  }

  /** After a reload: what was put back is tried again. */
  retry(): void {
    this.givenUp.clear();
  }

  async stop(): Promise<void> {
    this.ending.abort();
    await Promise.all(this.onProbation.values());
  }

  /** Resolves with whether something was changed. */
  private async ensure(want: WantedBridge): Promise<boolean> {
    const plan = await this.plan(want);
    if (plan.steps.length === 0) {
      this.said.warn(subjectOf(want), plan.warnings);
      return false;
    }
    const known = want.rollbackMs === 0 ? [] : await this.answering(plan);
    if (this.ending.signal.aborted) return false; // what has not answered yet might have
    const done: Step[] = [];
    try {
      await applySteps(plan.steps, this.kernel, (step) => done.push(step));
    } catch (error) {
      if (plan.atRisk.length === 0) throw error;
      await this.putBack(want, done, wordsOf(error));
      return false;
    } finally {
      if (done.length > 0) this.log.info(`${subjectOf(want)}: ${done.map(describeStep).join(', ')}`);
    }
    if (known.length > 0) this.watchOver(want, known, done);
    this.said.warn(subjectOf(want), await this.leftOver(want));
    return true;
  }

  private async plan(want: WantedBridge): Promise<Plan> {
    return planBridge(want, await observe(this.kernel, want.vlans === undefined ? [] : want.ports));
  }

  /** What the kernel took without doing it, such as a setting that it was built without. */
  private async leftOver(want: WantedBridge): Promise<string[]> {
    const { steps, warnings } = await this.plan(want);
    return [...warnings, ...steps.map((step) => `this kernel did not keep to it: ${describeStep(step)}`)];
  }

  private async answering({ atRisk }: Plan): Promise<string[]> {
    const asked = atRisk.map(async ({ card, gateway }) =>
      (await answers({ ifname: card, gateway }, this.kernel, BEFORE_MS, this.ending.signal)) ? [gateway] : [],
    );
    return (await Promise.all(asked)).flat();
  }

  private watchOver(want: WantedBridge, gateways: readonly string[], done: readonly Step[]): void {
    const { ifname } = want;
    const watching = this.confirm(want, gateways, done).finally(() => this.onProbation.delete(ifname));
    this.onProbation.set(ifname, watching);
  }

  private async confirm(want: WantedBridge, gateways: readonly string[], done: readonly Step[]): Promise<void> {
    const { ifname, rollbackMs } = want;
    const { signal } = this.ending;
    const asked = gateways.map(async (gateway) =>
      (await answers({ ifname, gateway }, this.kernel, rollbackMs, signal)) ? [] : [gateway],
    );
    const silent = (await Promise.all(asked)).flat();
    if (silent.length === 0) return this.log.info(`${subjectOf(want)}: ${gateways.join(', ')} answers there, too`);
    const why = signal.aborted
      ? `vifd ends before ${silent.join(', ')} has answered`
      : `${silent.join(', ')} answered before and has been silent for ${rollbackMs / 1000} s`;
    await this.putBack(want, done, why);
  }

  private async putBack(want: WantedBridge, done: readonly Step[], why: string): Promise<void> {
    this.givenUp.add(want.ifname);
    const table = subjectOf(want);
    try {
      await applySteps(wayBack(done), this.kernel);
      this.log.error(
        `${table}: ${why}; all is put back until the next start or reload. To have it nevertheless: rollback = 0`,
      );
    } catch (error) {
      this.log.error(
        `${table}: ${why}; and it cannot be put back: ${wordsOf(error)}. Look at it with: ip addr; ip route`,
      );
    }
  }
}

const subjectOf = ({ ifname }: WantedBridge): string => `[bridge.${ifname}]`;
const wordsOf = (error: unknown): string =>
  error instanceof VifdError ? error.message : `unexpected: ${(error as Error).stack}`;
