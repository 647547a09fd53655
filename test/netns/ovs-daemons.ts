/** A real Open vSwitch with directories of its own and the datapath in user space, so that it needs no module. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execaSync } from 'execa';
import { eventually } from '../agent/agent-process.js';

export const OVS_SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
/** Why these tests cannot run here. */
export const noOvs = existsSync(OVS_SCHEMA)
  ? undefined
  : 'Open vSwitch is not installed: apt install openvswitch-switch';

export const vsctl = (...args: string[]): string => execaSync('ovs-vsctl', ['--timeout=10', ...args]).stdout;

export class OvsDaemons {
  private readonly dir = mkdtempSync(join(tmpdir(), 'vifd-ovs-'));
  private readonly children: ChildProcess[] = [];

  /** ovs-vsctl finds it by the environment. */
  static async start(): Promise<OvsDaemons> {
    const ovs = new OvsDaemons();
    process.env.OVS_RUNDIR = ovs.dir;
    const database = join(ovs.dir, 'conf.db');
    execaSync('ovsdb-tool', ['create', database, OVS_SCHEMA]);
    ovs.spawn('ovsdb-server', `--remote=punix:${ovs.socket}`, `--unixctl=${ovs.dir}/db.ctl`, database);
    await eventually(() => existsSync(ovs.socket));
    ovs.startSwitch();
    vsctl('--', 'set', 'Open_vSwitch', '.', 'external_ids:made-by=test');
    return ovs;
  }

  startSwitch(): void {
    this.spawn('ovs-vswitchd', '--disable-system', `--unixctl=${this.dir}/switch.ctl`, `unix:${this.socket}`);
  }

  addBridge(name: string): void {
    vsctl('add-br', name, '--', 'set', 'Bridge', name, 'datapath_type=netdev');
  }

  /** The last that was started. */
  async kill(): Promise<void> {
    const child = this.children.pop();
    if (child === undefined || child.exitCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  async stop(): Promise<void> {
    while (this.children.length > 0) await this.kill();
    Reflect.deleteProperty(process.env, 'OVS_RUNDIR');
    rmSync(this.dir, { recursive: true });
  }

  private get socket(): string {
    return join(this.dir, 'db.sock');
  }

  private spawn(program: string, ...args: string[]): void {
    const child = spawn(program, ['--verbose=off', ...args], { stdio: 'ignore' });
    child.on('error', () => undefined);
    this.children.push(child);
  }
}
