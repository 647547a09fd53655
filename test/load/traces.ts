/** All that vifs can leave behind: in the agent's process, in the kernel, in xenstore. */
import { deepStrictEqual } from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { execaSync } from 'execa';
import { NICDOM, type SimulatedHost } from '../../src/simulator/host.js';
import { eventually } from '../agent/agent-process.js';
import { childrenOf } from '../bench/process-figures.js';
import type { LoadHost } from './load-host.js';

export interface Traces {
  /** What each open file is, without numbers. */
  readonly descriptors: readonly string[];
  readonly children: readonly string[];
  readonly links: readonly string[];
  /** Routes, rules and proxied neighbours of both families, and the whole ruleset of nft. */
  readonly network: string;
  /** Of dom0 and of the driver domain. */
  readonly nodes: readonly number[];
  readonly watches: readonly number[];
}

export function takeTraces(pid: number, { store }: SimulatedHost): Traces {
  const domains = [0, NICDOM];
  return {
    descriptors: descriptorsOf(pid),
    children: childrenOf(pid).map(commandOf).sort(),
    links: lines(['ip', '-o', 'link']).map((line) => line.split(': ')[1] ?? ''),
    network: NETWORK.flatMap(lines).join('\n'),
    nodes: domains.map((domid) => store.ownedNodes(domid)),
    watches: domains.map((domid) => store.watches.ofDomain(domid)),
  };
}

/** Rejects when something else is there for good than before. */
export async function nothingStays(world: LoadHost, before: Traces): Promise<void> {
  const now = () => takeTraces(world.agent.pid, world.host);
  await eventually(() => isDeepStrictEqual(now(), before), 5_000).catch(() => deepStrictEqual(now(), before));
}

const NETWORK = [
  ...['-4', '-6'].flatMap((family) => [
    ['ip', family, 'route', 'show', 'table', 'all'],
    ['ip', family, 'rule', 'show'],
    ['ip', family, 'neigh', 'show', 'proxy'],
  ]),
  ['nft', 'list', 'ruleset'],
];

function lines([program = '', ...args]: string[]): string[] {
  return execaSync(program, args, { reject: false })
    .stdout.split('\n')
    .filter((line) => line !== '');
}

function descriptorsOf(pid: number): string[] {
  const names = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\[[0-9]+\]/, '')];
    } catch {
      return []; // closed meanwhile
    }
  });
  return names.sort();
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return ''; // ended meanwhile
  }
}
