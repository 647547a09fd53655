/** `vifd config` and the refusal of `vifd run`, as an admin meets them: the program itself, bundled for this test. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sampleText } from '../../src/config/text.js';

let dir: string;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-config-'));
  symlinkSync(resolve('node_modules'), join(dir, 'node_modules'));
  writeFileSync(join(dir, 'package.json'), '{"type":"module","version":"0"}');
  await build({
    entryPoints: ['src/main.ts'],
    outdir: join(dir, 'dist'),
    bundle: true,
    splitting: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
  });
  writeFileSync(join(dir, 'good.toml'), '[vif]\n\nqlen = 500\n');
  writeFileSync(join(dir, 'bad.toml'), 'vif.qlen = 0\nvif.qleen = 1\n');
});
afterAll(() => rmSync(dir, { recursive: true }));

function vifd(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/main.js', ...args], {
    cwd: dir,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

describe('check', () => {
  test('a good file', () =>
    expect(vifd('config', 'check', 'good.toml')).toEqual({ status: 0, stdout: 'valid: good.toml\n', stderr: '' }));

  test('a bad one: every fault, and exit code 4', () => {
    const { status, stdout, stderr } = vifd('config', 'check', 'bad.toml');
    expect([status, stdout]).toEqual([4, '']);
    expect(stderr).toMatch(
      /^vifd: bad\.toml:1: vif\.qlen is 0; expected .*\nbad\.toml:2: vif\.qleen is 1; .* nearest is vif\.qlen.*\n$/,
    );
  });

  test('a draft that others could change, and the same as vifd run would take it', () => {
    writeFileSync(join(dir, 'draft.toml'), '');
    chmodSync(join(dir, 'draft.toml'), 0o666);
    expect(vifd('config', 'check', 'draft.toml').status).toBe(0);
    const { status, stderr } = vifd('config', 'check', '--strict', 'draft.toml');
    expect([status, stderr]).toEqual([4, expect.stringMatching(/^vifd: draft\.toml: cannot be trusted: .* everybody/)]);
    expect(vifd('config', 'check', '--strict', 'good.toml').status).toBe(0);
  });

  test('an empty name is wrong usage', () => {
    const { status, stderr } = vifd('config', 'check', '');
    expect([status, stderr.split('\n')[0]]).toEqual([
      2,
      "error: command-argument value '' is invalid for argument 'file'. it must not be empty.",
    ]);
  });

  test('none that is there', () => {
    const { status, stderr } = vifd('config', 'check', 'none.toml');
    expect([status, stderr]).toEqual([4, 'vifd: none.toml: does not exist; expected a readable TOML file\n']);
  });
});

describe('show', () => {
  test('--defaults is the sample file', () =>
    expect(vifd('config', 'show', '--defaults')).toEqual({ status: 0, stdout: sampleText(), stderr: '' }));

  test('values and where they come from', () =>
    expect(vifd('config', 'show', '-c', 'good.toml').stdout).toMatch(
      /\n# mtu is not set\nqlen = 500 {2}# packets; good\.toml:3\ntx_checksum = "off" {2}# default\n/,
    ));

  test('--json', () => {
    const { version, files, settings } = JSON.parse(vifd('config', 'show', '--json', '-c', 'good.toml').stdout);
    expect(version).toBe(1);
    expect(files).toEqual(['good.toml']);
    const keys = ['vif.mtu', 'vif.qlen', 'vif.tx_checksum'];
    expect(settings.filter(({ key }: { key: string }) => keys.includes(key))).toEqual([
      { key: 'vif.mtu', value: null, default: null, unit: 'bytes', from: null },
      { key: 'vif.qlen', value: 500, default: 1000, unit: 'packets', from: { file: 'good.toml', line: 3 } },
      { key: 'vif.tx_checksum', value: 'off', default: 'off', unit: null, from: null },
    ]);
  });

  test('a bad file is not shown', () =>
    expect(vifd('config', 'show', '-c', 'bad.toml')).toMatchObject({ status: 4, stdout: '' }));

  test.each([[['config']], [['config', 'show', '--defaults', '-c', 'good.toml']], [['config', 'check', '']]])(
    'wrong usage: %j',
    (args) => expect(vifd(...args)).toMatchObject({ status: 2, stdout: '' }),
  );
});

test('the agent refuses to start on a bad file, before it looks for xenstore', () => {
  const { status, stderr } = vifd('run', '-c', 'bad.toml', '--xenstore', '/nonexistent');
  expect([status, stderr]).toEqual([4, expect.stringContaining('bad.toml:1: vif.qlen is 0')]);
});
