/** A real Open vSwitch in a world's namespace, with one bridge, ovs0, and the datapath in user space. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { eventually } from '../agent/agent-process.js';
import { OVS_SCHEMA } from '../netns/ovs-daemons.js';
import type { CrashWorld } from './crash-world.js';

export class CrashSwitch {
  private readonly children: ChildProcess[] = [];
  private readonly dir: string;
  private constructor(private readonly world: CrashWorld) {
    this.dir = join(world.dir, 'ovs');
  }

  static async start(world: CrashWorld): Promise<CrashSwitch> {
    const ovs = new CrashSwitch(world);
    const { dir, socket } = ovs;
    mkdirSync(dir);
    await execa('ovsdb-tool', ['create', join(dir, 'conf.db'), OVS_SCHEMA]);
    ovs.spawn('ovsdb-server', `--remote=punix:${socket}`, `--unixctl=${dir}/db.ctl`, join(dir, 'conf.db'));
    await eventually(() => existsSync(socket));
    ovs.spawn('ovs-vswitchd', '--disable-system', `--unixctl=${dir}/switch.ctl`, `unix:${socket}`);
    await ovs.vsctl('add-br', 'ovs0', '--', 'set', 'Bridge', 'ovs0', 'datapath_type=netdev');
    return ovs;
  }

  async vsctl(...words: string[]): Promise<string> {
    return (await execa('ovs-vsctl', ['--timeout=20', `--db=unix:${this.socket}`, ...words])).stdout;
  }

  async stop(): Promise<void> {
    for (const child of this.children) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
  }

  private get socket(): string {
    return join(this.dir, 'db.sock');
  }

  private spawn(program: string, ...args: string[]): void {
    const words = [`--net=/proc/${this.world.namespace.pid}/ns/net`, program, '--verbose=off', ...args];
    this.children.push(spawn('nsenter', words, { stdio: 'ignore' }));
  }
}
