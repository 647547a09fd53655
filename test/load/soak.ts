/**
 * The soak: guests come and go around the real agent until the time is over, a line a minute, then a verdict. What it means by
 * compressed time stands in HELP. Started by soak.mjs.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cpuMs, memoryMiB } from '../bench/process-figures.js';
import { stay, wave } from './churn.js';
import { calmHeap, kept } from './leaks.js';
import { LoadHost } from './load-host.js';
import { Random } from './random.js';
import { nothingStays, takeTraces } from './traces.js';

const HELP = `npm run soak -- [--hours H] [--minutes M] [--seed N]

Guests attach and leave, in every mode and in an order that the seed gives, against the simulated dom0 and the real agent
with real interfaces in a network namespace; 16 more stay all the time. After each wave nothing may be left: no file
descriptor, child process, interface, route, rule, neighbour, nft rule, xenstore node or watch, and no memory.

--hours H    how much of a host's life (default 8). An hour stands for 120 guests that come and go, what a busy host has in
             an hour where a guest lives for half an hour and 60 run. The guests' idle time is what is left out.
--minutes M  what it may take at the most (default 10). With time left over after the guests of H hours it ends early.
--seed N     repeats an order; the one in use is printed.

Exit status: 0 sound, 1 something stayed or failed, 2 wrong arguments, 3 the time was over before the hours were.`;

const GUESTS_PER_HOUR = 120;
const PER_WAVE = 40;
const STAY = 16;
/** As in churn.test.ts. */
const KEPT_MAX_BYTES = 1_000;
/** Of the memory, so many waves must be there to judge. */
const JUDGED_WAVES = 8;
const DOMIDS = 9_000;

interface Options {
  readonly hours: number;
  readonly minutes: number;
  readonly seed: number;
}

function parseOptions(): Options | undefined {
  const text = { type: 'string' } as const;
  try {
    const { values } = parseArgs({
      options: { hours: text, minutes: text, seed: text, help: { type: 'boolean', short: 'h' } },
    });
    if (values.help) return undefined;
    const number = (name: 'hours' | 'minutes' | 'seed', otherwise: number) => {
      const value = Number(values[name] ?? otherwise);
      if (!(value > 0)) throw new Error(`--${name} is "${values[name]}"; expected a number above 0`);
      return value;
    };
    return { hours: number('hours', 8), minutes: number('minutes', 10), seed: number('seed', 1 + (Date.now() % 1e6)) };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
}

class Soak {
  private readonly startedAt = performance.now();
  private readonly heap: number[] = [];
  private readonly faults: string[] = [];
  private guests = 0;
  private spokenAt = 0;
  constructor(
    private readonly world: LoadHost,
    private readonly options: Options,
  ) {}

  async run(): Promise<number> {
    const random = new Random(this.options.seed);
    await stay(this.world, STAY);
    await wave(this.world, { guests: PER_WAVE, random, firstDomid: 10 });
    await sleep(1_000); // the looks that each attach has after it
    const before = takeTraces(this.world.agent.pid, this.world.host);
    while (!this.isDone && this.minutes < this.options.minutes && this.faults.length === 0) {
      const firstDomid = 100 + (this.guests % DOMIDS);
      this.faults.push(...(await wave(this.world, { guests: PER_WAVE, random, firstDomid })));
      this.guests += PER_WAVE;
      this.heap.push(await calmHeap(this.world));
      await nothingStays(this.world, before).catch((error: Error) => this.faults.push(error.message));
      this.speak();
    }
    return this.verdict();
  }

  private get isDone(): boolean {
    return this.guests >= this.options.hours * GUESTS_PER_HOUR;
  }

  private get minutes(): number {
    return (performance.now() - this.startedAt) / 60_000;
  }

  private speak(): void {
    if (Math.floor(this.minutes) < this.spokenAt && !this.isDone) return;
    this.spokenAt = Math.floor(this.minutes) + 1;
    const { pid } = this.world.agent;
    console.log(
      `${this.minutes.toFixed(1)} min: ${this.guests} guests, ${(this.guests / GUESTS_PER_HOUR).toFixed(1)} h; ` +
        `heap ${((this.heap.at(-1) ?? 0) / 1024).toFixed(0)} kB, resident ${memoryMiB(pid, 'VmRSS').toFixed(1)} MiB, ` +
        `CPU ${(cpuMs(pid) / this.guests).toFixed(0)} ms a guest`,
    );
  }

  private verdict(): number {
    const half = this.heap.slice(this.heap.length / 2);
    const perGuest = kept(half, PER_WAVE);
    const judged = half.length >= JUDGED_WAVES;
    if (judged && perGuest > KEPT_MAX_BYTES)
      this.faults.push(
        `each guest costs ${perGuest.toFixed(0)} bytes for ever; at most ${KEPT_MAX_BYTES} pass for noise`,
      );
    const errors = this.world.agent.log.filter(({ level }) => level === 'error' || level === 'fatal');
    for (const { msg } of errors) this.faults.push(`the agent says: ${msg}`);
    if (this.world.agent.stderr !== '') this.faults.push(`the agent's stderr: ${this.world.agent.stderr}`);
    for (const fault of this.faults) console.log(`FAULT ${fault}`);
    const memory = judged
      ? `${Math.max(0, perGuest).toFixed(0)} bytes kept a guest`
      : 'too few guests to judge its memory';
    const hours = (this.guests / GUESTS_PER_HOUR).toFixed(1);
    if (this.faults.length > 0) return this.end(1, `NOT SOUND: ${this.faults.length} faults in ${hours} h`);
    if (!this.isDone)
      return this.end(3, `NOT DONE: sound for ${hours} of ${this.options.hours} h; give it more --minutes`);
    return this.end(0, `SOUND: ${this.guests} guests, ${hours} h, nothing stayed, ${memory}`);
  }

  private end(code: number, words: string): number {
    console.log(`${words} (seed ${this.options.seed})`);
    return code;
  }
}

const options = parseOptions();
if (options === undefined) console.log(HELP);
else {
  console.log(`soak of ${options.hours} h in at most ${options.minutes} min, seed ${options.seed}`);
  const world = await LoadHost.start();
  const code = await new Soak(world, options).run().catch((error: Error) => {
    console.log(`NOT SOUND: ${error.stack} (seed ${options.seed})`);
    return 1;
  });
  await world.close();
  process.exit(code);
}
