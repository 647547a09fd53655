/**
 * What vifd takes beside a bare node of the same run: memory with 40 vifs after many have come and gone, processor time until
 * it is ready, and how often it wakes at rest. The simulated host is a process of its own. Limits with a wide margin; the
 * figures that count are printed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Observer } from '../bench/measure.js';
import { memoryMiB, runMs, switches } from '../bench/process-figures.js';
import { type Agent, IDLE_DOMAIN, Stage } from '../bench/stage.js';

const ROUNDS = 10;
const VIFS = 40;
/**
 * Right after the rounds: 1.25 to 1.31 measured on Node 20 and 22, 1.41 to 1.55 on 24, whose V8 takes more until the sweep.
 * V8 left to itself takes 1.6 and 1.7 to 1.85, after more rounds more.
 */
const MOST_MEMORY = Number.parseInt(process.versions.node, 10) < 24 ? 1.4 : 1.62;
/** 2.1 to 4 measured: a bare node takes longer where it has certificates to read. */
const MOST_START = 8;
const STARTS = 3;
/** V8 and vifd come to rest; V8 looks through its heap once more 8 to 10 s after the last work. */
const SETTLE_MS = 12_000;
const REST_MS = 20_000;
/** What is so close together is one wake. */
const APART_MS = 1_000;
/** 3 measured, 4 beside other work: the scan and what follows it. About 10 when vifd asked itself every 2 s what is new. */
const MOST_WAKES = 5;

describe('footprint', () => {
  let stage: Stage;
  let observer: Observer;
  let vifd: Agent;

  beforeAll(async () => {
    stage = await Stage.open();
    underSystemd(stage.directory);
    vifd = await stage.startPlain();
    vi.unstubAllEnvs();
    observer = await Observer.open(stage);
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await observer?.close();
    await stage?.close();
  });

  test('memory with 40 vifs after many rounds, and wakes at rest', async () => {
    let own = 0;
    for (let i = 0; i < ROUNDS; i++) own = (await observer.round(vifd, VIFS)).rssMiB;
    await observer.stay(vifd, Array(VIFS).fill(undefined));
    await sleep(SETTLE_MS);
    const [rested, bare] = [memoryMiB(vifd.pid, 'VmRSS'), await bareMiB()];
    const wakes = await countWakes(vifd.pid);
    console.log(
      `resident ${own.toFixed(1)} MiB, rested ${rested.toFixed(1)}, bare node ${bare.toFixed(1)}; wakes in ${REST_MS / 1000} s: ${wakes}`,
    );
    expect(own / bare).toBeLessThan(MOST_MEMORY);
    expect(wakes).toBeGreaterThan(0); // it scans
    expect(wakes).toBeLessThanOrEqual(MOST_WAKES);
  }, 120_000);

  test('processor time from exec until ready', async () => {
    const [own, bare]: [number[], number[]] = [[], []];
    for (let i = 0; i < STARTS; i++) {
      bare.push(await startMs(['-e', 'console.log("ready");setTimeout(()=>{},1e6)']));
      own.push(await startMs(['dist/main.js', 'run', '--xenstore', stage.socketOf(IDLE_DOMAIN)]));
    }
    const [ownMs, bareMs] = [Math.min(...own), Math.min(...bare)];
    console.log(`ready after ${ownMs.toFixed(0)} ms of processor time, bare node ${bareMs.toFixed(0)}`);
    expect(ownMs / bareMs).toBeLessThan(MOST_START);
  });
});

/** As systemd starts it, with the watchdog of vifd.service. */
function underSystemd(directory: string): void {
  const program = join(directory, 'systemd-notify');
  writeFileSync(program, '#!/bin/sh\n');
  chmodSync(program, 0o755);
  vi.stubEnv('PATH', `${directory}${delimiter}${process.env.PATH}`);
  vi.stubEnv('NOTIFY_SOCKET', '/nowhere');
  vi.stubEnv('WATCHDOG_USEC', '60000000');
}

async function bareMiB(): Promise<number> {
  const child = await started(['-e', 'console.log("ready");setTimeout(()=>{},1e6)']);
  await sleep(500);
  const mib = memoryMiB(child.pid ?? 0, 'VmRSS');
  await ended(child);
  return mib;
}

async function startMs(words: readonly string[]): Promise<number> {
  const child = await started(words);
  const ms = runMs(child.pid ?? 0);
  await ended(child);
  return ms;
}

async function started(words: readonly string[]): Promise<ChildProcess> {
  const env = { ...process.env, VIFD_RUN_DIR: '' };
  const child = spawn(process.execPath, words, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((resolve, reject) => {
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (piece) => {
      text += piece;
      if (text.includes('ready')) resolve();
    });
    child.once('exit', () => reject(new Error(`ended: ${text}`)));
  });
  return child;
}

async function ended(child: ChildProcess): Promise<void> {
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exit;
}

/** Of the process and its children: times at which one of their threads had slept and went on. */
async function countWakes(pid: number): Promise<number> {
  let wakes = 0;
  let lastAt = Number.NEGATIVE_INFINITY;
  let before = switches(pid);
  for (const until = performance.now() + REST_MS; performance.now() < until; await sleep(100)) {
    const now = switches(pid);
    if (now === before) continue;
    if (performance.now() - lastAt > APART_MS) wakes++;
    lastAt = performance.now();
    before = now;
  }
  return wakes;
}
