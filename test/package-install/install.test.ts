/** The package on a Debian 13 system: installed, upgraded, removed and purged, with and without a running systemd. */
import { chmodSync, chownSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import { vethLinks } from '../../src/simulator/links.js';
import { eventually } from '../agent/agent-process.js';
import { clearLinks, type IpLink, ip, showLink } from '../netns/namespace.js';
import { Debian, nextVersion, packageFile, version } from './debian.js';

const FILE = packageFile('amd64');
const SCRIPTS = '/etc/xen/scripts';
const ENABLED = '/etc/systemd/system/multi-user.target.wants/vifd.service';
const CHANGE_OVER = 'systemctl disable --now xendriverdomain && systemctl enable --now vifd';
/** As Xen's own, with a program that is called like xl and waits. */
const DEVD_UNIT = `[Service]\nExecStart=/usr/sbin/xl devd\nWorkingDirectory=/run\n[Install]\nWantedBy=multi-user.target\n`;

let debian: Debian;
beforeEach(() => {
  debian = new Debian();
});
afterEach(() => debian.end());

/** Users and groups stay, and so does what dpkg keeps for itself. */
const KEPT = /^\/(etc\/(passwd|group|shadow|gshadow)-|var\/log\/(dpkg|alternatives)\.log|etc\/\.pwd\.lock)$/;

async function files(): Promise<string[]> {
  const elsewhere = ['/proc', '/root', '/var/lib/dpkg'].map((path) => `-path ${path} -prune -o`).join(' ');
  const found = await debian.must(`find / -xdev ${elsewhere} -print`);
  return found
    .split('\n')
    .filter((path) => !KEPT.test(path))
    .sort();
}

describe('where no systemd runs', () => {
  test('installs, works, and leaves nothing when purged', async () => {
    const before = await files();
    expect(await debian.install(FILE)).toBe('');
    expect(await debian.must('readlink /etc/systemd/system/multi-user.target.wants/vifd.service')).toBe(
      '/usr/lib/systemd/system/vifd.service',
    );
    expect((await debian.must(`ls -l ${SCRIPTS}`)).match(/vif-\S+ -> \S+/g)).toEqual(
      ['vif-bridge_TxOff', 'vif-bridge_qlen', 'vif-vifd'].map((name) => `${name} -> /usr/lib/vifd/scripts/${name}`),
    );
    expect(await debian.must('id -un vifd; vifd --version; vifd config check')).toMatch(RegExp(`^vifd\n${version}\n`));
    expect(await debian.must('/etc/init.d/vifd start')).toBe('');
    expect(await debian.must('dpkg --verify vifd')).toBe('');
    await debian.install(nextVersion(FILE));
    await debian.dpkg('-P', 'vifd');
    expect(await files()).toEqual(before);
  });

  test('the program of the package does its whole work with Debian’s node', async () => {
    await debian.install(FILE);
    expect(await debian.must('vifd demo')).toContain('all as it should be');
  });

  test('removed and installed again it is as before', async () => {
    await debian.install(FILE);
    expect(await debian.dpkg('-r', 'vifd')).toMatch(/stopped\. Guests' vifs stay connected/);
    expect(await debian.must('test ! -e /etc/xen; test ! -x /etc/init.d/vifd && echo off')).toBe('off');
    await debian.install(FILE);
    expect(await debian.must(`test -x /etc/init.d/vifd && ls ${SCRIPTS}`)).toContain('vif-vifd');
  });

  test.each([101, 0])('a policy-rc.d with status %d', async (status) => {
    debian.write('/usr/sbin/policy-rc.d', `#!/bin/sh\nexit ${status}\n`, 0o755);
    expect(await debian.install(FILE)).toBe('');
    expect(await debian.dpkg('-P', 'vifd')).not.toContain('status');
  });

  test('the admin’s own files stay as they are, also when it is purged', async () => {
    debian.write(`${SCRIPTS}/vif-bridge_qlen`, 'mine\n', 0o755);
    debian.write('/etc/xen/vifd.toml', '[vif]\nqlen = 500\n');
    debian.write('/etc/xen/vifd.d/site.toml', '');
    expect(await debian.install(FILE)).toBe(
      `vifd: ${SCRIPTS}/vif-bridge_qlen was there before and stays as it is; vifd's own is /usr/lib/vifd/scripts/vif-bridge_qlen`,
    );
    expect(await debian.dpkg('-P', 'vifd')).toContain('vifd: /etc/xen/vifd.toml is yours and stays');
    expect(await debian.must('cd /etc/xen && find . -type f | sort && cat scripts/vif-bridge_qlen vifd.toml')).toBe(
      './scripts/vif-bridge_qlen\n./vifd.d/site.toml\n./vifd.toml\nmine\n[vif]\nqlen = 500',
    );
  });

  test('with xl devd started at boot it is not enabled, and says how to change over; an upgrade keeps that', async () => {
    debian.write('/etc/systemd/system/xendriverdomain.service', DEVD_UNIT);
    await debian.must('systemctl enable xendriverdomain');
    const said = await debian.install(FILE);
    expect(said).toContain('"xl devd" is here, started at boot by the service xendriverdomain');
    expect(said).toContain(CHANGE_OVER);
    await debian.install(nextVersion(FILE));
    expect(debian.has(ENABLED)).toBe(false);
    expect(await debian.must('ls /etc/rc2.d')).toMatch(/^K\d\dvifd$/m);
    await debian.dpkg('-P', 'vifd');
    expect(await debian.must('systemctl is-enabled xendriverdomain')).toBe('enabled');
  });

  test('a vifd that runs is not replaced by one that cannot use the configuration', async () => {
    await debian.install(FILE);
    debian.write('/etc/xen/vifd.toml', '[vif]\nqlen = "many"\n');
    debian.write('/dev/xen/xenbus', '');
    debian.copy(nextVersion(FILE), '/root/next.deb');
    const running = `sh -c 'sleep 60; :' vifd run & echo $! >/run/vifd.pid`;
    const said = await debian.must(`${running}; dpkg -i /root/next.deb; dpkg -s vifd; kill $! && echo ran`);
    expect(said).toMatch(
      /^vifd: the vifd that runs goes on, .* \/etc\/xen\/vifd\.toml:2: vif\.qlen is "many"; .*: service vifd restart$/m,
    );
    expect(said).toMatch(/^Status: install ok installed$/m);
    expect(said).toMatch(/^ran$/m);
  });

  test('what the admin has disabled stays disabled', async () => {
    await debian.install(FILE);
    await debian.must('systemctl disable vifd');
    await debian.install(nextVersion(FILE));
    expect(debian.has(ENABLED)).toBe(false);
  });
});

describe('where systemd runs', () => {
  let host: SimulatedHost;
  beforeEach(async () => {
    clearLinks();
    ip('link', 'add', 'br0', 'up', 'type', 'bridge');
    host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) } });
    chmodSync(host.socketOf(NICDOM), 0o666);
  });
  afterEach(() => host.close());

  /** Without this the unit's condition fails, as everywhere outside of Xen. */
  const pretendXen = () =>
    debian.write('/etc/systemd/system/vifd.service.d/test.conf', '[Unit]\nConditionVirtualization=\n');
  const boot = () => debian.boot(host.socketOf(NICDOM));
  const active = async (unit: string) => (await debian.sh(`systemctl is-active ${unit}`)).output;
  const mainPid = () => debian.must('systemctl show --value -p MainPID vifd');
  const connected = () => eventually(async () => (await host.backendNode(5, 0, 'hotplug-status')) === 'connected');

  test('starts, survives an upgrade without a flap, and leaves the vifs when removed', async () => {
    pretendXen();
    await boot();
    expect(await debian.install(FILE)).toBe('');
    expect(await active('vifd')).toBe('active');
    await host.createGuest(5, [{ bridge: 'br0' }]);
    await connected();
    const [pid, link] = [await mainPid(), showLink('vif5.0')];
    const monitor = execa('ip', ['-o', 'monitor', 'link'], { reject: false, buffer: false });
    let events = '';
    monitor.stdout?.setEncoding('utf8').on('data', (text: string) => {
      events += text;
    });
    expect(await debian.install(nextVersion(FILE))).toBe('');
    expect(await mainPid()).not.toBe(pid);
    expect(await active('vifd')).toBe('active');
    expect(await debian.dpkg('-r', 'vifd')).toMatch(/stopped\. Guests' vifs stay connected/);
    expect((await debian.sh('systemctl is-active vifd')).output).toMatch(/^inactive/);
    ip('link', 'set', 'br0', 'alias', 'seen');
    await eventually(() => events.includes('br0'));
    monitor.kill();
    await monitor;
    expect(events).not.toContain('vif5.0');
    const { ifindex, flags, txqlen } = link as IpLink;
    expect(showLink('vif5.0')).toMatchObject({ ifindex, flags, txqlen, master: 'br0' });
    expect(await host.backendNode(5, 0, 'hotplug-status')).toBe('connected');
    await debian.dpkg('-P', 'vifd');
  });

  test('a configuration that the new one would refuse: the old one goes on, until it is mended', async () => {
    pretendXen();
    await boot();
    await debian.install(FILE);
    const pid = await mainPid();
    debian.write('/etc/xen/vifd.toml', '');
    chownSync(join(debian.root, '/etc/xen/vifd.toml'), 1000, 0);
    expect(await debian.install(nextVersion(FILE))).toMatch(
      /^vifd: the vifd that runs goes on, [^\n]* belongs to user 1000 \(chown root [^\n]*, then: systemctl restart vifd$/,
    );
    expect([await active('vifd'), await mainPid()]).toEqual(['active', pid]);
    // Root, which runs postinst, could read it.
    await debian.must('chown root /etc/xen/vifd.toml; chmod 600 /etc/xen/vifd.toml');
    expect(await debian.install(FILE)).toContain('/etc/xen/vifd.toml: may not be read by this user');
    expect([await active('vifd'), await mainPid()]).toEqual(['active', pid]);
    await debian.must('chmod 644 /etc/xen/vifd.toml');
    const own = '[Service]\nExecStart=\nExecStart=/usr/bin/vifd run -c /etc/xen/own.toml\n';
    debian.write('/etc/systemd/system/vifd.service.d/own.conf', own);
    debian.write('/etc/xen/own.toml', '');
    await debian.must('systemctl daemon-reload; systemctl restart vifd');
    const named = await mainPid();
    await debian.must('chown 1000 /etc/xen/own.toml');
    expect(await debian.install(FILE)).toMatch(/until "vifd config check --strict \/etc\/xen\/own\.toml" is content/);
    expect([await active('vifd'), await mainPid()]).toEqual(['active', named]);
    await debian.must('chown root /etc/xen/own.toml');
    expect(await debian.install(nextVersion(FILE))).toBe('');
    expect(await active('vifd')).toBe('active');
    expect(await mainPid()).not.toBe(named);
  });

  test('outside of Xen it is installed and quiet, and does not run', async () => {
    await boot();
    expect(await debian.install(FILE)).toBe('');
    expect(await active('vifd')).toBe('inactive');
    expect(await debian.must('systemctl show --value -p ConditionResult vifd')).toBe('no');
  });

  test('leaves xl devd alone until the admin does what it says', async () => {
    pretendXen();
    await debian.must('cp /usr/bin/cat /usr/sbin/xl');
    debian.write('/etc/systemd/system/xendriverdomain.service', DEVD_UNIT);
    debian.write('/usr/lib/tmpfiles.d/devd.conf', 'p /run/devd 0600 - - -\n');
    await debian.must('systemctl enable xendriverdomain');
    await boot();
    const said = await debian.install(FILE);
    expect(said).toContain(CHANGE_OVER);
    await debian.install(nextVersion(FILE));
    expect([await active('xendriverdomain'), await active('vifd')]).toEqual(['active', 'inactive']);
    await debian.must(CHANGE_OVER);
    expect([await active('xendriverdomain'), await active('vifd')]).toEqual(['inactive', 'active']);
    expect(await debian.install(FILE)).toBe(''); // a downgrade
    expect(await active('vifd')).toBe('active');
  });

  test('a devd that no service starts is seen as well', async () => {
    pretendXen();
    await debian.must('cp /usr/bin/cat /usr/sbin/xl');
    await boot();
    const pid = await debian.must('cd /run; mkfifo devd; (/usr/sbin/xl devd >/dev/null 2>&1 & echo $!) </dev/null');
    const said = await debian.install(FILE);
    expect(said).toContain(`"xl devd" is here, running as process ${pid}.`);
    expect(said).toContain(`end process ${pid} and what starts it at boot; then`);
    expect([await active('vifd'), debian.has(ENABLED)]).toEqual(['inactive', false]);
  });
});
