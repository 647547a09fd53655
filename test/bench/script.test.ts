/**
 * A hotplug script's whole run, from `state` 2 to its exit status: scripts/vif-vifd with the daemon up beside Debian's
 * vif-bridge, in the same namespace, in turns. Each has a driver domain of its own in the store, so that the daemon sees
 * only the vifs of the one.
 */
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backendDir } from '../../src/simulator/nic.js';
import { AgentProcess } from '../agent/agent-process.js';
import { align, median, quantile } from './report.js';
import { Stage } from './stage.js';
import type { Group } from './store-process.js';

const SCRIPTS = {
  'vif-bridge': { file: '/etc/xen/scripts/vif-bridge', backendDomid: 2 },
  'vif-vifd': { file: resolve('scripts/vif-vifd'), backendDomid: 1 },
};
type ScriptName = keyof typeof SCRIPTS;
const NAMES = Object.keys(SCRIPTS) as ScriptName[];
const ROUNDS = 20;
const REST_MS = 50;
/** A guard against a gross loss on any machine; the bar is 5, and the figure that counts is printed. */
const LEAST_RATIO = 3;

const missing = [SCRIPTS['vif-bridge'].file].filter((file) => !usable(file));
const reason = missing.length > 0 ? ` (skipped: not installed: ${missing.join(', ')})` : '';

describe.skipIf(missing.length > 0)(`script${reason}`, () => {
  let stage: Stage;
  let daemon: AgentProcess;

  beforeAll(async () => {
    for (const target of ['sysfs /sys', 'tmpfs /var/log/xen']) {
      const [type = '', place = ''] = target.split(' ');
      spawnSync('mount', ['-t', type, type, place]);
    }
    await execa('ip', ['link', 'add', 'br0', 'type', 'bridge']);
    await execa('ip', ['link', 'set', 'br0', 'up']);
    stage = await Stage.open();
    process.env.VIFD_RUN_DIR = join(stage.directory, 'run');
    daemon = await AgentProcess.ready(stage.socketOf(1));
  });
  afterAll(async () => {
    await daemon?.kill('SIGTERM');
    await stage?.close();
    await execa('ip', ['link', 'del', 'dev', 'br0']);
  });

  test('vif-vifd and vif-bridge in turns', async () => {
    const ms: Record<ScriptName, number[]> = { 'vif-bridge': [], 'vif-vifd': [] };
    let domid = 100;
    for (let i = 0; i < ROUNDS; i++) for (const name of NAMES) ms[name].push(await round(name, domid++));
    const row = (name: ScriptName) => [
      name,
      median(ms[name]).toFixed(1),
      quantile(ms[name], 0).toFixed(1),
      quantile(ms[name], 1).toFixed(1),
    ];
    const ratio = median(ms['vif-bridge']) / median(ms['vif-vifd']);
    const table = align([['script, ms from state 2 to its exit', 'median', 'least', 'most'], ...NAMES.map(row)]);
    console.log(`\n${table}\nvif-bridge / vif-vifd: ${ratio.toFixed(1)}\n`);
    expect(ratio).toBeGreaterThan(LEAST_RATIO);
  });

  async function round(name: ScriptName, domid: number): Promise<number> {
    const { file, backendDomid } = SCRIPTS[name];
    const group: Group = { domid, backendDomid, count: 1 };
    const vif = `vif${domid}.0`;
    await execa('ip', [
      'link',
      'add',
      vif,
      'address',
      'fe:ff:ff:ff:ff:ff',
      'type',
      'veth',
      'peer',
      'name',
      `g${domid}`,
    ]);
    await stage.create(group);
    await rest();
    const startedAt = performance.now();
    await stage.connect(group);
    const code = await run(file, backendDomid, domid);
    const ms = performance.now() - startedAt;
    expect(code).toBe(0);
    await expectConnected(group, vif);
    await stage.remove(group);
    await execa('ip', ['link', 'del', 'dev', vif]);
    await rest();
    return ms;
  }

  function run(file: string, backendDomid: number, domid: number): Promise<number | null> {
    const env = {
      PATH: process.env.PATH,
      XENSTORED_PATH: stage.socketOf(backendDomid),
      VIFD_RUN_DIR: process.env.VIFD_RUN_DIR,
      VIFD: '/nowhere/vifd',
      script: file,
      XENBUS_TYPE: 'vif',
      XENBUS_PATH: `backend/vif/${domid}/0`,
      XENBUS_BASE_PATH: 'backend',
      netdev: '',
      vif: `vif${domid}.0`,
    };
    const child = spawn(file, ['online', 'type_if=vif'], { env, stdio: ['ignore', 2, 2] });
    return new Promise((ended) => child.once('exit', ended));
  }

  async function expectConnected(group: Group, vif: string): Promise<void> {
    const { stdout: ports } = await execa('ip', ['-o', 'link', 'show', 'master', 'br0', 'up']);
    expect(ports).toContain(`${vif}@`);
    const path = `${backendDir({ ...group, devid: 0 })}/hotplug-status`;
    const { stdout: status } = await execa('xenstore-read', [path], { env: { XENSTORED_PATH: stage.socketOf(0) } });
    expect(status).toBe('connected');
  }
});

const rest = () => new Promise((done) => setTimeout(done, REST_MS));

function usable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
