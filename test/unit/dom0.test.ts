/** What dom0's commands decide and print. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { judgeVif, type VifSight } from '../../src/dom0/connection.js';
import { type LostVif, planRecovery, shellLine } from '../../src/dom0/recovery.js';
import { driverDomainUnits } from '../../src/dom0/units.js';
import { parseXlList, vifLine } from '../../src/dom0/vif-line.js';

const SIGHT: VifSight = {
  devid: 0,
  backendPath: '/local/domain/1/backend/vif/5/0',
  backendDomid: 1,
  backendName: 'nicdom',
  backendState: '4',
  hotplugStatus: 'connected',
  hotplugError: undefined,
  kernelError: undefined,
  frontendState: '4',
};

describe('whether a vif is connected', () => {
  test.each<[string, Partial<VifSight>, string, string]>([
    ['both sides', {}, 'connected', 'connected'],
    ['a driver domain without a name', { backendName: undefined }, 'connected', 'connected'],
    [
      'a driver domain without a name, not yet',
      { backendName: undefined, backendState: '2', hotplugStatus: '' },
      'waiting',
      'nothing in domid 1 has connected it yet',
    ],
    [
      'no such domain',
      { backendName: undefined, backendState: undefined },
      'wrong',
      'its driver domain (domid 1) is gone',
    ],
    [
      'a domain, perhaps another one under that number, that knows nothing of it',
      { backendState: undefined, hotplugStatus: undefined },
      'wrong',
      '/local/domain/1/backend/vif/5/0 is gone from its driver domain "nicdom"; once the driver domain runs again: vifd dom0 recover',
    ],
    [
      'the sentence',
      { hotplugStatus: 'error', hotplugError: 'bridge "x" does not exist' },
      'wrong',
      'bridge "x" does not exist',
    ],
    ['no terminal commands in it', { hotplugStatus: 'error', hotplugError: '\x1b[2J' }, 'wrong', '\\u001b[2J'],
    [
      'no sentence',
      { hotplugStatus: 'error' },
      'wrong',
      'hotplug-status is error, without a reason; ask in "nicdom": vifd status',
    ],
    [
      'no netback',
      { hotplugStatus: '', backendState: '1', frontendState: '1' },
      'waiting',
      'xen-netback in "nicdom" has not taken it (state is still 1); there: modprobe xen-netback',
    ],
    ['before Xen 4.17', { hotplugStatus: undefined, backendState: '2' }, 'waiting', 'does vifd run there? vifd status'],
    [
      'the kernel gave up',
      { hotplugStatus: '', backendState: '6', kernelError: '2 reading script' },
      'waiting',
      'xen-netback in "nicdom" gave it up: "2 reading script"',
    ],
    ['the guest not yet', { backendState: '2', frontendState: '1' }, 'waiting', "the guest's state is 1"],
    ['no terminal commands in a state', { frontendState: '\x1b[2J' }, 'waiting', `the guest's state is "\\u001b[2J"`],
    ['the guest has removed its directory', { frontendState: undefined }, 'waiting', "the guest's state is missing"],
  ])('%s', (_, nodes, is, words) => {
    const verdict = judgeVif({ ...SIGHT, ...nodes }, 'guest');
    expect(verdict.is).toBe(is);
    expect(verdict.words).toContain(words);
  });

  test('as far as the driver domain goes', () => {
    expect(judgeVif({ ...SIGHT, backendState: '2', frontendState: '1' }, 'hotplug').is).toBe('connected');
    expect(judgeVif({ ...SIGHT, hotplugStatus: '' }, 'hotplug').is).toBe('waiting');
  });
});

const NODES = new Map(
  Object.entries({ mac: '00:16:3e:00:00:01', bridge: 'br0', type: 'vif', handle: '0', state: '1' }),
);
const line = (nodes: Record<string, string>, recorded?: Parameters<typeof vifLine>[3]) =>
  vifLine(3, 'nicdom', new Map([...NODES, ...Object.entries(nodes)]), recorded);
const words = (...args: Parameters<typeof line>): string => {
  const made = line(...args);
  return 'why' in made ? `why: ${made.why}` : made.words.join(' ');
};

describe('the words for xl network-attach', () => {
  test('what xl records and xenstore does not', () => {
    const recorded = { backend: 'nicdom', untrusted: true, model: 'e1000' };
    expect(words({ type: 'vif_ioemu' }, recorded)).toBe(
      'devid=3 mac=00:16:3e:00:00:01 bridge=br0 type=ioemu model=e1000 untrusted backend=nicdom',
    );
    expect(words({}, recorded)).not.toContain('model');
  });

  test.each([
    [{ mac: '00:16:3e:00:00' }, 'why: its mac is "00:16:3e:00:00", which xl would not take'],
    [{ bridge: 'br0\nbackend=x' }, 'why: its bridge is "br0\\nbackend=x", which xl would not take'],
    [{ rate: '10' }, 'why: its rate is "10", which xl would not take'],
    [{ mtu: '0x600' }, 'why: its mtu is "0x600", which xl would not take'],
    [{ colo_checkpoint_port: '9' }, 'why: it has COLO settings (colo_checkpoint_port), which are not carried over'],
  ])('%j is not carried over', (nodes, why) => expect(words(nodes)).toBe(why));

  test('without a MAC address there would be another one', () =>
    expect(vifLine(0, 'nicdom', new Map(), undefined)).toEqual({ why: 'libxl has no record of its MAC address' }));

  test('a rate comes back to the same bytes in the same time, as xl counts', () => {
    const rates = fc
      .integer({ min: 1, max: 1_000_000 })
      .chain((usec) => fc.tuple(fc.integer({ min: 1, max: 4294 * usec }), fc.constant(usec)));
    expect(words({ rate: '250000000,50000' })).toContain('rate=5000000KB/s@50000us'); // 40 Gbit/s
    fc.assert(
      fc.property(rates, ([bytes, usec]) => {
        const [, second = '', time = ''] = /rate=(\d+)B\/s@(\d+)us/.exec(words({ rate: `${bytes},${usec}` })) ?? [];
        expect(Number(time)).toBe(usec);
        expect((BigInt(second) * BigInt(usec)) / 1_000_000n).toBe(BigInt(bytes));
      }),
    );
  });

  test('xl list -l: the name of the backend, and what is not that', () => {
    const nics = [{ devid: 1, backend_domname: 'nicdom', trusted: 'False', model: 'rtl8139' }, { devid: 2 }];
    const text = JSON.stringify([{ domid: 5, config: { nics } }]);
    expect(parseXlList(text, 5)?.get(1)).toEqual({ backend: 'nicdom', untrusted: true, model: 'rtl8139' });
    expect(parseXlList(text, 5)?.get(2)).toEqual({ backend: undefined, untrusted: false, model: undefined });
    for (const other of ['', 'null', '[]', '[{"domid":5}]', text.replace('5', '6')])
      expect(parseXlList(other, 5)).toBeUndefined();
  });

  test('as a shell takes them', () => {
    const odd = ['ip=10.0.0.1 fd00::1', "vifname=it's", 'bridge=$(x);y', 'a=b'];
    const said = spawnSync('sh', ['-c', `printf '%s\\n' ${shellLine(odd)}`], { encoding: 'utf8' });
    expect(said.stdout).toBe(`${odd.join('\n')}\n`);
  });
});

test('recovery goes by guest and then by devid, and leaves what belongs to others', () => {
  const vif = (domid: number, devid: number, backend?: string): LostVif => ({
    guest: { domid, name: `guest${domid}` },
    devid,
    nodes: NODES,
    recorded: backend === undefined ? undefined : { backend, untrusted: false, model: undefined },
  });
  const lost = [vif(12, 0, 'nicdom'), vif(5, 10, 'nicdom'), vif(5, 2, 'nicdom'), vif(6, 0, 'other'), vif(7, 0)];
  const nicdom = { domid: 20, name: 'nicdom' };
  const { moves, left } = planRecovery(lost, nicdom, new Set([6]));
  expect(moves.map(({ guest, devid }) => [guest.domid, devid])).toEqual([
    [5, 2],
    [5, 10],
    [12, 0],
  ]);
  // Named or not: what says that it belongs elsewhere stays there.
  expect(left.map(({ guest, other }) => [guest.domid, other])).toEqual([
    [6, true],
    [7, false],
  ]);
  expect(planRecovery([vif(7, 0)], nicdom, new Set([7])).moves).toHaveLength(1);
  const odd = { ...vif(5, 0, 'nicdom'), nodes: new Map([['mac', 'x']]) };
  expect(planRecovery([odd], nicdom, new Set()).left[0]?.why).toBe(
    'its mac is "x", which xl would not take; attach it by hand',
  );
});

/** The files of what `vifd dom0 units` prints, by their names below /etc/systemd/system. */
function unitFiles(text: string): Map<string, string> {
  const parts = text.split(/^# \/etc\/systemd\/system\//m).slice(1);
  return new Map(parts.map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]));
}

describe('units', () => {
  const files = unitFiles(driverDomainUnits(['nicdom']));
  const own = 'vifd-driver-domain-nicdom.service';

  test('the driver domain before xendomains, the guests stopped before both', () => {
    expect([...files.keys()]).toEqual([own, 'xendomains.service.d/vifd.conf', 'vifd-guests.service']);
    expect(files.get(own)).toMatch(/^Before=xendomains\.service /m);
    expect(files.get(own)).toContain('exec xl create /etc/xen/nicdom.cfg');
    expect(files.get('xendomains.service.d/vifd.conf')).toContain(`After=${own}\n`);
    expect(files.get('vifd-guests.service')).toMatch(new RegExp(`^After=xendomains\\.service ${own} `, 'm'));
    expect(driverDomainUnits(['net.2'], '/srv/net.cfg')).toContain('exec xl create /srv/net.cfg');
  });

  test('what cannot stand in a unit', () => {
    for (const name of ['a b', '$x', '', '-a', '7'])
      expect(() => driverDomainUnits(['nicdom', name])).toThrow(
        `${JSON.stringify(name)} cannot be part of a unit's name; give the domain a name of letters, digits, ".", "_" and "-"`,
      );
    expect(() => driverDomainUnits(['nicdom'], '/etc/%i')).toThrow(
      '"/etc/%i" cannot stand in a unit; give an absolute path without spaces',
    );
  });

  test('several driver domains: one set for all, and none is taken for a guest', () => {
    const both = unitFiles(driverDomainUnits(['nicdom', 'net.2', 'nicdom']));
    const units = `${own} vifd-driver-domain-net.2.service`;
    expect([...both.keys()]).toEqual([...units.split(' '), 'xendomains.service.d/vifd.conf', 'vifd-guests.service']);
    expect(both.get('xendomains.service.d/vifd.conf')).toBe(`[Unit]\nWants=${units}\nAfter=${units}\n\n`);
    expect(both.get('vifd-guests.service')).toMatch(new RegExp(`^After=xendomains\\.service ${units} `, 'm'));
    expect(both.get('vifd-guests.service')).toContain('*-dm|nicdom|net.2) ;;');
    expect(both.get('vifd-driver-domain-net.2.service')).toContain('exec xl create /etc/xen/net.2.cfg');
    expect(() => driverDomainUnits(['a', 'b'], '/srv/a.cfg')).toThrow(
      '--config is for one driver domain; each of several has its own in /etc/xen/NAME.cfg',
    );
  });

  const noSystemd = spawnSync('systemd-analyze', ['--version']).status !== 0;
  test.skipIf(noSystemd)(`systemd takes them${noSystemd ? ': skipped: systemd-analyze is not installed' : ''}`, () => {
    const dir = temporaryDirectory();
    for (const [name, text] of files) {
      mkdirSync(dirname(join(dir, name)), { recursive: true });
      writeFileSync(join(dir, name), text.replace(/^Documentation=.*\n/m, ''));
    }
    writeFileSync(join(dir, 'xendomains.service'), '[Service]\nType=oneshot\nExecStart=/bin/true\n');
    const units = ['xendomains.service', own, 'vifd-guests.service'].map((name) => join(dir, name));
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...units], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('what they run: started once, all but the driver domain shut down, then that', () => {
    const dir = temporaryDirectory();
    const log = join(dir, 'log');
    const list =
      'Name ID Mem VCPUs State Time\\nDomain-0 0 9 1 r 1.0\\nnicdom 1 2 1 b 0\\nweb 2 2 1 b 0\\nweb-dm 3 2 1 b 0\\nnicdom2 4 2 1 b 0\\n';
    writeFileSync(
      join(dir, 'xl'),
      `#!/bin/sh
case $1 in list) printf '${list}' ;; domid) [ -e ${join(dir, 'up')} ] ;; *) echo "$*" >>${log} ;; esac\n`,
    );
    chmodSync(join(dir, 'xl'), 0o755);
    const run = (file: string, key: string) => {
      const [, command = ''] = new RegExp(`^${key}=-?/bin/sh -c '(.*)'$`, 'm').exec(files.get(file) ?? '') ?? [];
      writeFileSync(log, '');
      const env = { ...process.env, PATH: `${dir}:${process.env.PATH}` };
      expect(spawnSync('sh', ['-c', command.replaceAll('$$', '$')], { env }).status).toBe(0);
      return spawnSync('sort', [log], { encoding: 'utf8' }).stdout;
    };
    expect(run(own, 'ExecStart')).toBe('create /etc/xen/nicdom.cfg\n');
    expect(run(own, 'ExecStop')).toBe('');
    writeFileSync(join(dir, 'up'), '');
    expect(run(own, 'ExecStart')).toBe('');
    expect(run('vifd-guests.service', 'ExecStop')).toBe('shutdown -w 2\nshutdown -w 4\n');
    expect(run(own, 'ExecStop')).toBe('shutdown -w nicdom\n');
  });
});

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-units-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
