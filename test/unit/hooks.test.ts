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

test('a hook directory that cannot be read: a sentence, and nothing counts as told', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'vifd-hooks-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'hooks');
  writeFileSync(file, '');
  const said: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void said.push(JSON.parse(line).msg) });
  const writes: unknown[] = [];
  const record = { read: async () => [], write: async (entries: readonly HookEntry[]) => void writes.push(entries) };
  const hooks = new Hooks(new Programs(), log, () => file, record);
  await hooks.begin();
  const mac = '00:16:3e:00:00:01';
  const facts = { vif: 'vif5.0', domid: 5, devid: 0, ifname: 'vif5.0', bridge: 'br0', mac, ip: '', mode: 'bridge' };
  hooks.connected(facts, true);
  const sentence = `hooks are not run: ${file} cannot be read (ENOTDIR); it must be a directory that vifd may read`;
  await vi.waitFor(() => expect(said).toEqual([sentence]));
  expect(writes).toEqual([]);
});
