/** `vifd status`, `vifd explain` and `vifd doctor` as an admin runs them, beside the real agent and without it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import type { DoctorReport } from '../../src/doctor/finding.js';
import { NICDOM } from '../../src/simulator/host.js';
import type { StatusReport } from '../../src/vif/report.js';
import { ip } from '../netns/namespace.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();

const vifd = (...args: string[]) =>
  execa(process.execPath, ['dist/main.js', ...args, '--xenstore', world.host.socketOf(NICDOM)], { reject: false });

async function statusReport(): Promise<StatusReport> {
  return JSON.parse((await vifd('status', '--json')).stdout) as StatusReport;
}

/** Guest 5 with a vif that carries packets. */
async function healthyGuest(): Promise<void> {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', mac: '00:16:3e:01:02:03' }]);
  await world.until(5, 0, 'state', '4');
  // The bridge takes its time to learn.
  await eventually(async () => (await statusReport()).vifs[0]?.health === 'connected', 40_000);
}

test('all in order: 0 everywhere', async () => {
  ip('link', 'set', 'br0', 'type', 'bridge', 'forward_delay', '0');
  await healthyGuest();
  const { stdout, exitCode } = await vifd('status');
  expect(exitCode).toBe(0);
  expect(stdout.split('\n')).toEqual([
    `an agent seems to run: vifd run (pid ${world.agent.pid})`,
    'VIF  INTERFACE  MODE    BRIDGE  BACKEND    GUEST      HOTPLUG    HEALTH',
    '5/0  vif5.0     bridge  br0     Connected  Connected  connected  connected',
    expect.stringMatching(/^ {2}00:16:3e:01:02:03 mtu 1500 {2}guest sent \d+ \(0 dropped\), got \d+ \(0 dropped\)$/),
  ]);
  expect(await statusReport()).toMatchObject({
    version: 1,
    healthy: true,
    vifs: [{ domid: 5, devid: 0, problem: null }],
  });

  for (const name of ['vif5.0', '5/0', 'backend/vif/5/0', '/local/domain/5/device/vif/0']) {
    const explained = await vifd('explain', name);
    expect(explained.stdout).toMatch(/^vif 5\/0; an agent seems to run[\s\S]*\nresult: it works$/);
    expect(explained.exitCode).toBe(0);
  }
  expect(JSON.parse((await vifd('explain', '5/0', '--json')).stdout)).toMatchObject({ version: 1, domid: 5, devid: 0 });
  const doctor = await vifd('doctor', '--json');
  const { version, findings } = JSON.parse(doctor.stdout) as DoctorReport;
  expect(version).toBe(1);
  expect(findings.filter(({ severity }) => severity === 'error')).toEqual([]);
  expect(findings).toContainEqual(expect.objectContaining({ code: 'agent', severity: 'ok' }));
  expect(findings).toContainEqual(expect.objectContaining({ code: 'uplink', severity: 'warning' }));
  expect(doctor.exitCode).toBe(0);
});

test('packets are counted as the guest sees them', async () => {
  ip('link', 'set', 'br0', 'type', 'bridge', 'forward_delay', '0');
  await healthyGuest();
  ip('addr', 'add', '10.9.0.1/24', 'dev', 'br0');
  await execa('ping', ['-b', '-c', '50', '-i', '0.01', '-W', '1', '10.9.0.255'], { reject: false });
  const [vif] = (await statusReport()).vifs;
  expect(vif?.received?.packets).toBeGreaterThanOrEqual(50); // broadcasts of this domain, which nobody answers
  expect(vif?.sent?.packets).toBeLessThan(50);
});

test("what is asked for is what the agent's configuration says, unless another is named", async () => {
  ip('link', 'set', 'br0', 'type', 'bridge', 'forward_delay', '0');
  const directory = await mkdtemp(join(tmpdir(), 'vifd-test-'));
  const [own, other] = [join(directory, 'own.toml'), join(directory, 'other.toml')];
  await writeFile(own, '[vif]\nqlen = 77\n');
  await writeFile(other, '[vif]\nqlen = 78\n');
  await world.start({ agent: false });
  await world.startAgent('-c', own);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '4');
  await eventually(async () => (await statusReport()).vifs[0]?.health === 'connected');
  const status = await vifd('status', '-c', other);
  expect(status.stdout).toContain('not in force on vif5.0: txqlen=78');
  expect(status.exitCode).toBe(1);
  await rm(directory, { recursive: true });
});

test('a vif whose nodes dom0 hides is shown with its reason, and the others beside it', async () => {
  await healthyGuest();
  await world.host.createGuest(6, [{ bridge: 'br0', mac: '00:16:3e:01:02:04' }]);
  await world.until(6, 0, 'state', '4');
  await world.host.dom0.setPerms(`/local/domain/${NICDOM}/backend/vif/5/0`, ['n0']);
  const { vifs } = await statusReport();
  expect(vifs).toMatchObject([
    { domid: 5, health: 'failed', problem: expect.stringMatching(/backend\/vif\/5\/0": EACCES \(dom0 keeps it from/) },
    { domid: 6, health: 'connected' },
  ]);
  const explained = await vifd('explain', '5/0');
  expect(explained.stdout).toMatch(/EACCES \(dom0 keeps it/);
  expect(explained.exitCode).toBe(1);

  await world.host.dom0.setPerms(`/local/domain/${NICDOM}/backend/vif/5`, ['n0']);
  const { stdout, exitCode } = await vifd('status');
  expect(stdout).toMatch(/^6\/0 /m);
  expect(stdout.replaceAll(/\s+/g, ' ')).toContain(
    'the vifs in "backend/vif/5" cannot be seen and are left as they are: dom0 keeps it from this domain: see xenstore-ls -p',
  );
  expect(exitCode).toBe(1);
});

test('a configuration that was spoiled under the running agent is told, and keeps nobody from the diagnosis', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'vifd-test-'));
  const file = join(directory, 'vifd.toml');
  await writeFile(file, '[vif]\nqlen = 1000\n');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '4');
  await writeFile(file, '[vif]\nqlen = "x"\n');
  const status = await vifd('status');
  expect(status.stdout).toContain('5/0  vif5.0');
  expect(status.stderr).toContain(`vifd: judged by the defaults, for ${file}:2: vif.qlen is "x"`);
  const doctor = await vifd('doctor', '--json');
  expect((JSON.parse(doctor.stdout) as DoctorReport).findings).toContainEqual(
    expect.objectContaining({ code: 'configuration', severity: 'error' }),
  );
  expect((await vifd('status', '-c', file)).exitCode).toBe(4); // named, it is what was asked for
  await rm(directory, { recursive: true });
});

test('a bridge that is missing: 1, and the remedy', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br_lan' }]);
  await world.until(5, 0, 'hotplug-status', 'error');
  const status = await vifd('status');
  expect(status.exitCode).toBe(1);
  expect(status.stdout).toContain('\n  problem: bridge "br_lan" does not exist\n  remedy:  bridges here: br0');
  const explained = await vifd('explain', '5/0');
  expect(explained.exitCode).toBe(1);
  expect(explained.stdout).toContain('wrong  bridge      bridge "br_lan" does not exist\n');
  expect(explained.stdout).toContain('-> bridges here: br0');
  const doctor = await vifd('doctor');
  expect(doctor.exitCode).toBe(1);
  expect(doctor.stdout).toContain('vif 5/0: bridge "br_lan" does not exist');
});

test('without an agent: says so, changes nothing, and what the agent left is still in order', async () => {
  ip('link', 'set', 'br0', 'type', 'bridge', 'forward_delay', '0');
  await healthyGuest();
  await world.agent.kill('SIGKILL');
  const status = await vifd('status');
  expect(status.stdout).toMatch(/^no agent seems to run here: new vifs will not be attached\n/);
  expect(status.exitCode).toBe(0);

  ip('link', 'set', 'vif5.0', 'nomaster');
  const explained = await vifd('explain', 'vif5.0');
  expect(explained.exitCode).toBe(1);
  expect(explained.stdout).toMatch(/wrong {2}attachment {2}not in force on vif5\.0: port of br0\n.*vifd run/);
  expect(ip('-j', 'link', 'show', 'vif5.0')).not.toContain('"master"');
  expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
});

test('a vif that is not there, and a name that is none', async () => {
  await world.start();
  const missing = await vifd('explain', '9/0');
  expect(missing.exitCode).toBe(1);
  expect(missing.stdout).toContain('there is no backend/vif/9/0 in xenstore');
  const nonsense = await vifd('explain', 'eth7');
  expect(nonsense.exitCode).toBe(1);
  expect(nonsense.stderr).toBe(
    'vifd: "eth7" names no vif; write vif5.0, 5/0, its path or its interface; there is no vif here',
  );
});

test.each(['40000/0', 'eth 0', 'a-name-of-16-chars', '/local/domain/1/backend/vbd/5/0'])(
  'a name that can be none is wrong usage, before anything is looked at: %s',
  async (name) => {
    await world.start();
    const { exitCode, stderr } = await execa(
      process.execPath,
      ['dist/main.js', 'explain', name, '--xenstore', '/nowhere'],
      { reject: false },
    );
    expect([exitCode, stderr]).toEqual([
      2,
      `vifd: "${name}" cannot name a vif; write vif5.0, 5/0, its path or its interface`,
    ]);
  },
);

test('sentences are broken at the width of a terminal, and not in a pipe', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'not the name of a bridge' }]);
  await world.until(5, 0, 'hotplug-status', 'error');
  const { stdout: status } = await vifd('status');
  expect(status).toMatch(/^ {2}problem: node "bridge" is "not the name of a bridge"; expected .{40,}$/m);
  expect(status.split('\n').filter((line) => /^ {4}/.test(line))).toEqual([]);
  const words = ['dist/main.js', 'doctor', '--xenstore', world.host.socketOf(NICDOM)];
  const { stdout: piped } = await execa(process.execPath, words, { reject: false });
  expect(piped.split('\n').filter((line) => !/^(ok|warning|error) |^ {25}-> |^result: /.test(line))).toEqual([]);
  expect(Math.max(...piped.split('\n').map((line) => line.length))).toBeGreaterThan(100);
  const command = `stty cols 100 && ${process.execPath} ${words.join(' ')}`;
  const { stdout: shown } = await execa('script', ['-qc', command, '/dev/null'], { reject: false });
  const widths = shown.split(/\r?\n/).map((line) => line.length);
  expect(Math.max(...widths)).toBeGreaterThan(80);
  expect(Math.max(...widths)).toBeLessThanOrEqual(100);
});

test('a name that is none, with the vifs that there are', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0' }, { bridge: 'br0' }]);
  await world.connected(5, 1);
  expect((await vifd('explain', 'eth7')).stderr).toBe(
    'vifd: "eth7" names no vif; write vif5.0, 5/0, its path or its interface; vifs here: 5/0, 5/1',
  );
});

test('vif-script with a path that is none', async () => {
  await world.start();
  const { exitCode, stderr } = await vifd('vif-script', 'online', 'backend/vif/x');
  expect([exitCode, stderr]).toEqual([2, 'vifd: the path is "backend/vif/x"; expected backend/vif/DOMID/DEVID']);
});

test('the demo says what it lacks, and when its agent ends', async () => {
  await world.start();
  const demo = (env: Record<string, string>) =>
    execa(process.execPath, ['dist/main.js', 'demo'], { reject: false, env });
  expect(await demo({ PATH: '/nowhere' })).toMatchObject({
    exitCode: 1,
    stderr:
      'vifd: the demo needs a network namespace, the programs unshare and ip (util-linux, iproute2), and bridges in the kernel: spawnSync unshare ENOENT',
  });
  const directory = await mkdtemp(join(tmpdir(), 'vifd-demo-'));
  const preload = join(directory, 'end.cjs');
  await writeFile(preload, 'if (process.argv[2] === "run") process.exit(7);');
  expect(await demo({ NODE_OPTIONS: `--require ${preload}` })).toMatchObject({
    exitCode: 1,
    stderr: 'vifd: vifd run ended before it was ready (exit code 7)',
  });
  await rm(directory, { recursive: true });
});

test('a custom name is found', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0', vifname: 'lan0' }]);
  await world.connected(5);
  expect((await vifd('explain', 'lan0')).stdout).toMatch(/^vif 5\/0;/);
  expect((await statusReport()).vifs[0]).toMatchObject({ ifname: 'lan0', health: expect.not.stringMatching('failed') });
});

test('--watch shows it again and again, and ends with SIGTERM and the last verdict', { timeout: 20_000 }, async () => {
  await world.start();
  const watching = vifd('status', '--watch', '--json');
  const lines: string[] = [];
  watching.stdout.on('data', (bytes) => lines.push(...String(bytes).trim().split('\n')));
  await eventually(() => lines.length === 1);
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ vifs: [], healthy: true });
  await world.host.createGuest(5, [{ bridge: 'br_lan' }]);
  await world.until(5, 0, 'hotplug-status', 'error');
  await eventually(() => lines.some((line) => line.includes('br_lan')));
  watching.kill('SIGTERM');
  expect((await watching).exitCode).toBe(1);
});

test('the doctor counts the nodes that this domain owns', async () => {
  await world.start();
  const nodes = async () => {
    const { findings } = JSON.parse((await vifd('doctor', '--json')).stdout) as DoctorReport;
    return Number(/owns (\d+) /.exec(findings.find(({ code }) => code === 'node-quota')?.message ?? '')?.[1]);
  };
  const before = await nodes();
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.connected(5);
  expect((await nodes()) - before).toBeOneOf([23, 24]);
});

test('without a xenstore the doctor examines what there is', async () => {
  await world.start();
  const { stdout, exitCode } = await execa(process.execPath, ['dist/main.js', 'doctor', '--xenstore', '/nowhere'], {
    reject: false,
  });
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/^error {4}xenstore {8}xenstore: not available: \/nowhere does not exist/m);
  expect(stdout).toMatch(/^ok {7}ethtool/m);
});
