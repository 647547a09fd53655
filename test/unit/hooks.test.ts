/** The record of what hooks have heard; test/agent/hooks.test.ts has them across the ends of vifd. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Programs } from '../../src/network/hotplug-script.js';
import { type HookEntry, Hooks } from '../../src/vif/hooks.js';

test.skipIf(process.getuid?.() !== 0)('what was cut short stands in the record until it has been told', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'vifd-hooks-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'hooks'));
  writeFileSync(join(dir, 'hooks/10-true'), '#!/bin/sh\n', { mode: 0o755 });
  const facts = {
    vif: 'vif5.0',
    domid: 5,
    devid: 0,
    ifname: 'vif5.0',
    bridge: 'br0',
    mac: '00:16:3e:00:00:01',
    ip: '',
    mode: 'bridge',
  };
  const cut: HookEntry = { ...facts, telling: 'connected' };
  const writes: (readonly HookEntry[])[] = [];
  const record = { read: async () => [cut], write: async (entries: readonly HookEntry[]) => void writes.push(entries) };
  const hooks = new Hooks(new Programs(), pino({ enabled: false }), () => join(dir, 'hooks'), record);
  expect(await hooks.begin()).toBe(true);
  const other = { ...facts, vif: 'vif6.0', domid: 6, mac: '00:16:3e:00:00:02' };
  hooks.connected(other, true);
  await vi.waitFor(() => expect(writes).toHaveLength(2));
  expect(writes.at(-1)).toEqual([cut, other]);
  hooks.connected(facts, false);
  await vi.waitFor(() => expect(writes).toHaveLength(4));
  expect(writes.at(-1)).toEqual([facts, other]);
});
