/**
 * A simulated host in a network namespace of its own, so that several work side by side in one test, with an agent that
 * is struck at one of its effects and then started again. What a run leaves is read back as data, by ip and nft.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { onTestFinished } from 'vitest';
import { NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import type { LinkFactory } from '../../src/simulator/links.js';
import type { ToolstackOptions } from '../../src/simulator/toolstack.js';
import type { HookEntry } from '../../src/vif/hooks.js';
import { AgentProcess } from '../agent/agent-process.js';
import { Namespace } from '../netns/guests.js';
import type { Cast } from './casts.js';
import { CrashSwitch } from './crash-switch.js';
import { dnsmasqs, type Seen, seenOf } from './seen-state.js';

/** What shall happen to the agent; crash-point.mjs has the words. */
export interface Strike {
  readonly strike: NodeJS.Signals | 'child';
  readonly at: number;
  readonly counts: 'changes' | 'all';
}

const PRELOAD = resolve('test/faults/crash-point.mjs');
/** Offline is told as well when nothing is left to undo, and any number of times: what the README asks of scripts. */
const SCRIPT = (dir: string) => `#!/bin/sh
echo "$1 $vif" >>${dir}/calls
[ "$1" = offline ] || ip link set $vif up
if [ -e ${dir}/slow ]; then sleep 1; fi
echo "$1-ended $vif" >>${dir}/calls
`;
const HOOK = (dir: string) => `#!/bin/sh
echo "$VIFD_EVENT $VIFD_VIF" >>${dir}/calls
`;
const NETWORK = `
link add br0 address 02:00:00:00:00:01 type bridge
link set br0 up
link add eth0 address 02:00:00:00:00:02 type veth peer name wire
link set eth0 up
link set wire up
address add 203.0.113.1/24 dev eth0
`;

export class CrashWorld {
  host!: SimulatedHost;
  agent!: AgentProcess;
  private ovs: CrashSwitch | undefined;
  private constructor(
    readonly namespace: Namespace,
    readonly dir: string,
  ) {}

  /** It ends with the test. */
  static async start(cast: Cast, toolstack: ToolstackOptions): Promise<CrashWorld> {
    const dir = mkdtempSync(join(tmpdir(), 'vifd-crash-'));
    chmodSync(dir, 0o755); // dnsmasq reads there, as another user
    const world = new CrashWorld(await Namespace.start(), dir);
    onTestFinished(() => world.close());
    mkdirSync(join(dir, 'run'), { mode: 0o700 });
    mkdirSync(join(dir, 'hooks'));
    writeFileSync(join(dir, 'vif-mine'), SCRIPT(dir), { mode: 0o755 });
    writeFileSync(join(dir, 'hooks/10-note'), HOOK(dir), { mode: 0o755 });
    writeFileSync(join(dir, 'told'), '#!/bin/sh\n[ "$1" = bound ] && echo "$ip via $router"\n', { mode: 0o755 });
    writeFileSync(join(dir, 'calls'), '');
    writeFileSync(join(dir, 'vifd.toml'), cast.config(dir));
    await world.run('sh', ['-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward']);
    await world.ip(NETWORK);
    if (cast.hasSwitch) world.ovs = await CrashSwitch.start(world);
    world.host = await SimulatedHost.start({ netback: { links: linksIn(world) }, toolstack });
    return world;
  }

  private async close(): Promise<void> {
    await this.agent?.kill('SIGKILL');
    for (const pid of dnsmasqs(this)) process.kill(pid, 'SIGKILL');
    await this.host?.close();
    await this.ovs?.stop();
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 }); // a script may still write there
  }

  run(program: string, args: readonly string[], input = '') {
    return execa('nsenter', [`--net=/proc/${this.namespace.pid}/ns/net`, program, ...args], { input });
  }

  async ip(commands: string): Promise<void> {
    await this.run('ip', ['-batch', '-'], commands);
  }

  /** Nothing where this world has no Open vSwitch. */
  async vsctl(...words: string[]): Promise<string> {
    return this.ovs === undefined ? '' : this.ovs.vsctl(...words);
  }

  /** What a guest gets that asks by DHCP: its address and its router; rejects when nobody answers. */
  async ask(ifname: string): Promise<string> {
    const client = ['udhcpc', '-i', ifname, '-f', '-q', '-n', '-t', '15', '-T', '1', '-s', join(this.dir, 'told')];
    return (await this.run('busybox', client)).stdout.trim();
  }

  /** Not ready yet, and perhaps never. */
  startAgent(strike?: Strike): AgentProcess {
    const xenstore = this.host.socketOf(NICDOM);
    const { dir } = this;
    const environment = [`VIFD_RUN_DIR=${dir}/run`, `VIFD_STATE_DIR=${dir}/state`, `OVS_RUNDIR=${dir}/ovs`];
    if (strike !== undefined) {
      writeFileSync(this.report, '');
      const plan = JSON.stringify({ ...strike, xenstore, report: this.report });
      environment.push(`VIFD_CRASH=${plan}`, `NODE_OPTIONS=--import=${PRELOAD}`);
    }
    AgentProcess.prefix = ['nsenter', `--net=/proc/${this.namespace.pid}/ns/net`, 'env', ...environment];
    this.agent = new AgentProcess(xenstore, '-c', join(dir, 'vifd.toml'));
    AgentProcess.prefix = [];
    return this.agent;
  }

  private get report(): string {
    return join(this.dir, 'effects');
  }

  /** All that the last agent with a plan did, one a line. */
  effects(): string[] {
    return lines(this.report).filter((line) => !line.startsWith('ended'));
  }

  lastWord(): string {
    return lines(this.report).at(-1) ?? '';
  }

  /** `online vif5.3`, `online-ended vif5.3`, in the order in which it happened. */
  calls(ifname: string): string[] {
    return lines(join(this.dir, 'calls')).flatMap((line) =>
      line.endsWith(` ${ifname}`) ? line.split(' ').slice(0, 1) : [],
    );
  }

  /** The vifs of which hooks have heard to the end, as vifd has written it down. */
  recorded(): string[] {
    const entries = JSON.parse(readFileSync(join(this.dir, 'run/hooks.json'), 'utf8')) as HookEntry[];
    return entries.flatMap(({ vif, telling }) => (telling === undefined ? [vif] : [])).sort();
  }

  forgetCalls(): void {
    writeFileSync(join(this.dir, 'calls'), '');
  }

  seen(): Promise<Seen> {
    return seenOf(this);
  }
}

const lines = (file: string): string[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '');

/** As netback before Linux 4.5 makes them: the queue length must come from vifd. Known by their index, which no renaming changes. */
function linksIn(world: CrashWorld): LinkFactory {
  let next = 1_000;
  const indexes = new Map<string, number>();
  return {
    async create(ifname, { domid, handle, mac }) {
      const peer = `guest${domid}.${handle}`;
      const theirs = mac === undefined ? '' : ` address ${mac}`;
      const own = `${ifname} index ${next} address fe:ff:ff:ff:ff:ff txqueuelen 32`;
      indexes.set(ifname, next++);
      await world.ip(`link add ${own} type veth peer name ${peer}${theirs}\nlink set ${peer} up\n`);
    },
    async remove(ifname) {
      const index = indexes.get(ifname);
      indexes.delete(ifname);
      if (index !== undefined) await world.ip(`link delete dev if${index}\n`).catch(() => undefined);
    },
  };
}
