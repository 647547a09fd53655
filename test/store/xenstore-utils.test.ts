/** Debian's xenstore-* programs (package xenstore-utils), unmodified, against the simulator: a second implementation of the client. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { GUEST, NICDOM, startWorld, until } from './support.js';

const reason =
  spawnSync('xenstore-ls', ['-h']).error === undefined ? undefined : 'skipped: xenstore-utils is not installed';

/** The programs as this domain. Not synchronous: the simulator answers from this process. */
async function startTools(domid = 0) {
  const world = await startWorld();
  const environment = { XENSTORED_PATH: world.socket(domid) };
  const tool = async (name: string, ...args: string[]) => {
    const options = { env: environment, reject: false, stripFinalNewline: false, timeout: 10_000 };
    const { exitCode, stdout, stderr } = await execa(`xenstore-${name}`, args, options);
    return { code: exitCode, out: stdout, err: stderr };
  };
  return { ...world, tool, environment, dom0: await world.connect(0) };
}

describe.skipIf(reason !== undefined)(reason ?? 'xenstore-utils', () => {
  test('write, read, list, exists, rm', async () => {
    const { tool, dom0 } = await startTools();
    expect(await tool('write', '/tool/a/b', 'value', '/tool/a/c', 'two words')).toMatchObject({ code: 0, err: '' });
    expect(await dom0.read('/tool/a/c')).toBe('two words');
    expect((await tool('read', '/tool/a/b')).out).toBe('value\n');
    expect((await tool('read', '-p', '/tool/a/b', '/tool/a/c')).out).toBe('/tool/a/b: value\n/tool/a/c: two words\n');
    expect((await tool('list', '/tool/a')).out).toBe('b\nc\n');
    expect((await tool('exists', '/tool/a/b')).code).toBe(0);
    expect((await tool('rm', '/tool/a/b')).code).toBe(0);
    expect((await tool('exists', '/tool/a/b')).code).toBe(1);
    expect(await tool('read', '/tool/a/b')).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringContaining('read path /tool/a/b'),
    });
  });

  test('rm -t removes the parents that are left empty', async () => {
    const { tool, dom0 } = await startTools();
    await dom0.write('/tool/a/b/c', '1');
    await dom0.write('/tool/d', '1');
    expect((await tool('rm', '-t', '/tool/a/b/c')).code).toBe(0);
    expect(await dom0.directory('/tool')).toEqual(['d']);
  });

  test('ls: the tree, with permissions, flat', async () => {
    const { tool, dom0 } = await startTools();
    await dom0.write('/tool/a', 'value\n\u0001');
    await dom0.write('/tool/a/b', '');
    await dom0.setPerms('/tool/a', ['n0', `r${NICDOM}`]);
    expect((await tool('ls', '/tool')).out).toBe('a = "value\\n\\001"\n b = ""\n');
    expect((await tool('ls', '-f', '/tool')).out).toBe('/tool/a = "value\\n\\001"\n/tool/a/b = ""\n');
    const lines = (await tool('ls', '-p', '/tool')).out.split('\n');
    expect(lines[0]).toMatch(/^a = "value\\n\\001" .*\(n0,r1\)$/);
    expect(lines[1]).toMatch(/^ b = "" .*\(n0\)$/);
  });

  test('ls of a directory whose names exceed one message', async () => {
    const { tool, dom0 } = await startTools();
    const names = Array.from({ length: 300 }, (_, i) => `a-rather-long-name-${i}`);
    for (const name of names) await dom0.write(`/tool/${name}`, '1');
    expect((await tool('list', '/tool')).out.trim().split('\n').sort()).toEqual([...names].sort());
  });

  test('chmod, also recursive', async () => {
    const { tool, dom0 } = await startTools();
    await dom0.write('/tool/a/b', '1');
    expect((await tool('chmod', '/tool/a', 'n0', 'r5', 'b1')).code).toBe(0);
    expect(await dom0.getPerms('/tool/a')).toEqual(['n0', 'r5', 'b1']);
    expect(await dom0.getPerms('/tool/a/b')).toEqual(['n0']);
    expect((await tool('chmod', '-r', '/tool/a', 'r1')).code).toBe(0);
    expect(await dom0.getPerms('/tool/a/b')).toEqual(['r1']);
  });

  test('watch prints the first event and the changes', async () => {
    const { environment, dom0 } = await startTools();
    const child = spawn('xenstore-watch', ['-n', '3', '/tool/a'], { env: { ...process.env, ...environment } });
    onTestFinished(() => void child.kill('SIGKILL'));
    let out = '';
    child.stdout.on('data', (text) => {
      out += text;
    });
    const exit = once(child, 'exit');
    // Written to a pipe, its output comes at its end; that it watches shows in the store.
    await until(async () => {
      await dom0.write('/tool/a/b', '1');
      return child.exitCode !== null;
    });
    expect((await exit)[0]).toBe(0);
    expect(out).toMatch(/^\/tool\/a\n(\/tool\/a\/b\n){2}$/);
  });

  test('as a driver domain: relative paths, and what it may not', async () => {
    const { tool, dom0 } = await startTools(NICDOM);
    expect((await tool('read', 'domid')).out).toBe('1\n');
    expect((await tool('write', 'data/x', '1')).code).toBe(0);
    expect(await dom0.getPerms('/local/domain/1/data/x')).toEqual(['n1']);
    expect((await tool('write', 'vifd', '1')).code).toBe(1);
    expect((await tool('read', '/tool')).code).toBe(1);
    expect((await tool('rm', 'backend/vif/5/0')).code).toBe(1);
    expect((await tool('chmod', 'data/x', `n${GUEST}`)).code).toBe(1);
    expect((await tool('ls')).code).not.toBe(0); // the root is dom0's
  });
});
