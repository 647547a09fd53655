/**
 * How long a vif takes from `state` 2 to `connected`: vifd beside Debian's vif-bridge script and beside a floor, in the
 * same run, in turns. The figures are printed; only a gross loss fails, for machines differ.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, type LogLine } from '../agent/agent-process.js';
import { Observer, type Round } from './measure.js';
import { largestMiB, memoryMiB } from './process-figures.js';
import { align, type Case, median, quantile, type Row, rows, table } from './report.js';
import { AGENTS, type AgentName, IDLE_DOMAIN, Stage } from './stage.js';

const SCRIPT = '/etc/xen/scripts/vif-bridge';
const TOOLS = ['xenstore-read', 'xenstore-write', 'ip', 'unshare', 'nsenter'];
/** vif-bridge takes so much longer that fewer samples must do: it has a turn in every fourth round of single vifs. */
const PLAN = [
  { count: 1, rounds: 80, scriptEvery: 4 },
  { count: 16, rounds: 8, scriptEvery: 1 },
  { count: 40, rounds: 5, scriptEvery: 1 },
];
const STARTS = 11;
/** A guard against a gross loss on any machine; the figures that count are in the table. */
const LEAST_RATIO = 10;

const missing = [...TOOLS.filter((tool) => !inPath(tool)), ...(usable(SCRIPT) ? [] : [SCRIPT])];
const reason = missing.length > 0 ? ` (skipped: not installed: ${missing.join(', ')})` : '';

describe.skipIf(missing.length > 0)(`attach${reason}`, () => {
  let stage: Stage;
  let observer: Observer;
  const rounds: { agent: AgentName; count: number; round: Round }[] = [];

  beforeAll(async () => {
    stage = await Stage.open();
    await stage.startAgents();
    observer = await Observer.open(stage);
  });
  afterAll(async () => {
    await observer?.close();
    await stage?.close();
  });

  test('vifd, vif-bridge and the floor in turns', async () => {
    for (const { count, rounds: times, scriptEvery } of PLAN) {
      for (let i = 0; i < times; i++) {
        for (const agent of AGENTS) {
          if (agent === 'vif-bridge' && i % scriptEvery !== 0) continue;
          rounds.push({ agent, count, round: await observer.round(stage.agent(agent), count) });
        }
      }
    }
    const script = await largestOfScript(observer, stage);
    const memory = await freshMemory(observer, stage);
    const starts = await startTimes(stage);
    const cases = PLAN.map(({ count }) => toCase(count));
    const list = rows(cases);
    console.log(`\n${table(list)}\n\n${NOTES}\n\n${others({ ...memory, script, starts })}\n`);
    for (const { count, rounds: times, scriptEvery } of PLAN) {
      expect(pick('vifd', count)).toHaveLength(times);
      expect(pick('floor', count)).toHaveLength(times);
      expect(pick('vif-bridge', count)).toHaveLength(Math.ceil(times / scriptEvery));
    }
    for (const row of list) expectSound(row);
    expect(stage.agent('vifd').log).not.toContain('"level":"error"');
  });

  const pick = (agent: AgentName, count: number): Round[] =>
    rounds.filter((entry) => entry.agent === agent && entry.count === count).map(({ round }) => round);

  function toCase(count: number): Case {
    const samples = (agent: AgentName) => {
      const own = pick(agent, count);
      return { each: own.flatMap(({ ms }) => ms), last: own.map(({ ms }) => Math.max(...ms)) };
    };
    return { count, samples: { vifd: samples('vifd'), 'vif-bridge': samples('vif-bridge'), floor: samples('floor') } };
  }

  function others(figures: Memory & { script: number; starts: Start[] }): string {
    const { idleMiB, fullMiB, script, starts } = figures;
    const cpu = (agent: AgentName, count: number) => {
      const own = pick(agent, count);
      return `${(own.reduce((sum, round) => sum + round.cpuMs, 0) / (own.length * count)).toFixed(1)} ms`;
    };
    const longest = Math.max(...pick('vifd', 40).map(({ rssMiB }) => rssMiB));
    const span = (values: number[]) => `${median(values).toFixed(0)} ms, at most ${quantile(values, 1).toFixed(0)} ms`;
    const first = (agent: AgentName) => `${pick(agent, 1)[0]?.ms[0]?.toFixed(2)} ms`;
    return align([
      ['', 'vif-bridge', 'vifd'],
      ...PLAN.map(({ count }) => [`CPU per attach, ${count} at once`, cpu('vif-bridge', count), cpu('vifd', count)]),
      ['first attach after the start', first('vif-bridge'), first('vifd')],
      ['resident, no vif', '', `${idleMiB.toFixed(1)} MiB`],
      ['resident, 40 vifs connected', '', `${fullMiB.toFixed(1)} MiB`],
      ['resident, the same after all these rounds', '', `${longest.toFixed(1)} MiB`],
      ['resident, the largest process of one run', `${script.toFixed(1)} MiB`, ''],
      ['ready after exec, by its log', '', span(starts.map(({ uptimeMs }) => uptimeMs))],
      ['ready after exec, seen by the parent', '', span(starts.map(({ wallMs }) => wallMs))],
    ]);
  }
});

const NOTES = `* the greatest, where there are fewer than 100 samples. "last": until the burst's last vif is connected.
Processes: store and toolstack in one, each agent in one, the observer in the test's; ${availableParallelism()} cores.
Interfaces and directories are there before state 2; state 2 of a burst is written in one transaction. The observer is
a watch as dom0 on the same store. CPU and memory of vifd include its settling look after each attach and its child
(ip monitor; CPU only); those of vif-bridge include the spawner's CPU.`;

/** Ratios of real samples, and no gross loss. */
function expectSound({ label, values, scriptToVifd, vifdToFloor }: Row): void {
  for (const sample of Object.values(values).flat()) expect(sample, label).toBeGreaterThan(0);
  expect(Number.isFinite(vifdToFloor), label).toBe(true);
  expect(scriptToVifd, label).toBeGreaterThan(LEAST_RATIO);
}

/** One more run of the script, looked at so closely that its time would not count. */
async function largestOfScript(observer: Observer, stage: Stage): Promise<number> {
  const agent = stage.agent('vif-bridge');
  let largest = 0;
  await observer.round(agent, 1, async (ended) => {
    largest = await largestMiB(agent.pid, ended);
  });
  return largest;
}

interface Memory {
  readonly idleMiB: number;
  readonly fullMiB: number;
}

/** Of a vifd that has just started, and has then attached 40 vifs once. */
async function freshMemory(observer: Observer, stage: Stage): Promise<Memory> {
  const vifd = await stage.startFresh();
  const idleMiB = memoryMiB(vifd.pid, 'VmRSS');
  const { rssMiB } = await observer.round(vifd, 40);
  return { idleMiB, fullMiB: rssMiB };
}

interface Start {
  /** Since exec, by vifd's own clock. */
  readonly uptimeMs: number;
  readonly wallMs: number;
}

async function startTimes(stage: Stage): Promise<Start[]> {
  const starts: Start[] = [];
  for (let i = 0; i < STARTS; i++) starts.push(await startOnce(stage.socketOf(IDLE_DOMAIN)));
  return starts;
}

async function startOnce(socket: string): Promise<Start> {
  const startedAt = performance.now();
  const child = spawn(process.execPath, ['dist/main.js', 'run', '--xenstore', socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, VIFD_RUN_DIR: '' },
  });
  let start: Start | undefined;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { msg, uptimeMs } = JSON.parse(line) as LogLine;
    if (msg.startsWith('ready')) start = { uptimeMs: uptimeMs ?? NaN, wallMs: performance.now() - startedAt };
  });
  const seen = await eventually(() => start);
  child.kill('SIGTERM');
  await new Promise((resolve) => child.once('close', resolve));
  return seen;
}

function usable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function inPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((dir) => usable(join(dir, program)));
}
