/** Which of other programs' files the doctor reads: those that are in force. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readConfigurationFiles } from '../../src/doctor/configuration-files.js';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vifd-test-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function write(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

test('nothing there is nothing read', async () => {
  expect(await readConfigurationFiles(root)).toEqual({
    udevRules: [],
    interfaces: [],
    networkManager: [],
    networkd: [],
  });
});

test('/etc comes before /run and /usr, /dev/null hides, and names give the order', async () => {
  write('/usr/lib/systemd/network/10-a.network', 'usr');
  write('/etc/systemd/network/20-b.network', 'etc');
  write('/run/systemd/network/20-b.network', 'run');
  write('/etc/systemd/network/README', 'no');
  write('/lib/udev/rules.d/xen-backend.rules', 'hidden');
  mkdirSync(join(root, '/etc/udev/rules.d'), { recursive: true });
  symlinkSync('/dev/null', join(root, '/etc/udev/rules.d/xen-backend.rules'));
  const { networkd, udevRules } = await readConfigurationFiles(root);
  expect(networkd).toEqual([
    { path: `${root}/usr/lib/systemd/network/10-a.network`, text: 'usr' },
    { path: `${root}/etc/systemd/network/20-b.network`, text: 'etc' },
  ]);
  expect(udevRules.map(({ text }) => text)).toEqual(['']);
});

test('the main file and those beside it', async () => {
  write('/etc/network/interfaces', 'main');
  write('/etc/network/interfaces.d/vifs', 'more');
  write('/etc/NetworkManager/NetworkManager.conf', 'main');
  write('/usr/lib/NetworkManager/conf.d/10-vif.conf', 'more');
  const { interfaces, networkManager } = await readConfigurationFiles(root);
  expect(interfaces.map(({ text }) => text)).toEqual(['main', 'more']);
  expect(networkManager.map(({ text }) => text)).toEqual(['main', 'more']);
});
