/**
 * Whether an attach costs more where many vifs are: an agent with 400 beside one with 4, in the same run, in turns, for
 * each way of connecting a vif. Only the ratios count.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Observer } from './measure.js';
import { cpuMs } from './process-figures.js';
import { align, median, quantile } from './report.js';
import { type Agent, Stage } from './stage.js';
import type { Group } from './store-process.js';

const COUNTS = [4, 400] as const;
const ROUNDS = 25;
/** A guard against a gross loss on any machine; the bar is 1.5, and the figures that count are printed. */
const MOST_RATIO = 3;
const CONFIG = '[script.vif-mine]\nfile = "/bin/true"\n';

/** By the number of the vif, which makes the addresses differ. */
const MODES: Readonly<Record<string, (n: number) => Group['vif']>> = {
  bridge: () => undefined,
  guarded: (n) => ({ ip: address(n) }),
  routed: (n) => ({ script: 'vif-route', ip: `${address(n)} 2001:db8::${n.toString(16)}` }),
  script: () => ({ script: 'vif-mine' }),
};
const NAMES = Object.keys(MODES);
const address = (n: number) => `10.9.${n >> 8}.${n & 255}`;

let stage: Stage;
let observer: Observer;
const agents: Agent[] = [];
let next = 1;
const vifOf = (mode: string) => MODES[mode]?.(next++);

beforeAll(async () => {
  stage = await Stage.open();
  observer = await Observer.open(stage);
  for (const [i, count] of COUNTS.entries()) {
    const agent = await stage.startConfigured(`with${count}`, CONFIG, [1, 5][i]);
    await agent.ip(['link', 'add', 'eth0', 'type', 'bridge']);
    await agent.ip(['addr', 'add', '10.0.0.1/24', 'dev', 'eth0']);
    await observer.stay(
      agent,
      Array.from({ length: count }, (_, n) => vifOf(NAMES[n % NAMES.length] as string)),
    );
    agents.push(agent);
  }
});
afterAll(async () => {
  await observer?.close();
  await stage?.close();
});

test('400 vifs and 4, in turns', async () => {
  const lines = [['', ...COUNTS.flatMap((count) => [`${count}: ms`, 'CPU ms']), 'ratio ms', 'CPU']];
  const ratios: number[] = [];
  for (const mode of NAMES) {
    const ms = agents.map((): number[] => []);
    const cpu = agents.map((): number[] => []);
    for (let i = 0; i < ROUNDS; i++) {
      for (const [n, agent] of agents.entries()) {
        const before = cpuMs(agent.pid);
        const round = await observer.round(agent, 1, undefined, vifOf(mode));
        ms[n]?.push(round.ms[0] as number);
        cpu[n]?.push(cpuMs(agent.pid) - before);
      }
    }
    const [few = 0, many = 0] = ms.map(median);
    const [fewCpu = 0, manyCpu = 0] = cpu.map(calm);
    ratios.push(many / few, manyCpu / fewCpu);
    lines.push([
      mode,
      `${few.toFixed(1)} (${quantile(ms[0] ?? [], 1).toFixed(0)})`,
      fewCpu.toFixed(1),
      `${many.toFixed(1)} (${quantile(ms[1] ?? [], 1).toFixed(0)})`,
      manyCpu.toFixed(1),
      (many / few).toFixed(2),
      (manyCpu / fewCpu).toFixed(2),
    ]);
  }
  console.log(`\n${align(lines)}\n`);
  for (const ratio of ratios) expect(ratio).toBeLessThan(MOST_RATIO);
});

/** The mean of the rounds without the periodic look at all vifs, which has a figure of its own. */
function calm(values: readonly number[]): number {
  const kept = values.toSorted((a, b) => a - b).slice(0, Math.ceil(values.length * 0.9));
  return kept.reduce((sum, value) => sum + value, 0) / kept.length;
}
