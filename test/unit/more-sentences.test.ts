/** The sentences of the commands, the record, the status socket and nftables, word for word; see error-catalogue.test.ts. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Children } from '../../src/child.js';
import { readRecord } from '../../src/monitor/record-file.js';
import { Recorder } from '../../src/monitor/recorder.js';
import { Generation } from '../../src/network/generation.js';
import { TABLES } from '../../src/network/guard-table.js';
import { Nft } from '../../src/network/nft.js';
import { Nftables } from '../../src/network/nftables.js';
import { program } from '../../src/program.js';
import { StatusSocket } from '../../src/service/status-socket.js';
import { askAgent } from '../../src/service/status-socket-client.js';
import type { Ifname } from '../../src/vif/backend.js';
import { explain } from '../../src/vif/explanation.js';
import { findPlace } from '../../src/vif/observe.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { parseVlans } from '../../src/vif/vlan.js';
import { aLink, backend, seen } from './vif-seen.js';

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'vifd-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return dir;
}
const sentence = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error: Error) => error.message,
  );
const all = async (lines: AsyncIterable<unknown>) => {
  for await (const _ of lines);
};

describe('wrong usage', () => {
  const usage = (...words: string[]) => {
    const vifd = program('1');
    for (const command of [vifd, ...vifd.commands])
      command.exitOverride().configureOutput({ writeErr: () => undefined });
    return sentence(vifd.parseAsync(['node', 'vifd', ...words]));
  };
  test('of the monitor', async () => {
    expect(await usage('monitor', '--only', 'kernel')).toContain(
      'expected some of store, uevent, link, vifd, with commas between.',
    );
    expect(await usage('monitor', '--record', 'x', '--record-max', '0')).toContain(
      'expected a whole number of MiB from 1 to 999999.',
    );
  });
});

describe('records', () => {
  test('a file that is none', async () => {
    const file = join(scratch(), 'record');
    writeFileSync(file, 'hello\n');
    expect(await sentence(all(readRecord(file, () => undefined)))).toBe(
      `${file} is no record of vifd monitor: its first line is not the header of one (make it with: vifd monitor --record FILE)`,
    );
  });

  test('one that cannot be made', () => {
    const dir = scratch();
    const file = join(dir, 'record');
    writeFileSync(file, '');
    expect(() => Recorder.create(file, '1', 1, () => undefined)).toThrow(
      `the record ${file} is there already and is not overwritten; name another file, or remove it`,
    );
    expect(() => Recorder.create(join(dir, 'no/record'), '1', 1, () => undefined)).toThrow(
      `the record ${dir}/no/record cannot be made (ENOENT); name a file in a directory that you may write to`,
    );
  });
});

describe('the status socket', () => {
  test('nobody to ask', async () => {
    const dir = scratch();
    expect(await sentence(all(askAgent('metrics', { dir })))).toBe(
      `no vifd answers on ${dir}/status (ENOENT); start vifd run, or name its VIFD_RUN_DIR`,
    );
    vi.stubEnv('VIFD_RUN_DIR', '');
    onTestFinished(() => void vi.unstubAllEnvs());
    expect(await sentence(all(askAgent('metrics')))).toBe('VIFD_RUN_DIR is empty, so no vifd can be asked');
  });

  test('one that closes at once, and one that says nothing', async () => {
    const dir = scratch();
    let answer: 'close' | 'nothing' = 'close';
    const server = createServer((client) => void (answer === 'close' ? client.destroy() : client.resume()));
    server.listen(join(dir, 'status'));
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    expect(await sentence(all(askAgent('metrics', { dir })))).toBe(
      `${dir}/status: vifd has closed the connection; it has too many clients, or has just ended: try again`,
    );
    answer = 'nothing';
    expect(await sentence(all(askAgent('metrics', { dir })))).toBe(
      `${dir}/status: vifd does not answer; is it stopped?`,
    );
  }, 10_000);

  test('a directory whose name is too long', async () => {
    const dir = join(scratch(), 'x'.repeat(120));
    const lines: string[] = [];
    const log = pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
    await StatusSocket.open({ dir, log, metrics: () => '', config: () => [], follow: () => () => undefined });
    expect(lines.join()).toContain(`${dir}/status is too long for a socket; name a shorter directory in VIFD_RUN_DIR`);
  });
});

describe('nftables', () => {
  /** An nft of one's own. */
  function fakeNft(script: string): void {
    const dir = scratch();
    writeFileSync(join(dir, 'nft'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    vi.stubEnv('PATH', `${dir}:/usr/bin:/bin`);
    onTestFinished(() => void vi.unstubAllEnvs());
  }
  const guard = () =>
    new Nftables(TABLES.bridge, new Nft(), new Generation()).set('vif5.0', { chain: 'guard_1', rules: ['drop'] });

  test('is not there', async () => {
    vi.stubEnv('PATH', scratch());
    onTestFinished(() => void vi.unstubAllEnvs());
    await expect(guard()).rejects.toMatchObject({
      message: 'the vif cannot be guarded: nft cannot be run (ENOENT)',
      hint: 'install nftables, or set guard = "off"',
    });
  });

  test('is not there for NAT, which is nothing without it', async () => {
    vi.stubEnv('PATH', scratch());
    onTestFinished(() => void vi.unstubAllEnvs());
    await expect(
      new Nftables(TABLES.nat, new Nft(), new Generation()).set('vif5.0', { chain: 'masquerade_1', rules: [] }),
    ).rejects.toMatchObject({
      message: 'the vif cannot be masqueraded: nft cannot be run (ENOENT)',
      hint: 'install nftables, or route: mode = "routed"',
    });
  });

  test('refuses', async () => {
    fakeNft('cat >/dev/null; echo "Error: no" >&2; exit 1');
    await expect(guard()).rejects.toMatchObject({
      message: 'the vif cannot be guarded: nft refused the rules',
      hint: '"Error: no"',
    });
  });

  test('hangs', async () => {
    fakeNft('[ "$1" = -j ] && exit 1; exec sleep 30');
    await expect(guard()).rejects.toMatchObject({
      message: 'the vif cannot be guarded: nft has not done it',
      hint: 'it did not end within 5 s; see what it waits for: time nft list ruleset',
    });
  }, 20_000);

  test('is killed by another', async () => {
    fakeNft('[ "$1" = -j ] && exit 1; kill -KILL $$');
    await expect(guard()).rejects.toMatchObject({
      message: 'the vif cannot be guarded: nft has not done it',
      hint: 'it was ended by SIGKILL',
    });
  });

  test('is ended at once, and not begun anew, when nobody waits for its vifs any more', async () => {
    fakeNft('exec sleep 30');
    const children = new Children();
    const guards = new Nftables(TABLES.bridge, new Nft(children), new Generation());
    const set = guards.set('vif5.0', { chain: 'guard_1', rules: ['drop'] }).catch(({ code }) => code);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const begin = performance.now();
    children.pause();
    expect(await set).toBe('ECANCELED'); // and no reason to do without
    expect(performance.now() - begin).toBeLessThan(500);
    fakeNft('exit 0');
    children.resume();
    await guards.set('vif5.0', undefined);
  });
});

test('a bridge that filters no VLANs', async () => {
  const kernel = { getLink: async () => aLink('br0', { kind: 'bridge' }) } as never;
  const want = { mode: 'bridge', bridge: 'br0' as Ifname, vlans: parseVlans('10p/20') } as never;
  await expect(findPlace(want, kernel)).rejects.toMatchObject({
    message: 'bridge "br0" does not filter VLANs, so vlan 10p/20 cannot be kept apart',
    hint: 'ip link set br0 type bridge vlan_filtering 1; its ports are in VLAN 1 then: give the card in it what the guests need, such as bridge vlan add dev eth0 vid 10',
  });
});

describe('guards that cannot be', () => {
  const resolve = (nodes: Record<string, string>, guard: 'ip' | 'mac') =>
    resolveAttachment(backend(nodes), { vif: { guard }, rules: [] });
  test.each<[Record<string, string>, 'ip' | 'mac', string]>([
    [{}, 'ip', 'node "ip" is missing; expected the addresses to which guard = "ip" holds the guest'],
    [
      { vifname: 'a*' },
      'mac',
      'node "vifname" is "a*"; expected letters, digits, ".", "_" and "-", since the vif is guarded',
    ],
    [{ mac: '' }, 'mac', 'node "mac" is missing; expected a MAC address, since the vif is guarded'],
  ])('%j', (nodes, guard, message) => expect(() => resolve(nodes, guard)).toThrow(message));
});

test('a vif of which nobody said anything', () => {
  const described = backend({ bridge: '' });
  const want = resolveAttachment(described, { vif: {}, rules: [] });
  expect(explain(seen({ backend: described, want }))).toContainEqual(
    expect.objectContaining({ station: 'settings', says: 'all settings have their defaults' }),
  );
});
