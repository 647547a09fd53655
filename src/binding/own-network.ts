/**
 * This domain's own network: the declared bridges and what is bound to interfaces. Events, the periodic look and a reload all
 * end in the same look at everything.
 */
import type { Logger } from 'pino';
import { vifMatch, type WholeConfig } from '../config/schema.js';
import { DeclaredBridges } from '../declared/bridges.js';
import { Said } from '../declared/said.js';
import { KeyedLoop } from '../keyed-loop.js';
import type { HostKernel } from '../network/host-kernel.js';
import { Bindings } from './bindings.js';
import type { VifDirectory } from './vif-directory.js';
import type { SeenVif } from './wanted.js';

export interface OwnNetworkIo {
  readonly kernel: HostKernel;
  readonly log: Logger;
  /** In force now. */
  readonly config: WholeConfig;
  readonly vifs: VifDirectory;
}

/** An address that is gone makes no link event. */
const LOOK_EVERY_MS = 20_000;
/** Link events come in bursts. Twice as long for each repair in the last minute: another program may undo them all. */
const SETTLE_MS = 50;
const QUIET_MS = 60_000;
/** So many repairs are no accident. */
const MANY_REPAIRS = 6;

export class OwnNetwork {
  private readonly bridges: DeclaredBridges;
  private readonly bindings: Bindings;
  private readonly said: Said;
  private readonly loop = new KeyedLoop<'all'>(() => this.run());
  private timer: NodeJS.Timeout | undefined;
  private readonly mode: string;
  /** When there was something to put right, within the last minute. */
  private repairs: number[] = [];
  constructor(private readonly io: OwnNetworkIo) {
    this.mode = io.config.agent.mode;
    this.bridges = new DeclaredBridges(io.kernel, io.log);
    this.bindings = new Bindings(io.kernel, io.log);
    this.said = new Said(io.log);
  }

  /** Resolves after the first look; commands and probes go on. Never rejects. */
  start(): Promise<void> {
    this.timer = setInterval(() => void this.loop.kick('all'), LOOK_EVERY_MS);
    return this.loop.kick('all');
  }

  /** Something happened to a vif in xenstore. */
  onVif(): void {
    if (this.asksForVifs) this.onLink();
  }

  /** Some interface appeared, changed or went. */
  onLink(): void {
    this.loop.kickLater('all', this.settleMs);
  }

  onReload(): void {
    const { config, log } = this.io;
    if (config.agent.mode !== this.mode)
      log.warn(
        `agent.mode = "${config.agent.mode}" counts from the next start of vifd; until then it is "${this.mode}"`,
      );
    this.bridges.retry();
    void this.loop.kick('all');
  }

  /** Leaves everything but a card whose gateway has not answered yet. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    await Promise.all([this.bridges.stop(), this.bindings.stop()]);
    await this.loop.stop();
  }

  private get asksForVifs(): boolean {
    return this.io.config.bindings.some((binding) => vifMatch(binding) !== undefined);
  }

  private get settleMs(): number {
    return Math.min(SETTLE_MS * 2 ** this.repairs.length, LOOK_EVERY_MS);
  }

  /** Resolves with how long an event that came meanwhile may wait. */
  private async run(): Promise<number> {
    const { bridges, bindings } = this.io.config;
    try {
      const bridgesDrifted = bridges.length > 0 && (await this.bridges.look(bridges));
      const drifted = (await this.bindings.look(bindings, await this.listVifs())) || bridgesDrifted;
      this.count(drifted);
      this.said.warn('[bind]', []);
    } catch (error) {
      this.said.warn('[bind]', [(error as Error).message]);
    }
    return this.settleMs;
  }

  private async listVifs(): Promise<readonly SeenVif[] | undefined> {
    if (!this.asksForVifs) return [];
    const { vifs, fault } = await this.io.vifs.list();
    this.said.warn('[bind] with when.vif', fault === undefined ? [] : [fault]);
    return vifs;
  }

  private count(drifted: boolean): void {
    const now = performance.now();
    this.repairs = [...this.repairs, ...(drifted ? [now] : [])].filter((at) => now - at < QUIET_MS);
    const isMany = this.repairs.length >= MANY_REPAIRS;
    this.said.warn('[bridge] and [bind]', isMany ? [ANOTHER_HAND] : []);
  }
}

const ANOTHER_HAND =
  'another program keeps changing what they ask for, so repairs come ever later; "ip monitor" shows what, have it leave these interfaces alone';
