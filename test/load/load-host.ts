/** A simulated host for many guests, with the real agent in a process of its own, in this namespace. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execaSync } from 'execa';
import { type GuestVif, NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import { AgentProcess } from '../agent/agent-process.js';
import { runMs } from '../bench/process-figures.js';
import { clearLinks, ip } from '../netns/namespace.js';
import { Probe, probeEnvironment } from './probe.js';
import { Taps } from './taps.js';

/** For a thousand guests; xenstored's own are for a host with few. */
const QUOTAS = { nodes: 1_000_000, watches: 100_000, transactions: 1_000, memory: 64 * 1024 * 1024 };

/** In half a second; and how long to wait for that. */
const RESTING_MS = 20;
const RESTS_WITHIN_MS = 8_000;

/** A guest's vif by the way in which it is connected. `n` makes the addresses differ. */
export const MODES = {
  bridge: () => ({ bridge: 'br0' }),
  guarded: (n: number) => ({ bridge: 'br0', ip: address(n) }),
  routed: (n: number) => ({ script: 'vif-route', ip: `${address(n)} 2001:db8::${n.toString(16)}` }),
  nat: (n: number) => ({ script: 'vif-nat', ip: address(n) }),
  script: () => ({ bridge: 'br0', script: 'vif-mine' }),
} satisfies Record<string, (n: number) => GuestVif>;
export type Mode = keyof typeof MODES;

const address = (n: number) => `10.9.${(n >> 8) & 255}.${n & 255}`;

export class LoadHost {
  /** Guests that stay. */
  stayed = 0;
  private constructor(
    private readonly directory: string,
    private readonly taps: Taps,
    readonly host: SimulatedHost,
    readonly agent: AgentProcess,
    readonly probe: Probe,
  ) {}

  /** `linkFirst`: interfaces are there before `state` 2, so that nobody waits for netback. */
  static async start({ linkFirst = false } = {}): Promise<LoadHost> {
    const directory = mkdtempSync(join(tmpdir(), 'vifd-load-'));
    prepareNetwork();
    const script = join(directory, 'vif-mine');
    writeFileSync(script, '#!/bin/sh\n[ "$1" = offline ] || exec ip link set "$vif" up\n', { mode: 0o755 });
    const config = join(directory, 'vifd.toml');
    const hang = join(directory, 'vif-hang');
    writeFileSync(hang, '#!/bin/sh\nexec sleep 600\n', { mode: 0o755 });
    writeFileSync(config, `[script.vif-mine]\nfile = "${script}"\n[script.vif-hang]\nfile = "${hang}"\ntimeout = 40\n`);
    const taps = new Taps();
    const host = await SimulatedHost.start({ netback: { links: taps, linkFirst }, quotas: QUOTAS });
    const socket = join(directory, 'probe.sock');
    const agent = await withEnvironment(probeEnvironment(socket), () =>
      AgentProcess.ready(host.socketOf(NICDOM), '-c', config, '--log-level', 'info'),
    );
    return new LoadHost(directory, taps, host, agent, await Probe.open(socket));
  }

  /** What came before is looked at once more a moment later; resolves when the agent has no more to do, or never rests. */
  async rests(): Promise<void> {
    for (const until = performance.now() + RESTS_WITHIN_MS; performance.now() < until; ) {
      const before = runMs(this.agent.pid);
      await sleep(500);
      if (runMs(this.agent.pid) - before < RESTING_MS) return;
    }
  }

  async close(): Promise<void> {
    this.probe.close();
    await this.agent.kill('SIGTERM');
    await this.host.close();
    await this.taps.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** br0, and eth0 as the way to the network of routed guests. */
function prepareNetwork(): void {
  clearLinks();
  execaSync('nft', ['flush', 'ruleset'], { reject: false });
  for (const name of ['br0', 'eth0']) {
    ip('link', 'add', name, 'type', 'bridge');
    ip('link', 'set', name, 'up');
  }
  ip('addr', 'add', '10.0.0.1/24', 'dev', 'eth0');
  for (const family of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding']) writeFileSync(`/proc/sys/net/${family}`, '1');
}

/** AgentProcess hands its own on. */
async function withEnvironment<T>(env: Record<string, string>, work: () => Promise<T>): Promise<T> {
  Object.assign(process.env, env);
  try {
    return await work();
  } finally {
    for (const name of Object.keys(env)) delete process.env[name];
  }
}
