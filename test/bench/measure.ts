/**
 * One measured group: interfaces and directories are made, `state` 2 is written for all of its vifs at once, and one
 * observer, a watch as dom0, takes the time at which the two events of each vif arrive.
 */

import { NETBACK_MAC, OLD_TXQUEUELEN } from '../../src/simulator/links.js';
import { backendDir } from '../../src/simulator/nic.js';
import { connectXenstore, type XenstoreClient } from '../../src/xenstore/client.js';
import { eventually } from '../agent/agent-process.js';
import { cpuMs, memoryMiB } from './process-figures.js';
import type { Agent, Stage } from './stage.js';
import type { Group } from './store-process.js';

/** What an agent still does after `connected`, and what wakes up late, shall not run into the next measurement. */
const REST_MS = 100;
const FIRST_GUEST = 100;

export interface Round {
  /** Milliseconds from `state` 2 to `connected`, of each vif. */
  readonly ms: readonly number[];
  /** Processor time of the agent and its children, from before the directories came to the end of REST_MS, in ms. */
  readonly cpuMs: number;
  /** The agent's resident memory with all of them connected, at the end of REST_MS. */
  readonly rssMiB: number;
}

export class Observer {
  private readonly times = new Map<string, number>();
  private nextGuest = FIRST_GUEST;
  private constructor(
    private readonly stage: Stage,
    private readonly dom0: XenstoreClient,
  ) {}

  static async open(stage: Stage): Promise<Observer> {
    const observer = new Observer(stage, await connectXenstore(stage.socketOf(0)));
    for (const backendDomid of stage.driverDomains) {
      await observer.dom0.watch(`/local/domain/${backendDomid}/backend/vif`, ({ path }) => observer.note(path));
    }
    return observer;
  }

  close(): Promise<void> {
    return this.dom0.close();
  }

  /** Attaches `count` vifs at once; rejects when one of them does not end up connected and in the bridge. */
  async round(
    agent: Agent,
    count: number,
    during?: (ended: () => boolean) => Promise<void>,
    vif?: Group['vif'],
  ): Promise<Round> {
    const group: Group = { domid: this.nextGuest++, backendDomid: agent.backendDomid, count, ...(vif && { vif }) };
    const round = await this.attach(agent, group, during);
    await this.stage.remove(group);
    await removeLinks(agent, group);
    await rest();
    return round;
  }

  /** As many vifs of guests of their own, which stay. */
  async stay(agent: Agent, vifs: readonly Group['vif'][]): Promise<void> {
    for (const vif of vifs) {
      const group: Group = { domid: this.nextGuest++, backendDomid: agent.backendDomid, count: 1, ...(vif && { vif }) };
      await makeLinks(agent, group);
      await this.stage.create(group);
      await this.stage.connect(group);
    }
    const last = this.nextGuest - 1;
    for (let domid = this.nextGuest - vifs.length; domid <= last; domid++) {
      const path = `${backendDir({ domid, devid: 0, backendDomid: agent.backendDomid })}/hotplug-status`;
      await eventually(
        async () => (await this.dom0.readOptional(path)) === 'connected',
        60_000,
        () => path,
      );
    }
  }

  private async attach(agent: Agent, group: Group, during?: (ended: () => boolean) => Promise<void>): Promise<Round> {
    const dirs = Array.from({ length: group.count }, (_, devid) => backendDir({ ...group, devid }));
    await makeLinks(agent, group);
    const cpuBefore = cpuMs(agent.pid);
    await this.stage.create(group);
    await rest();
    this.times.clear();
    await this.stage.connect(group);
    const ended = () => dirs.every((dir) => this.times.has(`${dir}/hotplug-status`));
    await Promise.all([during?.(ended), eventually(ended, 60_000, () => agent.log.slice(-4_000))]);
    const ms = dirs.map((dir) => this.time(`${dir}/hotplug-status`) - this.time(`${dir}/state`));
    await rest();
    const round = { ms, cpuMs: cpuMs(agent.pid) - cpuBefore, rssMiB: memoryMiB(agent.pid, 'VmRSS') };
    await this.check(agent, group, dirs);
    return round;
  }

  /** The first event of a node since `times` was emptied counts; later ones are not the attach's. */
  private note(path: string): void {
    if (!this.times.has(path)) this.times.set(path, performance.now());
  }

  private time(path: string): number {
    const time = this.times.get(path);
    if (time === undefined) throw new Error(`no event of ${path}`);
    return time;
  }

  /** The first event of `hotplug-status` could have been an error's. */
  private async check(agent: Agent, group: Group, dirs: readonly string[]): Promise<void> {
    for (const dir of dirs) {
      const status = await this.dom0.read(`${dir}/hotplug-status`);
      if (status !== 'connected')
        throw new Error(`${agent.name}: ${dir}/hotplug-status is "${status}"\n${agent.log.slice(-4_000)}`);
    }
    if (group.vif?.script !== undefined) return; // no port
    const ports = JSON.parse(await agent.ip(['-j', 'link', 'show', 'master', 'br0', 'up'])) as { ifname: string }[];
    const names = new Set(ports.map(({ ifname }) => ifname));
    const missing = ifnames(group).filter((name) => !names.has(name));
    if (missing.length > 0) throw new Error(`${agent.name}: not up in br0: ${missing.join(' ')}`);
  }
}

const ifnames = ({ domid, count }: Group): string[] =>
  Array.from({ length: count }, (_, devid) => `vif${domid}.${devid}`);

/** As netback's interfaces: down, without carrier until the other end is up, with the queue of old kernels. */
async function makeLinks(agent: Agent, group: Group): Promise<void> {
  const lines = ifnames(group).map(
    (name) =>
      `link add ${name} txqueuelen ${OLD_TXQUEUELEN} address ${NETBACK_MAC} type veth peer name peer${name.slice(3)}\n`,
  );
  await agent.ip(['-batch', '-'], lines.join(''));
}

async function removeLinks(agent: Agent, group: Group): Promise<void> {
  const lines = ifnames(group).map((name) => `link delete dev ${name}\n`);
  await agent.ip(['-batch', '-'], lines.join(''));
}

const rest = () => new Promise((resolve) => setTimeout(resolve, REST_MS));
