/** What guests are given by DHCP, what dnsmasq is told of it, and what becomes of a dnsmasq that is not as it should be. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Config } from '../../src/config/schema.js';
import { Dnsmasq, endLeftBehind } from '../../src/dhcp/dnsmasq.js';
import { configText, filesIn, hostsText, keptLeases, type Offer, optionsText } from '../../src/dhcp/dnsmasq-text.js';
import { ensureStateDirectory, stateDirectory } from '../../src/service/run-directory.js';
import type { RoutedAttachment } from '../../src/vif/attachment.js';
import { dhcpFault, offerOf } from '../../src/vif/dhcp.js';
import { explain } from '../../src/vif/explanation.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { findGateways } from '../../src/vif/routed.js';
import { aLink, backend, seen } from './vif-seen.js';

const MAC = '00:16:3e:01:02:03';
const OFFER: Offer = {
  ifname: 'vif5.0',
  mac: MAC,
  address: '10.0.5.1',
  length: 24,
  gateway: '10.0.5.128',
  dns: ['9.9.9.9', '192.0.2.53'],
};
const OTHER: Offer = {
  ...OFFER,
  ifname: 'fw-lan',
  mac: '00:16:3e:00:00:09',
  address: '203.0.113.7',
  length: 28,
  gateway: '203.0.113.1',
  dns: [],
};

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'vifd-dhcp-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return dir;
}
const sentence = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error: Error) => error.message,
  );

describe('what a guest gets', () => {
  type Nodes = Record<string, string>;
  const wanted = (vif: Config['vif'], nodes: Nodes = {}) =>
    resolveAttachment(backend(nodes), { vif: { mode: 'nat', dhcp: true, ...vif }, rules: [] }) as RoutedAttachment;
  const offered = (vif: Config['vif'], nodes: Nodes = {}) => {
    const want = wanted(vif, nodes);
    const gateways = want.mode === ('bridge' as string) ? [] : findGateways(want, undefined, []);
    return { offer: offerOf(want, gateways), fault: dhcpFault(want, gateways) };
  };

  test.each<[string, Config['vif'], Nodes, Partial<Offer> | undefined]>([
    ["what vif-nat's numbers make", {}, {}, { address: '10.0.5.1', gateway: '10.0.5.128', length: 24, mac: MAC }],
    ['the servers', { dns: ['9.9.9.9', '192.0.2.53'] }, {}, { dns: ['9.9.9.9', '192.0.2.53'] }],
    ['one server', { dns: '9.9.9.9' }, {}, { dns: ['9.9.9.9'] }],
    ['under its own name', {}, { vifname: 'fw-lan' }, { ifname: 'fw-lan' }],
    [
      'the first IPv4 address',
      {},
      { ip: '2001:db8::7 192.0.2.7 192.0.2.8' },
      { address: '192.0.2.7', gateway: '192.0.2.134' },
    ],
    [
      'of a network its first',
      { gateway: '203.0.113.1' },
      { ip: '203.0.113.64/28' },
      { address: '203.0.113.65', length: 24 },
    ],
    [
      'routed',
      { mode: 'routed', gateway: '203.0.113.1' },
      { ip: '203.0.113.2' },
      { gateway: '203.0.113.1', length: 24 },
    ],
    ["not the network's own address", { gateway: '192.0.3.5' }, { ip: '192.0.3.0' }, { length: 23 }],
    ["not the network's broadcast address", { gateway: '192.0.2.6' }, { ip: '192.0.2.255' }, { length: 23 }],
    ['a gateway far away', { gateway: '10.255.255.254' }, { ip: '10.0.0.1' }, { length: 8 }],
    ['none is nearer than that', { gateway: '192.0.2.1' }, { ip: '203.0.113.7' }, undefined],
    ['no IPv4', { natNetwork: 'fd00:5::/64' }, {}, undefined],
    ['not asked for', { dhcp: false }, {}, undefined],
    ['a port of a bridge', { mode: 'bridge' }, {}, undefined],
  ])('%s', (_, vif, nodes, expected) => {
    const { offer } = offered(vif, nodes);
    if (expected === undefined) expect(offer).toBeUndefined();
    else expect(offer).toMatchObject(expected);
  });

  test('why it gets nothing', () => {
    expect(offered({}).fault).toBeUndefined();
    expect(offered({ dhcp: false, natNetwork: 'fd00:5::/64' }).fault).toBeUndefined();
    expect(offered({ natNetwork: 'fd00:5::/64' }).fault).toEqual({
      says: 'the guest gets nothing by DHCP, which is for IPv4 here',
      remedy: 'give the vif one in ip=',
    });
    expect(offered({ gateway: '192.0.2.1' }, { ip: '203.0.113.7' }).fault).toEqual({
      says: 'the guest gets nothing by DHCP: no network holds its address 203.0.113.7 and its gateway 192.0.2.1',
      remedy: 'set gateway to an address that begins like its own; only this vif has it',
    });
  });

  test.each(['known', 'a,b', 'a*', 'tag\\', 'a#b'])('a vif called %s cannot be served', (vifname) => {
    expect(() => wanted({ guard: 'off', mode: 'routed' }, { vifname, ip: '192.0.2.7' })).toThrow(
      `letters, digits, ".", "_" and "-", and no word of dnsmasq's, with dhcp`,
    );
  });
  test('nor one without a MAC address', () => {
    const described = { ...backend({ ip: '192.0.2.7' }), mac: undefined };
    const vif = { mode: 'routed', dhcp: true, guard: 'off' } as const;
    expect(() => resolveAttachment(described, { vif, rules: [] })).toThrow('a MAC address, since the guest gets DHCP');
  });

  test('explain says that it need not be typed in', () => {
    const want = wanted({});
    const place = {
      mode: 'nat' as const,
      gateways: findGateways(want, undefined, []),
      uplink: undefined,
      proxied: [],
      routes: [],
      rules: [],
      proxies: [],
      masquerade: want.masquerade?.chain,
      forwards: { ipv4: true, ipv6: true },
    };
    const said = JSON.stringify(explain(seen({ want, place, link: aLink('vif5.0', { parentDev: 'vif-5-0' }) })));
    expect(said).toContain('route add default via 10.0.5.128 dev eth0 onlink, or by DHCP');
  });
});

describe("dnsmasq's files", () => {
  const files = filesIn('/var/lib/vifd');
  test('the configuration reads nothing of others, serves no DNS, and names the vifs', () => {
    expect(configText(files, ['vif5.0', 'fw-lan'], false).split('\n')).toEqual([
      'port=0',
      'no-hosts',
      'no-resolv',
      'no-ping',
      'bind-dynamic',
      'interface=vif5.0',
      'interface=fw-lan',
      'interface=none:*',
      'dhcp-authoritative',
      'dhcp-ignore=tag:!known',
      'dhcp-ignore-names',
      'dhcp-ignore-clid',
      'dhcp-range=0.0.0.0,static,128.0.0.0,24h',
      'dhcp-range=128.0.0.0,static,128.0.0.0,24h',
      'dhcp-hostsfile=/var/lib/vifd/dnsmasq.hosts',
      'dhcp-optsfile=/var/lib/vifd/dnsmasq.options',
      'dhcp-leasefile=/var/lib/vifd/dnsmasq.leases',
      'pid-file=/var/lib/vifd/dnsmasq.pid',
      'log-facility=-',
      '',
    ]);
    expect(configText(files, ['vif5.0'], true)).toMatch(/^user=root\ngroup=\n$/m);
  });
  test('each address for one MAC address on one vif', () =>
    expect(hostsText([OFFER, OTHER])).toBe(
      '00:16:3e:01:02:03,tag:vif5.0,10.0.5.1\n00:16:3e:00:00:09,tag:fw-lan,203.0.113.7\n',
    ));
  test('mask, router, servers and broadcast address of each vif', () =>
    expect(optionsText([OFFER, OTHER])).toBe(
      [
        'tag:vif5.0,1,255.255.255.0',
        'tag:vif5.0,3,10.0.5.128',
        'tag:vif5.0,6,9.9.9.9,192.0.2.53',
        'tag:vif5.0,28,10.0.5.255',
        'tag:fw-lan,1,255.255.255.240',
        'tag:fw-lan,3,203.0.113.1',
        'tag:fw-lan,28,203.0.113.15',
        '',
      ].join('\n'),
    ));
  test("leases of an address that is another guest's now go, all others stay", () => {
    const mine = `1795373207 ${MAC} 10.0.5.1 * *\n`;
    const gone = '1795373207 00:16:3e:00:00:77 10.0.7.1 * *\n';
    const old = '1795373207 00:16:3e:00:00:88 203.0.113.7 * *\n';
    expect(keptLeases(mine + old + gone, [OFFER, OTHER])).toBe(mine + gone);
    expect(keptLeases('', [OFFER])).toBe('');
  });
});

describe('a dnsmasq', () => {
  /** A program of that name that says and does so. */
  async function start(body: string, onEnd: (why: string) => void = () => undefined): Promise<Dnsmasq> {
    const dir = scratch();
    writeFileSync(join(dir, 'dnsmasq'), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    vi.stubEnv('PATH', `${dir}:${process.env.PATH}`);
    onTestFinished(() => void vi.unstubAllEnvs());
    const dnsmasq = new Dnsmasq(join(dir, 'conf'), { onLine: () => undefined, onEnd });
    onTestFinished(() => dnsmasq.end());
    await dnsmasq.start();
    return dnsmasq;
  }
  const STARTED = 'echo "dnsmasq[$$]: started, version 2.90 DNS disabled" >&2';

  test.each([
    [
      'failed to bind DHCP server socket: Permission denied',
      'it needs CAP_NET_BIND_SERVICE as well, under systemd by the drop-in vifd-dhcp.conf',
    ],
    [
      'failed to bind DHCP server socket: Address already in use',
      'another DHCP server has port 67: let it bind its own interfaces only, dnsmasq by bind-dynamic',
    ],
    ['bad option at line 3', 'all that it said is in the log at level debug'],
  ])('that cannot start: %s', async (words, remedy) => {
    const said: string[] = [];
    expect(await sentence(start(`echo 'dnsmasq: ${words}' >&2; exit 2`, (why) => void said.push(why)))).toBe(
      `dnsmasq does not start: "dnsmasq: ${words}"; ${remedy}`,
    );
    expect(said).toEqual([]);
  });
  test('that ends by itself is told of; one that is asked to is not', async () => {
    const said: string[] = [];
    const dnsmasq = await start(`${STARTED}; sleep 0.1; exit 3`, (why) => void said.push(why));
    expect(dnsmasq.runs).toBe(true);
    await vi.waitFor(() => expect(said).toHaveLength(1));
    expect(dnsmasq.runs).toBe(false);
    const other = await start(`${STARTED}; exec sleep 60`, (why) => void said.push(why));
    await other.end();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(said).toHaveLength(1);
  });
  test('that does not end in time is killed: vifd has not long', async () => {
    const dnsmasq = await start(`trap '' TERM; ${STARTED}; while :; do sleep 0.01; done`);
    const begin = performance.now();
    await dnsmasq.end();
    expect(performance.now() - begin).toBeLessThan(500);
  });
});

describe('what an earlier vifd has left', () => {
  /** A process called so, that ends by SIGTERM or not. */
  async function left(name: string, config: string, trap = '') {
    const dir = scratch();
    symlinkSync('/bin/sh', join(dir, name));
    const code = `${trap} echo; while :; do sleep 0.01; done`;
    const child = spawn(join(dir, name), ['-c', code, 'x', `--conf-file=${config}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    const ended = once(child, 'exit').then(([, signal]) => signal as string);
    await once(child.stdout, 'data');
    const files = filesIn(dir);
    writeFileSync(files.pid, `${child.pid}\n`);
    return { child, ended, files: { ...files, config: '/x/dnsmasq.conf' } };
  }
  const signal = new AbortController().signal;

  test.each([
    ['', 'SIGTERM'],
    ["trap '' TERM;", 'SIGKILL'],
  ])('is ended (%s)', async (trap, expected) => {
    const { ended, files } = await left('dnsmasq', '/x/dnsmasq.conf', trap);
    expect(await endLeftBehind(files, signal)).toBe(true);
    expect(await ended).toBe(expected);
  });
  test.each([
    ['another program', 'other', '/x/dnsmasq.conf'],
    ["another's dnsmasq", 'dnsmasq', '/etc/dnsmasq.conf'],
  ])('%s that has the number now stays', async (_, name, config) => {
    const { child, files } = await left(name, config);
    await endLeftBehind(files, signal);
    expect(child.exitCode ?? child.signalCode).toBeNull();
  });
  test.each(['', 'x\n', '-1\n', '0\n', '1\n', '12'])('a pid file with %j names nobody', async (text) => {
    const kill = vi.spyOn(process, 'kill');
    onTestFinished(() => kill.mockRestore());
    const files = filesIn(scratch());
    writeFileSync(files.pid, text);
    expect(await endLeftBehind(files, signal)).toBe(false);
    expect(kill).not.toHaveBeenCalled();
  });
  test('what may not be ended is named', async () => {
    const { child, files } = await left('dnsmasq', '/x/dnsmasq.conf');
    const kill = vi.spyOn(process, 'kill').mockImplementation(() => {
      throw Object.assign(new Error('no'), { code: 'EPERM' });
    });
    onTestFinished(() => kill.mockRestore());
    expect(await sentence(endLeftBehind(files, signal))).toBe(
      `dnsmasq of an earlier vifd goes on (EPERM): as root, kill ${child.pid}`,
    );
  });
});

describe('the state directory', () => {
  test('is what the environment says, and systemd', () => {
    onTestFinished(() => void vi.unstubAllEnvs());
    vi.stubEnv('VIFD_STATE_DIR', '');
    vi.stubEnv('STATE_DIRECTORY', '');
    expect(stateDirectory()).toBe('/var/lib/vifd');
    vi.stubEnv('STATE_DIRECTORY', '/var/lib/other');
    expect(stateDirectory()).toBe('/var/lib/other');
    vi.stubEnv('VIFD_STATE_DIR', '/srv/vifd');
    expect(stateDirectory()).toBe('/srv/vifd');
  });
  test('is made for others to read, and none that they can write is used', async () => {
    const dir = join(scratch(), 'a', 'b');
    await ensureStateDirectory(dir);
    expect(statSync(dir).mode & 0o777).toBe(0o755);
    chmodSync(dir, 0o775);
    expect(await sentence(ensureStateDirectory(dir))).toBe(
      `${dir} must belong to the user that runs vifd, and nobody else may write there`,
    );
  });
  test('has a name that dnsmasq takes as it is', async () => {
    expect(await sentence(ensureStateDirectory('/tmp/a b'))).toBe(
      'VIFD_STATE_DIR is "/tmp/a b"; it must be an absolute path of plain letters',
    );
  });
  test('cannot be made', async () => {
    const file = join(scratch(), 'file');
    writeFileSync(file, '');
    expect(await sentence(ensureStateDirectory(join(file, 'x')))).toBe(
      `${file}/x cannot be made (ENOTDIR): make it for the user that runs vifd (the drop-in vifd-dhcp.conf does), or name another in VIFD_STATE_DIR`,
    );
  });
});
