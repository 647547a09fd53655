/**
 * One run of all that an agent does, with a strike at one of its effects: found at its start are vifs that run (guest 5),
 * some that have drifted (6), one that leaves (7/0) and new ones (8); then a guest comes (9), the drift is back, and two leave (7).
 * Of each mode there is one among those that run, that come and that leave: see casts.ts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { expect, vi } from 'vitest';
import type { Outcome } from '../../src/simulator/toolstack.js';
import type { AgentProcess } from '../agent/agent-process.js';
import type { Cast } from './casts.js';
import { CrashWorld, type Strike } from './crash-world.js';
import { carrierChanges, nodesOf, type Seen } from './seen-state.js';

/** Of guests that run all the time, and of those that are repaired as well. */
const RUNNING = /^(vif|wan)5\b/;
const STAYING = /^(vif|wan)[56]\b/;

/** Until all is as it should be, from the agent's last start on. */
const RECOVERED_MS = 60_000;
/**
 * What dom0 waits for a removal is 10 s. So that a busy machine, on which vifd takes long to start, is no failure, it is the
 * time from the last start's `ready` on that counts; the grace that vifd leaves dom0 is 1.3 s of it.
 */
const REMOVED_MS = 8_000;
const PATIENT = { destroyTimeoutMs: RECOVERED_MS };
/** A hook or a script is told a moment later. */
const TOLD_MS = 5_000;
/** What SIGTERM may take. */
const END_MS = 3_000;

export interface Bounds {
  readonly cast: Cast;
  /** The agent is stopped for so long when the strike is SIGSTOP. */
  readonly stoppedMs?: number;
}

/** In ms. */
export interface Took {
  /** From SIGTERM to its end. */
  readonly end: number;
  /** From the next start to `ready`; of one that was stopped, from when it went on until all was as it should be. */
  readonly again: number;
}

export class CrashScenario {
  private effects: string[] = [];
  private constructor(
    readonly world: CrashWorld,
    private readonly cast: Cast,
    private readonly stoppedMs: number,
  ) {}

  /** With the vifs that a run begins with, and no agent. dom0 gives up waiting for an agent that is stopped, and uses force. */
  static async start({ cast, stoppedMs = 0 }: Bounds): Promise<CrashScenario> {
    const world = await CrashWorld.start(cast, stoppedMs > 0 ? {} : PATIENT);
    const scenario = new CrashScenario(world, cast, stoppedMs);
    const agent = world.startAgent();
    await agent.saw(({ msg }) => msg.startsWith('ready'), RECOVERED_MS);
    await world.host.createGuest(5, cast.each(5));
    await world.host.createGuest(6, cast.drifting(6));
    await scenario.makeLeaving();
    await scenario.untilConnected();
    await scenario.ask(5);
    await vi.waitFor(() => cast.expectFirstCalls(world, [5, 6, 7]), { timeout: TOLD_MS });
    await agent.kill('SIGKILL');
    return scenario;
  }

  private async makeLeaving(): Promise<void> {
    await this.world.host.createGuest(7, this.cast.leaving(7));
  }

  private async ask(domid: number): Promise<void> {
    const ifname = this.cast.asks(domid);
    if (ifname !== undefined) expect(await this.world.ask(ifname)).toBe(`10.0.${domid}.2 via 10.0.${domid}.129`);
  }

  /** What is there at the end when nothing strikes, and the effects of such a run. */
  async undisturbed(
    counts: Strike['counts'],
    strike: Strike['strike'] = 'SIGKILL',
  ): Promise<{ seen: Seen; effects: string[] }> {
    const { seen } = await this.run({ at: 0, counts, strike }, undefined);
    // The rest of what is right the other tests say; here that nothing of a vif that left is taken for right.
    const traces = JSON.stringify(seen).match(/.{40}(vif7|wan7|198\.51\.100\.7|10\.0\.7\.).{40}/g);
    expect(traces, 'traces of what left').toBeNull();
    const came = seen.links['vif9.0'] ?? seen.links.wan9;
    expect(came).toMatchObject({ master: 'br0', txqlen: 1000, operstate: 'UP' });
    return { seen, effects: this.effects };
  }

  /** Rejects, with the effect that was struck, when anything is not as it is at the end of the undisturbed run. */
  async struck(strike: Strike, expected: Seen): Promise<Took> {
    try {
      return (await this.run(strike, expected)).took;
    } catch (error) {
      const effect = this.world.effects()[strike.at - 1] ?? 'that did not come';
      const again = `VIFD_CRASH_AT='${strike.strike} ${strike.at}' VIFD_CRASH_COUNTS=${strike.counts} repeats it`;
      const { message, actual } = error as Error & { actual?: unknown };
      throw new Error(`${strike.strike} at effect ${effect} (${again}): ${message}; ${JSON.stringify(actual)}`, {
        cause: error,
      });
    }
  }

  private async run(strike: Strike, expected: Seen | undefined): Promise<{ seen: Seen; took: Took }> {
    const { world, cast } = this;
    world.forgetCalls();
    const links = await LinkEvents.follow(world);
    const before = await this.running();
    await cast.drift(world);
    const comes = [world.host.createGuest(8, cast.early(8))];
    const leaves = [world.host.detachVif(7, 0)];
    const agents = new Agents(world, strike, this.stoppedMs);
    try {
      await agents.begun();
      comes.push(world.host.createGuest(9, cast.each(9)));
      leaves.push(world.host.detachVif(7, 1), world.host.detachVif(7, 2));
      await cast.drift(world);
      const left = await Promise.all(leaves);
      const leftAfter = performance.now() - agents.readyAt;
      expectNoErrors(await Promise.all(comes), this.logText());
      if (this.stoppedMs === 0) {
        expectNoErrors(left, this.logText());
        expect(leftAfter, `ms until the vifs have left; the log was:\n${this.logText()}`).toBeLessThan(REMOVED_MS);
      }
      await agents.caughtUp();
      const goesOnAt = performance.now();
      const seen = await this.untilSettled(expected);
      const again = this.stoppedMs > 0 ? performance.now() - goesOnAt : agents.readyMs;
      expect(await this.running(), 'carriers and ports of what runs').toEqual(before);
      expect(links.of(RUNNING), 'events of links that run').toEqual([]);
      await vi.waitFor(() => cast.expectCalls(world, strike), { timeout: TOLD_MS });
      this.effects = world.effects(); // what puts the world back is no part of it
      await this.restore(agents.isReady && (agents.isStruck || strike.at === 0));
      await agents.stop();
      expect(agents.faults, 'faults of agents').toEqual([]);
      return { seen, took: { end: agents.endMs, again } };
    } finally {
      await agents.stop();
      links.stop();
    }
  }

  private async untilConnected(): Promise<void> {
    const isWell = async () => {
      const nodes = await nodesOf(this.world);
      return Object.values(nodes).every((one) => one['hotplug-status'] === 'connected' && one.state === '4');
    };
    await until(isWell, 'all vifs are connected');
  }

  /** As expected, or, without that, the same twice with all vifs connected. */
  private async untilSettled(expected: Seen | undefined): Promise<Seen> {
    const { world } = this;
    if (expected === undefined) {
      await this.untilConnected();
      await this.ask(9);
      await sleep(2_500); // a repair may wait for a settled link, 1 s
      return world.seen();
    }
    const areThere = async () => isDeepStrictEqual(await nodesOf(world), expected.nodes);
    await until(areThere, 'the nodes are as expected').catch(() => undefined); // what is missing is told below
    await this.ask(9);
    let seen = await world.seen();
    for (const until = performance.now() + RECOVERED_MS; performance.now() < until; ) {
      if (isDeepStrictEqual(seen, expected)) return seen;
      await sleep(100);
      seen = await world.seen();
    }
    expect(seen, `the log was:\n${this.logText()}`).toEqual(expected);
    return seen;
  }

  private logText(): string {
    return this.world.agent.log.map(({ level, msg }) => `${level} ${msg}`).join('\n');
  }

  /** What must not have changed at the end. */
  private async running(): Promise<unknown> {
    const port = ['--if-exists', 'get', 'Port', 'vif5.2', '_uuid', '--', 'get', 'Interface', 'vif5.2', 'ofport'];
    return { carriers: await carrierChanges(this.world, STAYING), port: await this.world.vsctl(...port) };
  }

  /** The vifs that a run begins with. */
  private async restore(wasStruck: boolean): Promise<void> {
    const { world } = this;
    const ends = await Promise.all([8, 9, 7].map((domid) => world.host.destroyGuest(domid)));
    expectNoErrors(ends, this.logText());
    await vi.waitFor(() => this.cast.expectLastCalls(world, wasStruck), { timeout: TOLD_MS });
    await this.makeLeaving();
    await this.untilConnected();
    await vi.waitFor(() => this.cast.expectFirstCalls(world, [7]), { timeout: TOLD_MS });
  }
}

function expectNoErrors(outcomes: readonly Outcome[], log: string): void {
  expect(
    outcomes.flatMap(({ errors }) => errors),
    `what dom0 says; the log was:\n${log}`,
  ).toEqual([]);
}

/** Not as often as eventually() asks: what it costs counts, with several side by side. */
async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = performance.now() + RECOVERED_MS; !(await isSo()); await sleep(30))
    if (performance.now() > end) throw new Error(`not within ${RECOVERED_MS} ms: ${what}`);
}

/** Starts an agent again when it has ended, as a service manager does; only the first is struck. */
class Agents {
  /** What no agent may have: a word on stderr, another end than its strike asks for, a slow one. */
  readonly faults: string[] = [];
  private readonly first: AgentProcess;
  private startedAt = performance.now();
  private over = false;
  private woken: Promise<void> = Promise.resolve();

  constructor(
    private readonly world: CrashWorld,
    private readonly strike: Strike,
    private readonly stoppedMs: number,
  ) {
    this.first = world.startAgent(strike);
    this.keep(this.first);
    if (strike.strike === 'SIGSTOP') this.woken = this.wake();
  }

  /** It is ready, or was struck before. */
  async begun(): Promise<void> {
    const isReady = () => this.first.log.some(({ msg }) => msg.startsWith('ready'));
    await until(() => isReady() || this.first !== this.world.agent || this.isStruck, 'the agent is ready or struck');
  }

  /** The last one is. */
  get isReady(): boolean {
    return this.world.agent.log.some(({ msg }) => msg.startsWith('ready'));
  }

  /** When the last one was ready, by performance.now(). */
  get readyAt(): number {
    return this.startedAt + this.readyMs;
  }

  /** What the last one took to be. */
  get readyMs(): number {
    return this.world.agent.log.find(({ msg }) => msg.startsWith('ready'))?.uptimeMs ?? 0;
  }

  /** What the first one took to end by itself. */
  get endMs(): number {
    return Number(/ ([0-9]+) ms$/.exec(this.world.lastWord())?.[1]);
  }

  get isStruck(): boolean {
    const { at } = this.strike;
    return at > 0 && this.world.effects().length >= at;
  }

  private keep(agent: AgentProcess): void {
    void agent.exited.then((end) => {
      if (agent.stderr !== '') this.faults.push(agent.stderr);
      if (this.over) return;
      const wanted = this.strike.strike === 'SIGKILL' ? { code: null, signal: 'SIGKILL' } : { code: 0, signal: null };
      if (agent !== this.first || !isDeepStrictEqual(end, wanted))
        this.faults.push(`the agent ended with ${end.code ?? end.signal}: ${agent.log.at(-1)?.msg}`);
      this.startedAt = performance.now();
      this.keep(this.world.startAgent());
    });
  }

  private async wake(): Promise<void> {
    await until(() => this.isStruck, 'the agent is struck');
    await sleep(this.stoppedMs);
    process.kill(this.first.pid, 'SIGCONT');
  }

  /** The one that was stopped goes on, or all that was asked of a struck one has come. */
  caughtUp(): Promise<void> {
    return this.woken;
  }

  async stop(): Promise<void> {
    this.over = true;
    await this.world.agent.kill('SIGKILL');
    if (this.endMs > END_MS) this.faults.push(`the agent took ${this.endMs} ms to end`);
  }
}

/** What happens to links, as the kernel tells it. */
class LinkEvents {
  private readonly lines: string[] = [];
  private constructor(private readonly child: ChildProcess) {
    createInterface({ input: child.stdout as Readable }).on('line', (line) => this.lines.push(line));
  }

  static async follow({ namespace }: CrashWorld): Promise<LinkEvents> {
    const words = [`--net=/proc/${namespace.pid}/ns/net`, 'ip', '-o', 'monitor', 'link'];
    const events = new LinkEvents(spawn('nsenter', words, { stdio: ['ignore', 'pipe', 'ignore'] }));
    await sleep(100); // it does not tell when it listens
    return events;
  }

  /** But for the kernel's own word, after another port came or went, that this one is still a port and up. */
  of(which: RegExp): string[] {
    const own = this.lines.filter((line) => which.test(line.replace(/^(Deleted )?\d+: /, '')));
    return own.filter((line) => !/^\d+: [^ ]+ <[A-Z_,]*\bUP,LOWER_UP> mtu 1500 master br0 state UP /.test(line));
  }

  stop(): void {
    this.child.kill();
  }
}
