/** `vifd dom0 wait` beside the real agent: the node that says it serves, and its own sentence about a vif. */
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { useRunDirectory, useWorld } from './world.js';

useRunDirectory();
const world = useWorld();

async function wait(...words: string[]) {
  const args = ['dist/main.js', 'dom0', 'wait', ...words, '--xenstore', world.host.socketOf(0)];
  const { exitCode, stdout, stderr } = await execa(process.execPath, args, { reject: false });
  return { exitCode, stdout, stderr };
}

test('the driver domain serves once vifd has begun there, and not before', async () => {
  await world.start({ agent: false });
  expect((await wait('nicdom', '--until', 'serving', '--timeout', '0')).exitCode).toBe(1);
  const waiting = wait('nicdom', '--until', 'serving', '--timeout', '20');
  await world.startAgent();
  expect(await waiting).toEqual({ exitCode: 0, stdout: 'vifd serves in nicdom (domid 1)', stderr: '' });
});

test('a guest that is connected; the sentence of one that is not', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  expect(await wait('guest5')).toEqual({ exitCode: 0, stdout: 'guest5 (domid 5), vif 0: connected', stderr: '' });
  await world.host.createGuest(6, [{ bridge: 'br0' }, { bridge: 'brnone' }]);
  const { exitCode, stderr } = await wait('guest6');
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/^vifd: guest6 \(domid 6\), vif 1: bridge "brnone" does not exist$/m);
  expect(stderr).not.toContain('vif 0');
});
