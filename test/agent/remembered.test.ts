/** What is remembered of a vif, and when it is not: of one whose directory is made anew, and over a lost connection to xenstore. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type Config, DEFAULTS } from '../../src/config/schema.js';
import { Programs } from '../../src/network/hotplug-script.js';
import type { OvsPort, SeenOvsPort } from '../../src/network/ovs-port.js';
import { Hooks } from '../../src/vif/hooks.js';
import { eventually } from './agent-process.js';
import { useMemoryHost } from './memory-host.js';

const memory = useMemoryHost();
const BACKEND = '/local/domain/1/backend/vif/5/0';
const GUEST = { bridge: 'br0', mac: '00:16:3e:00:00:01' };
const SCRIPTED = { ...GUEST, script: '/etc/xen/scripts/vif-mine' };

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-memory-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'hooks'));
  const executable = (name: string, text: string) =>
    writeFileSync(join(dir, name), `#!/bin/sh\n${text} >>${dir}/told\n`, { mode: 0o755 });
  executable('vif-mine', 'echo $1');
  executable('hooks/10-note', 'echo $VIFD_EVENT');
});
/** By scripts and hooks. */
const told = () => (existsSync(join(dir, 'told')) ? readFileSync(join(dir, 'told'), 'utf8').trim().split('\n') : []);
const scripted = (vif: Config['vif'] = {}): Config => ({
  ...DEFAULTS,
  vif,
  scripts: [{ name: 'vif-mine', file: join(dir, 'vif-mine') }],
});

async function isSaid(status: string): Promise<void> {
  await eventually(async () => (await memory.node('hotplug-status')) === status);
}

async function start(config: Config, { hooks = false } = {}): Promise<void> {
  await memory.start();
  await memory.stopReconciler();
  memory.config = config;
  const log = { child: () => log, info: () => undefined, warn: () => undefined };
  if (hooks) memory.hooks = new Hooks(new Programs(), log as never, () => join(dir, 'hooks'));
  await memory.startReconciler();
}

/** By a reload, which has all vifs looked at. */
function reload(config: Config): void {
  memory.config = config;
  memory.reconciler.kickAll();
}

/** dom0 removes the directory and makes it anew, in one commit; netback has taken it. */
async function remake(): Promise<void> {
  const { dom0 } = memory.host;
  await memory.host.netback.stop();
  await dom0.transaction(async (tx) => {
    const names = await tx.directory(BACKEND);
    const nodes = await Promise.all(names.map(async (name) => [name, await tx.read(`${BACKEND}/${name}`)] as const));
    await tx.rm(BACKEND);
    await tx.mkdir(BACKEND);
    await tx.setPerms(BACKEND, ['n1', 'r5']);
    const anew = { state: '2', 'hotplug-status': '' };
    for (const [name, value] of Object.entries({ ...Object.fromEntries(nodes), 'hotplug-error': undefined, ...anew }))
      if (value !== undefined) await tx.write(`${BACKEND}/${name}`, value);
  });
  await memory.kernel.create('vif5.0');
}

test('a directory made anew while the vif is in error, and the event is lost: scripts and hooks hear of both guests', async () => {
  await start(scripted(), { hooks: true });
  await memory.host.createGuest(5, [SCRIPTED]);
  await isSaid('connected');
  reload(scripted({ guard: 'ip' })); // no address that it could be held to: an error of vifd's own
  await isSaid('error');
  memory.deaf = true;
  await remake();
  memory.deaf = false;
  memory.config = scripted();
  await memory.later(60_000);
  await isSaid('connected');
  await eventually(() => told().length >= 6);
  expect(told().filter((word) => word.endsWith('line'))).toEqual(['online', 'offline', 'online']);
  expect(told().filter((word) => !word.endsWith('line'))).toEqual(['connected', 'left', 'connected']);
});

test('a vif that is in error when the connection to xenstore is lost: hooks hear nothing of a guest that stays', async () => {
  await start(DEFAULTS, { hooks: true });
  await memory.host.createGuest(5, [GUEST]);
  await isSaid('connected');
  reload({ ...DEFAULTS, vif: { guard: 'ip' } });
  await isSaid('error');
  await memory.stopReconciler();
  memory.config = DEFAULTS;
  await memory.startReconciler();
  await memory.connected();
  expect(await memory.host.destroyGuest(5)).toMatchObject({ ok: true });
  await eventually(() => told().includes('left'));
  expect(told()).toEqual(['connected', 'left']);
});

test('one that was made anew while there was no connection: they hear of both', async () => {
  await start(DEFAULTS, { hooks: true });
  await memory.host.createGuest(5, [GUEST]);
  await isSaid('connected');
  await memory.stopReconciler();
  await remake();
  await memory.startReconciler();
  await isSaid('connected');
  await eventually(() => told().length === 3);
  expect(told()).toEqual(['connected', 'left', 'connected']);
});

test('a status that is taken away under a running guest: its port of Open vSwitch stays as it is', async () => {
  await memory.start();
  const { kernel, host } = memory;
  const made: [ifname: string, anew: boolean][] = [];
  const ports = new Map<string, SeenOvsPort>();
  Object.assign(kernel.openVSwitch, {
    read: async () => ({ bridges: ['ovs0'], ports }),
    setPort: async (ifname: string, port: OvsPort, anew: boolean) => {
      made.push([ifname, anew]);
      ports.set(ifname, { ...port, vlanMode: '', ofport: 1, ifindex: kernel.find(ifname)?.ifindex } as SeenOvsPort);
    },
  });
  await host.createGuest(5, [{ ...GUEST, bridge: 'ovs0', script: '/etc/xen/scripts/vif-openvswitch' }]);
  await eventually(async () => (await memory.node('state')) === '4');
  await host.dom0.rm(`${BACKEND}/hotplug-status`);
  await isSaid('connected');
  expect(made).toEqual([['vif5.0', false]]);
});

describe('a reload that changes mode script', () => {
  const master = () => memory.kernel.find('vif5.0')?.master;
  const bridged: Config['vif'] = { mode: 'bridge', bridge: 'br0' };
  const warnings = () => memory.log.filter(({ level }) => level === 'warn').map(({ msg }) => msg);

  async function connectedBy(config: Config): Promise<void> {
    await start(config);
    await memory.host.createGuest(5, [SCRIPTED]);
    await isSaid('connected');
  }
  async function plugAgain(): Promise<void> {
    expect(await memory.host.detachVif(5, 0)).toMatchObject({ ok: true });
    expect(await memory.host.attachVif(5, { ...SCRIPTED, devid: 0 })).toMatchObject({ ok: true });
    await isSaid('connected');
  }
  /** Twice, so that it would be said twice. */
  async function change(config: Config): Promise<void> {
    reload(config);
    await memory.later(20_000);
    await memory.later(20_000);
  }

  test('to a bridge: the interface is the script’s until it has been told offline', async () => {
    await connectedBy(scripted());
    await change(scripted(bridged));
    expect([master(), await memory.node('hotplug-status')]).toEqual([0, 'connected']);
    expect(warnings()).toEqual([
      'vif5.0: its mode is script vif-mine until it is plugged again, though the configuration says bridge now',
    ]);
    await plugAgain();
    expect(told()).toEqual(['online', 'offline']);
    expect(master()).toBe(memory.kernel.find('br0')?.ifindex);
  });

  test('from a bridge: the script is run when the vif is plugged again, and offline for none that it did not bring online', async () => {
    await connectedBy(scripted(bridged));
    await change(scripted());
    expect(master()).toBe(memory.kernel.find('br0')?.ifindex);
    expect(warnings()).toEqual([
      'vif5.0: its mode is bridge until it is plugged again, though the configuration says script vif-mine now',
    ]);
    await plugAgain();
    expect(told()).toEqual(['online']);
  });

  test('and back again before it is plugged again: as if nothing had been', async () => {
    await connectedBy(scripted());
    await change(scripted(bridged));
    await change(scripted({ qlen: 77 }));
    expect(memory.kernel.find('vif5.0')?.txqlen).toBe(77);
    await plugAgain();
    expect(told()).toEqual(['online', 'offline', 'online']);
  });
});
