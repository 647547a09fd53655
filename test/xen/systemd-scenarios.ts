/**
 * What an admin does with the Debian package, in the order in which he does it. Each scenario builds on what the ones before left;
 * client `alpha` pings from its attachment on. A command in the driver domain takes a second, so much is done by one.
 */
import { expect, test } from 'vitest';
import { printMeasured } from '../support/measured.js';
import {
  createClient,
  domidOf,
  feature,
  links,
  pingSequence,
  storeVifs,
  untilConnected,
  untilGone,
  untilPings,
  vifSpec,
  xl,
} from './guests.js';
import type { Lab } from './lab.js';
import { installCommands, NEWER, NEWER_VERSION } from './systemd-packages.js';

export const BRIDGE = 'br_lan';
const MAIN_PID = 'systemctl show -P MainPID vifd';
/** Waits until systemd has started another process than $old; `active` means that it said READY=1. */
const UNTIL_RESTARTED = `for i in $(seq 300); do
  new=$(${MAIN_PID}); [ $new != 0 ] && [ $new != $old ] && systemctl -q is-active vifd && break; sleep 0.2
done; echo "restarted $old $new $(systemctl is-active vifd)"`;

export function installScenario(lab: () => Lab): void {
  test("the README's commands install vifd, and systemd starts it", async () => {
    // What a real driver domain has: a card. Passed through to it, it is called eth0 or like that.
    await lab().mustNicdom('modprobe dummy && ip link add eth0 type dummy && ! command -v vifd');
    const out = await lab().mustNicdom(`cd /root && set -e\n${installCommands()}`, 180_000);
    expect(out).toContain('Setting up vifd');
    expect(out).not.toMatch(/^vifd: .*(not|cannot)/m);
    await lab().mustNicdom(`ip address add 10.77.0.1/24 dev ${BRIDGE}`);
    const unit = await show(lab(), 'ActiveState', 'SubState', 'Type', 'StatusText', 'UnitFileState', 'NRestarts');
    expect(unit).toEqual({
      ActiveState: 'active',
      SubState: 'running',
      Type: 'notify',
      StatusText: '0 vifs connected',
      UnitFileState: 'enabled',
      NRestarts: '0',
    });
  });
}

export function sandboxScenario(lab: () => Lab): void {
  test('it runs as its own user with CAP_NET_ADMIN alone, and its sandbox is in force', async () => {
    const out = await lab().mustNicdom(`pid=$(${MAIN_PID})
      cat /proc/$pid/status; stat -c 'xenbus %U:%G %a' /dev/xen/xenbus; id -u vifd
      readlink /proc/$pid/ns/mnt /proc/1/ns/mnt | uniq | wc -l
      systemd-analyze security vifd | tail -1
      journalctl -q -b -k | grep -E 'type=(1326|1400)|apparmor="DENIED"|avc: ' | sed 's/^/denied: /'`);
    const uid = /^(\d+)$/m.exec(out)?.[1];
    expect(Number(uid)).toBeGreaterThan(0);
    const status = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(out)?.[1];
    expect(status('Uid')).toBe([uid, uid, uid, uid].join('\t'));
    const netAdmin = (1n << 12n).toString(16).padStart(16, '0');
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(status(set), set).toBe(netAdmin);
    expect(status('Seccomp')).toBe('2');
    expect(status('NoNewPrivs')).toBe('1');
    expect(out).toContain('xenbus root:vifd 660');
    expect(out).toMatch(/^2$/m); // another mount namespace than the system's
    expect(Number(/exposure level for vifd.service: ([\d.]+)/.exec(out)?.[1])).toBeLessThanOrEqual(2.5);
    expect(out).not.toContain('denied:');
  });
}

export function attachedClientScenario(lab: () => Lab): void {
  test('a client is attached, pings, and the journal tells of it; a second vif comes and goes', async () => {
    const domid = await createClient(lab(), { name: 'alpha', number: 11, bridge: BRIDGE });
    await untilPings(lab(), 'alpha');
    await untilConnected(lab(), domid, [0]);
    const ifname = `vif${domid}.0`;
    expect((await links(lab())).get(ifname)).toMatchObject({ master: BRIDGE, txqlen: 1000 });
    for (const name of ['tx-checksum-ipv4', 'tx-checksum-ipv6']) expect(await feature(lab(), ifname, name)).toBe('off');
    expect(await show(lab(), 'StatusText')).toEqual({ StatusText: expect.stringMatching(/^1 vifs? connected$/) });

    await xl(lab(), `network-attach alpha ${vifSpec(11, 1, 'brnone')}`);
    const failed = async () => (await storeVifs(lab(), domid)).get(1)?.['hotplug-status'] === 'error';
    await lab().until('hotplug-status error', failed, 20_000);
    await xl(lab(), 'network-detach alpha 1');
    await untilGone(lab(), domid, 1);
    const entries = await journal(lab());
    expect(entries.find(({ MESSAGE }) => MESSAGE.includes(`connected ${ifname} to ${BRIDGE}`))).toMatchObject({
      PRIORITY: '6',
      SYSLOG_IDENTIFIER: 'vifd',
      _SYSTEMD_UNIT: 'vifd.service',
    });
    const fault = entries.find(({ MESSAGE }) => MESSAGE.includes('"brnone" does not exist'));
    expect(fault?.PRIORITY).toMatch(/^[34]$/);
    const complaints = await lab().agentComplaints();
    expect(complaints.filter((line) => !line.includes('brnone'))).toEqual([]);
  });
}

export function upgradeScenario(lab: () => Lab): void {
  test('an upgrade under a client that pings: new process, no packet lost, no link touched', async () => {
    await undisturbed(lab(), async () => {
      const out = await lab().mustNicdom(
        `old=$(${MAIN_PID}); dpkg -i /root/${NEWER} && ${UNTIL_RESTARTED}; dpkg-query -W vifd`,
        180_000,
      );
      expectRestart(out);
      expect(out).toMatch(new RegExp(`^vifd\\t.*\\${NEWER_VERSION}$`, 'm'));
    });
    expect((await show(lab(), 'NRestarts')).NRestarts).toBe('0'); // by dpkg, and not after a failure
  });
}

export function reloadScenario(lab: () => Lab): void {
  test('systemctl reload refuses a file with a fault, with the reason in the journal, and takes a good one', async () => {
    const ifname = `vif${await domidOf(lab(), 'alpha')}.0`;
    const reload = (text: string) =>
      lab().nicdom(`printf '${text}' >/etc/xen/vifd.toml; systemctl reload vifd; echo "code $?"; sleep 2
        systemctl is-active vifd; cat /sys/class/net/${ifname}/tx_queue_len`);
    const bad = await reload('[vif]\\nqlan = 500\\n');
    const good = await reload('[vif]\\nqlen = 500\\n');
    await lab().mustNicdom('rm /etc/xen/vifd.toml; systemctl reload vifd; sleep 2');
    expect(bad.out).toMatch(/code 1\nactive\n1000\n$/);
    expect(good.out).toMatch(/^code 0\nactive\n500\n$/);
    expect(await lab().agentComplaints()).toContainEqual(expect.stringContaining('Reload failed for vifd.service'));
    const told = (await journal(lab())).map(({ MESSAGE }) => MESSAGE);
    expect(told.filter((message) => message.includes('/etc/xen/vifd.toml:2: vif.qlan'))).toHaveLength(1);
    expect((await links(lab())).get(ifname)?.txqlen).toBe(1000);
  });
}

export function killedScenario(lab: () => Lab): void {
  test('killed: systemd starts it again, and the client notices nothing', async () => {
    await undisturbed(lab(), async () =>
      expectRestart(
        await lab().mustNicdom(`old=$(${MAIN_PID}); systemctl kill -s KILL vifd; ${UNTIL_RESTARTED}`, 90_000),
      ),
    );
    expect((await lab().agentComplaints()).join('\n')).toMatch(/Failed with result 'signal'/);
  });
}

export function watchdogScenario(lab: () => Lab): void {
  test('stopped dead: the watchdog lets a healthy one live and replaces this one', async () => {
    const file = '/etc/systemd/system/vifd.service.d/watchdog.conf';
    await lab().mustNicdom(`mkdir -p ${file.replace(/[^/]*$/, '')}; printf '[Service]\\nWatchdogSec=5\\n' >${file}
      systemctl daemon-reload; systemctl restart vifd`);
    await undisturbed(lab(), async () => {
      const out = await lab().mustNicdom(
        `old=$(${MAIN_PID}); sleep 12; [ $old = $(${MAIN_PID}) ] || exit 9; from=$(date +%s%3N); kill -STOP $old
        ${UNTIL_RESTARTED}; echo "after $(($(date +%s%3N) - from))"`,
        120_000,
      );
      expectRestart(out);
      printMeasured(
        'stopped dead, with a limit of 5 s: systemd has started another',
        Number(/after (\d+)/.exec(out)?.[1]),
      );
    });
    expect((await lab().agentComplaints()).join('\n')).toMatch(/Failed with result 'watchdog'/);
    // A running one keeps the limit of its start.
    await lab().mustNicdom(`rm ${file}; systemctl daemon-reload; systemctl restart vifd`);
  });
}

export function bootScenario(lab: () => Lab): void {
  test('the driver domain boots: module, device, bridge and service are there without a hand', async () => {
    const before = await domidOf(lab(), 'nicdom');
    await lab().mustNicdom(`cd /etc/systemd/network
      printf '[NetDev]\\nName=${BRIDGE}\\nKind=bridge\\n' >${BRIDGE}.netdev
      printf '[Match]\\nName=${BRIDGE}\\n[Network]\\nAddress=10.77.0.1/24\\nConfigureWithoutCarrier=yes\\n' >${BRIDGE}.network
      systemctl -q enable systemd-networkd; (sleep 3; systemctl reboot) >/dev/null 2>&1 &`);
    const ready = async () => (await lab().guestLog('nicdom')).split('LAB nicdom ready').length > 2;
    await lab().until('nicdom is up again', ready, 120_000);
    expect(await domidOf(lab(), 'nicdom')).toBeGreaterThan(before);
    const out = await lab().mustNicdom(`for i in $(seq 100); do systemctl -q is-active vifd && break; sleep 0.3; done
      systemctl is-active vifd; lsmod | grep -o ^xen_netback; stat -c '%U:%G %a' /dev/xen/xenbus
      ls -d /sys/class/net/${BRIDGE}; systemctl --failed --no-legend`);
    expect(out.split('\n')).toEqual(['active', 'xen_netback', 'root:vifd 660', `/sys/class/net/${BRIDGE}`]);
    expect((await show(lab(), 'NRestarts')).NRestarts).toBe('0');

    // What dom0's admin does for a guest that outlived its driver domain. The pause is the guest's, see reattachScenario.
    await xl(lab(), 'network-detach alpha 0');
    await lab().must('sleep 2');
    await xl(lab(), `network-attach alpha ${vifSpec(11, 0, BRIDGE)}`);
    await untilPings(lab(), 'alpha', 2);
    await untilConnected(lab(), await domidOf(lab(), 'alpha'), [0]);
  });
}

export function purgeScenario(lab: () => Lab): void {
  test('disabled, removed and purged: nothing is left of the service, and the client pings on', async () => {
    await undisturbed(lab(), async () => {
      await lab().mustNicdom(
        'systemctl -q disable --now vifd && ! systemctl -q is-active vifd && dpkg --purge vifd',
        120_000,
      );
    });
    const left = await lab().nicdom(`command -v vifd; pgrep -u vifd -l; ls /run/vifd /etc/init.d/vifd /etc/xen
      find /etc /usr/lib /var/lib/systemd /run/systemd -name '*vifd*'; true`);
    expect(left.out.split('\n').filter((line) => line !== '' && !line.startsWith('ls: '))).toEqual([]);
  });
}

/** Properties of the unit. */
async function show(lab: Lab, ...names: string[]): Promise<Record<string, string>> {
  const out = await lab.mustNicdom(`systemctl show vifd -p ${names.join(' -p ')}`);
  return Object.fromEntries(out.split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2)));
}

async function journal(lab: Lab): Promise<(Record<string, string> & { MESSAGE: string })[]> {
  const fields = 'MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT';
  const out = await lab.mustNicdom(`journalctl -q -b -u vifd -o json --output-fields=${fields}`);
  return out.split('\n').map((line) => JSON.parse(line));
}

function expectRestart(out: string): void {
  const [, old, now] = /restarted (\d+) (\d+) active/.exec(out) ?? [];
  expect(now, out).toBeDefined();
  expect(now, out).not.toBe(old);
}

/**
 * While `work` is done the client's interface keeps index, carrier and settings, the kernel tells of no change of its flags or master,
 * and all its pings are answered.
 */
export async function undisturbed(lab: Lab, work: () => Promise<unknown>): Promise<void> {
  const ifname = `vif${await domidOf(lab, 'alpha')}.0`;
  const carrier = `cat /sys/class/net/${ifname}/carrier_changes`;
  const [link, changes, first] = [
    (await links(lab)).get(ifname),
    await lab.mustNicdom(`(exec ip -o monitor link >/run/monitor.log) & echo $! >/run/monitor.pid; ${carrier}`),
    await pingSequence(lab, 'alpha'),
  ];
  expect(first.length).toBeGreaterThan(0);
  await work();
  const [now, ...events] = (
    await lab.mustNicdom(`kill $(cat /run/monitor.pid); ${carrier}; grep -F ' ${ifname}:' /run/monitor.log || true`)
  ).split('\n');
  expect(now).toBe(changes);
  const kept = new RegExp(`UP,LOWER_UP>.* master ${BRIDGE} .*state UP`);
  expect(events.filter((line) => line !== '' && !kept.test(line))).toEqual([]);
  expect((await links(lab)).get(ifname)).toEqual(link);
  const more = async () => (await pingSequence(lab, 'alpha')).length > first.length + 3;
  await lab.until('alpha pings on', more, 60_000);
  const sequence = await pingSequence(lab, 'alpha');
  const from = sequence[0] ?? 0;
  expect(sequence).toEqual(sequence.map((_, i) => from + i));
}
