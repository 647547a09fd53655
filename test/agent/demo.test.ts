/** `vifd demo --keep`, which is there to be looked at. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { eventually } from './agent-process.js';

test('a demo that is kept: the vifs that are asked for, with a configuration of one’s own, until a signal', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'vifd-demo-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const config = join(directory, 'vifd.toml');
  await writeFile(config, '[vif]\nqlen = 77\n');
  const words = ['dist/main.js', 'demo', '-c', config];
  const vifs = ['--vif', 'bridge=br_lan,mac=00:16:3e:00:00:05', 'bridge=br_lan,mtu=1400,backend=nicdom'];
  const demo = execa(process.execPath, [...words, ...vifs], { reject: false, buffer: false });
  let out = '';
  demo.stdout?.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  await eventually(
    () => out.includes("The guest's side"),
    10_000,
    () => out,
  );
  const [, shell = ''] = /^ {2}(nsenter .*) sh$/m.exec(out) ?? [];
  const [, vifd = ''] = /^ {2}(.*) status /m.exec(out) ?? [];
  const ask = async (command: string) => (await execa('sh', ['-c', `${shell} ${command}`])).stdout;
  const status = async () => JSON.parse(await ask(`${vifd} status --json`)).vifs;
  await eventually(async () => (await status()).every(({ health }: { health: string }) => health === 'connected'));
  expect((await status()).map(({ mtu }: { mtu: number }) => mtu)).toEqual([1500, 1400]);
  expect(JSON.parse(await ask('ip -j link show vif5.1'))[0]).toMatchObject({ txqlen: 77, master: 'br_lan' });
  expect(await ask(`${vifd} status --prometheus`)).toContain('vifd_up 1\n');
  demo.kill('SIGTERM');
  expect((await demo).exitCode).toBe(0);
});

test('a vif line that is none is refused before anything is made', async () => {
  const { exitCode, stderr } = await execa(process.execPath, ['dist/main.js', 'demo', '--vif', 'brigde=br0'], {
    reject: false,
  });
  expect([exitCode, stderr.trim()]).toEqual([
    2,
    'vifd: --vif: "brigde" is not among mac, bridge, script, vifname, ip, gatewaydev, rate, vlan, mtu, type, backend; such as bridge=br_lan,ip=10.0.0.5',
  ]);
});
