/** The configuration of a running agent: SIGHUP makes it read the file again. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { showLink } from '../netns/namespace.js';
import { eventually } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
const txqlen = (domid: number) => showLink(`vif${domid}.0`)?.txqlen;
const hangUp = () => process.kill(world.agent.pid, 'SIGHUP');

let file: string;
beforeEach(() => {
  file = join(mkdtempSync(join(tmpdir(), 'vifd-agent-')), 'vifd.toml');
});
afterEach(() => rmSync(join(file, '..'), { recursive: true }));

async function start(text: string): Promise<void> {
  writeFileSync(file, text);
  await world.start({ agent: false });
  await world.startAgent('-c', file);
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  await world.until(5, 0, 'state', '4');
  await sleep(1_000); // the echoes of the attach are over: nothing but SIGHUP leads to a look
}

test('a good file: connected vifs are brought to it, without being taken down, and new ones get it', async () => {
  await start('[vif]\nqlen = 500');
  expect(txqlen(5)).toBe(500);
  writeFileSync(file, '[vif]\nqlen = 600');
  hangUp();
  await world.agent.saw(
    ({ msg }) => msg === 'configuration read again: vif.qlen 500 -> 600; every vif is brought to it',
  );
  const { did } = await world.agent.saw(({ msg }) => msg.startsWith('repaired vif5.0'), 2_000);
  expect(did).toEqual(['txqlen=600']);
  expect(txqlen(5)).toBe(600);
  expect(await world.node(5, 0, 'hotplug-status')).toBe('connected');
  await world.host.createGuest(6, [{ bridge: 'br0' }]);
  await world.connected(6);
  expect(txqlen(6)).toBe(600);
});

test('a bad file: the log has the fault, and what was in force stays so; a good one later is taken', async () => {
  await start('[vif]\nqlen = 500');
  writeFileSync(file, '[vif]\nqlen = 0\n');
  hangUp();
  const { msg } = await world.agent.saw(({ level }) => level === 'error');
  expect(msg).toMatch(/vifd\.toml:2: vif\.qlen is 0; expected .*; keeping the configuration of 2.*Z$/);
  await world.host.createGuest(6, [{ bridge: 'br0' }]);
  await world.connected(6);
  expect([txqlen(5), txqlen(6)]).toEqual([500, 500]);
  writeFileSync(file, '');
  hangUp();
  await eventually(() => txqlen(5) === 1000 && txqlen(6) === 1000, 2_000);
});
