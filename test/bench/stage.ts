/**
 * The processes of the benchmark and their namespaces. Node runs no TypeScript, so those that are no product are bundled
 * first, into a directory of their own.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { execa } from 'execa';
import { eventually } from '../agent/agent-process.js';
import type { Command, Group } from './store-process.js';

/** Each agent is alone in a driver domain and a network namespace, so that none sees another's events. */
export const AGENTS = ['vifd', 'vif-bridge', 'floor'] as const;
export type AgentName = (typeof AGENTS)[number];
const DRIVER_DOMAINS: Record<AgentName, number> = { vifd: 1, 'vif-bridge': 2, floor: 3 };
/** Without vifs, to measure the start of vifd. */
export const IDLE_DOMAIN = 4;
/** For one vifd that has attached nothing before. */
export const FRESH_DOMAIN = 5;

/** A bridge like the one a driver domain has; /sys and the script's log directory belong to the namespace. */
const NAMESPACE = `
  mount -t sysfs sysfs /sys 2>/dev/null
  mount -t tmpfs tmpfs /var/log/xen 2>/dev/null
  ip link set lo up && ip link add br0 type bridge && ip link set br0 up && exec "$@"`;

const VIFD = [resolve('dist/main.js'), 'run'];

export class Agent {
  private readonly logFile: string;
  private readonly child: ChildProcess;

  /** Its output goes to a file: a pipe would wake the observer for every line. */
  constructor(
    readonly name: string,
    readonly backendDomid: number,
    program: readonly string[],
    directory: string,
  ) {
    this.logFile = join(directory, `${name}.log`);
    const log = openSync(this.logFile, 'a');
    this.child = spawn('unshare', ['--net', '--mount', 'sh', '-c', NAMESPACE, 'sh', process.execPath, ...program], {
      stdio: ['ignore', log, log],
      env: { ...process.env, XENSTORED_PATH: join(directory, `${backendDomid}.sock`), VIFD_RUN_DIR: '' },
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** All that it has printed. */
  get log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  async ready(): Promise<void> {
    await eventually(
      () => this.log.includes('ready'),
      10_000,
      () => this.log,
    );
  }

  /** `ip` in its namespace. */
  async ip(args: readonly string[], input = ''): Promise<string> {
    const { stdout } = await execa('nsenter', [`--net=/proc/${this.pid}/ns/net`, 'ip', ...args], { input });
    return stdout;
  }

  async stop(): Promise<void> {
    const ended = new Promise((done) => this.child.once('close', done));
    this.child.kill('SIGTERM');
    await ended;
  }
}

export class Stage {
  readonly agents = new Map<string, Agent>();
  readonly driverDomains = [...Object.values(DRIVER_DOMAINS), IDLE_DOMAIN, FRESH_DOMAIN];
  private constructor(
    readonly directory: string,
    private readonly storeProcess: ChildProcess,
  ) {}

  static async open(): Promise<Stage> {
    const directory = mkdtempSync(join(tmpdir(), 'vifd-bench-'));
    await bundle(directory);
    const stage = new Stage(directory, fork(join(directory, 'store-process.mjs'), { execArgv: [] }));
    await stage.tell({ do: 'start', directory, driverDomains: stage.driverDomains });
    return stage;
  }

  socketOf(domid: number): string {
    return join(this.directory, `${domid}.sock`);
  }

  async startAgents(): Promise<void> {
    await this.startPlain();
    await this.start('vif-bridge', DRIVER_DOMAINS['vif-bridge'], [join(this.directory, 'vif-bridge-agent.mjs')]);
    await this.start('floor', DRIVER_DOMAINS.floor, [join(this.directory, 'floor-agent.mjs')]);
  }

  startFresh(): Promise<Agent> {
    return this.start('fresh', FRESH_DOMAIN, VIFD);
  }

  /** One with a configuration of its own, in the place of the fresh one. */
  startConfigured(name: string, toml: string, domid = FRESH_DOMAIN): Promise<Agent> {
    const file = join(this.directory, `${name}.toml`);
    writeFileSync(file, toml);
    return this.start(name, domid, [...VIFD, '-c', file]);
  }

  startPlain(): Promise<Agent> {
    return this.start('vifd', DRIVER_DOMAINS.vifd, VIFD);
  }

  private async start(name: string, backendDomid: number, program: readonly string[]): Promise<Agent> {
    const agent = new Agent(name, backendDomid, program, this.directory);
    this.agents.set(name, agent);
    await agent.ready();
    return agent;
  }

  agent(name: AgentName): Agent {
    const agent = this.agents.get(name);
    if (agent === undefined) throw new Error(`no agent ${name}`);
    return agent;
  }

  create(group: Group): Promise<void> {
    return this.tell({ do: 'create', group });
  }

  connect(group: Group): Promise<void> {
    return this.tell({ do: 'connect', group });
  }

  remove(group: Group): Promise<void> {
    return this.tell({ do: 'remove', group });
  }

  async close(): Promise<void> {
    for (const agent of this.agents.values()) await agent.stop();
    this.storeProcess.disconnect();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** One command at a time. */
  private async tell(command: Command): Promise<void> {
    const answer = await new Promise((done) => {
      this.storeProcess.once('message', done);
      this.storeProcess.send(command);
    });
    if (answer !== 'done') throw new Error(`${command.do}: ${answer}`);
  }
}

async function bundle(directory: string): Promise<void> {
  symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
  await build({
    entryPoints: ['store-process', 'floor-agent', 'vif-bridge-agent'].map((name) => `test/bench/${name}.ts`),
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['netlink'],
    // As in scripts/build.mjs: bundled CommonJS packages call require().
    banner: {
      js: "import { createRequire as benchRequire } from 'node:module'; const require = benchRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
}
