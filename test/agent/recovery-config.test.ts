/** Files that were spoiled after vifd has read them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { showLink } from '../netns/namespace.js';
import { measured } from '../support/measured.js';
import { scratch } from './recovery.js';
import { useRunDirectory, useWorld } from './world.js';

const world = useWorld();
useRunDirectory();

test('vifs are judged by what vifd runs with, which it says', async () => {
  const file = join(scratch(), 'vifd.toml');
  writeFileSync(file, 'vif.qlen = 77\n[rule.a]\nmatch.devid = 1\nguard = "off"\n');
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '4');
  const vifd = (command: string) =>
    execa(process.execPath, ['dist/main.js', command, '--xenstore', world.host.socketOf(NICDOM)], { reject: false });
  writeFileSync(file, 'vif.qlen = "x"\n');
  process.kill(world.agent.pid, 'SIGHUP');
  await measured('a spoiled configuration, SIGHUP: told in the log', 1_000, () =>
    world.agent.saw(({ level, msg }) => level === 'error' && /vif\.qlen is "x".*keeping the config/.test(msg)),
  );
  await world.host.createGuest(6, [{ bridge: 'br0' }]);
  await world.until(6, 0, 'state', '4');
  expect([showLink('vif5.0')?.txqlen, showLink('vif6.0')?.txqlen]).toEqual([77, 77]);
  expect((await vifd('doctor')).stdout).toMatch(/^error +configuration .*vif\.qlen is \\?"x/m);
  const beside = await vifd('status');
  expect(beside.stderr).toContain(
    `vifd: judged by the configuration that vifd runs with, for ${file}:1: vif.qlen is "x"`,
  );
  expect(beside.stdout).not.toContain('not in force');
  expect(beside.exitCode).toBe(0);
});
