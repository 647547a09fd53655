/** A simulated host with a running agent in an emptied namespace that has one bridge, br0; fresh for each test. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished } from 'vitest';
import { type HostOptions, NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import type { LinkFactory } from '../../src/simulator/links.js';
import { vethLinks } from '../../src/simulator/links.js';
import { clearLinks, ip } from '../netns/namespace.js';
import { AgentProcess, eventually } from './agent-process.js';
import { MonitorProcess } from './monitor-process.js';

export class World {
  host!: SimulatedHost;
  agent!: AgentProcess;

  /** The agent comes `last` by default; tests of adoption start it themselves. */
  async start(
    options: Partial<Omit<HostOptions, 'netback'>> & {
      netback?: Partial<HostOptions['netback']>;
      agent?: boolean;
    } = {},
  ): Promise<void> {
    const links: LinkFactory = vethLinks({ txqueuelen: 32 }); // as netback before Linux 4.5: 1000 must come from vifd
    this.host = await SimulatedHost.start({ ...options, netback: { links, ...options.netback } });
    if (options.agent !== false) await this.startAgent();
  }

  async startAgent(...args: string[]): Promise<AgentProcess> {
    this.agent = await AgentProcess.ready(this.host.socketOf(NICDOM), ...args);
    return this.agent;
  }

  /** `vifd monitor` on this host. */
  monitor(...args: string[]): MonitorProcess {
    return new MonitorProcess('--xenstore', this.host.socketOf(NICDOM), ...args);
  }

  node(domid: number, devid: number, name: string): Promise<string | undefined> {
    return this.host.backendNode(domid, devid, name);
  }

  /** Waits for a node to have a value; undefined: to be gone. */
  async until(domid: number, devid: number, name: string, value: string | undefined, timeoutMs = 5_000): Promise<void> {
    await eventually(
      async () => (await this.node(domid, devid, name)) === value,
      timeoutMs,
      () =>
        `${name} of ${domid}/${devid} should be ${value}; the log:\n${this.agent.log.map(({ msg }) => msg).join('\n')}\n${this.agent.stderr}`,
    );
  }

  connected(domid: number, devid = 0, timeoutMs?: number): Promise<void> {
    return this.until(domid, devid, 'hotplug-status', 'connected', timeoutMs);
  }

  gone(domid: number, devid = 0, timeoutMs?: number): Promise<void> {
    return this.until(domid, devid, 'state', undefined, timeoutMs);
  }
}

/** Registers the hooks that make and end the world around each test of a file. */
export function useWorld(): World {
  const world = new World();
  beforeEach(() => {
    clearLinks();
    ip('link', 'add', 'br0', 'type', 'bridge');
    ip('link', 'set', 'br0', 'up');
  });
  afterEach(async () => {
    const ended = await world.agent.kill('SIGTERM');
    await world.host.close();
    expect(world.agent.stderr).toBe('');
    // One that could not end by itself would kill itself: see endDespiteBlockedRead().
    if (!world.agent.killed) expect(ended).toEqual({ code: 0, signal: null });
  });
  return world;
}

/** A directory of its own for the agent's socket, for the agents and monitors of each test of a file. */
export function useRunDirectory(): void {
  beforeEach(() => {
    const directory = mkdtempSync(join(tmpdir(), 'vifd-run-'));
    process.env.VIFD_RUN_DIR = directory;
    onTestFinished(() => {
      delete process.env.VIFD_RUN_DIR;
      rmSync(directory, { recursive: true, force: true });
    });
  });
}
