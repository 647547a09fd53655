/** The scenarios that hold for every xenstored. Each is one test; they share one lab, and client `alpha` from (a) on. */
import { expect, test } from 'vitest';
import {
  createClient,
  domidOf,
  feature,
  isConnected,
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

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Client `alpha` as (a) left it: also after a scenario that failed halfway, so that one failure stays one. */
async function alphaWithOneVif(lab: Lab): Promise<number> {
  const domid = await domidOf(lab, 'alpha');
  for (const devid of (await storeVifs(lab, domid)).keys())
    if (devid !== 0) await xl(lab, `network-detach alpha ${devid}`);
  return domid;
}

export function attachScenario(lab: () => Lab): void {
  test('(a) a client is attached as configured, and pings', async () => {
    const domid = await createClient(lab(), { name: 'alpha', number: 11 });
    await untilPings(lab(), 'alpha');
    await untilConnected(lab(), domid, [0]);
    // The exact bytes: netback compares nine of them.
    const status = `/local/domain/$(xl domid nicdom)/backend/vif/${domid}/0/hotplug-status`;
    expect(await lab().must(`xenstore-read -R ${status} | od -An -c | tr -d ' '`)).toMatch(/^connected(\\n)?$/);
    const ifname = `vif${domid}.0`;
    const link = (await links(lab())).get(ifname);
    expect(link).toMatchObject({ master: 'br0', txqlen: 1000, mtu: 1500, address: 'fe:ff:ff:ff:ff:ff' });
    expect(link?.flags).toContain('UP');
    expect(link?.flags).toContain('LOWER_UP');
    expect(await feature(lab(), ifname, 'tx-checksum-ipv4')).toBe('off');
    expect(await feature(lab(), ifname, 'tx-checksum-ipv6')).toBe('off');
    expect((await storeVifs(lab(), domid)).get(0)).not.toHaveProperty('hotplug-error');
  });
}

export function attachDetachScenario(lab: () => Lab): void {
  test('(b) network-attach eight times, network-detach eight times', async () => {
    const domid = await alphaWithOneVif(lab());
    for (const devid of range(1, 8)) await xl(lab(), `network-attach alpha ${vifSpec(11, devid)}`);
    await untilConnected(lab(), domid, range(0, 8), 90_000);
    const attached = await links(lab());
    for (const devid of range(1, 8))
      expect(attached.get(`vif${domid}.${devid}`)).toMatchObject({ master: 'br0', txqlen: 1000 });
    for (const devid of range(1, 8)) {
      const ms = await xl(lab(), `network-detach alpha ${devid}`);
      // From 10 s on it would be dom0's time-out and not the agent.
      expect(ms).toBeLessThan(10_000);
      await untilGone(lab(), domid, devid, 5_000);
    }
    expect([...(await storeVifs(lab(), domid)).keys()]).toEqual([0]);
    expect([...(await links(lab())).keys()].filter((name) => name.startsWith(`vif${domid}.`))).toEqual([
      `vif${domid}.0`,
    ]);
  });
}

export function manyVifsScenario(lab: () => Lab): void {
  test('(c) a guest with 16 vifs is connected, and destroyed with no error of libxl', async () => {
    const domid = await createClient(lab(), { name: 'sixteen', number: 16, vifs: 16 });
    await untilConnected(lab(), domid, range(0, 15), 120_000);
    const attached = await links(lab());
    for (const devid of range(0, 15)) expect(attached.get(`vif${domid}.${devid}`)).toMatchObject({ master: 'br0' });
    await xl(lab(), 'destroy sixteen');
    for (const devid of range(0, 15)) await untilGone(lab(), domid, devid, 5_000);
    expect((await lab().dom0('xl domid sixteen')).code).not.toBe(0);
    expect([...(await links(lab())).keys()].filter((name) => name.startsWith(`vif${domid}.`))).toEqual([]);
  });
}

export function rebootScenario(lab: () => Lab): void {
  test('(d) a guest reboots: new domain id, attached again, pings', async () => {
    const before = await domidOf(lab(), 'alpha');
    const pings = (await lab().guestLog('alpha')).split('LAB ping ok').length - 1;
    await xl(lab(), 'reboot alpha');
    await untilPings(lab(), 'alpha', pings + 1);
    const after = await domidOf(lab(), 'alpha');
    expect(after).toBeGreaterThan(before);
    await untilConnected(lab(), after, [0]);
    expect((await links(lab())).get(`vif${after}.0`)).toMatchObject({ master: 'br0', txqlen: 1000 });
    expect((await links(lab())).has(`vif${before}.0`)).toBe(false);
    expect(await storeVifs(lab(), before)).toEqual(new Map());
  });
}

export function killScenario(lab: () => Lab): void {
  test('(e) the agent is killed while a client pings: no packet lost, nothing touched, new vifs work', async () => {
    const domid = await alphaWithOneVif(lab());
    const ifname = `vif${domid}.0`;
    const changes = `cat /sys/class/net/${ifname}/carrier_changes`;
    const [link, carrier, first] = [
      (await links(lab())).get(ifname),
      await lab().mustNicdom(changes),
      await pingSequence(lab(), 'alpha'),
    ];
    expect(first.length).toBeGreaterThan(0);
    await lab().mustNicdom('ip monitor link >/run/ip-monitor.log 2>&1 & echo $! >/run/ip-monitor.pid');
    await lab().killAgent();
    await xl(lab(), `network-attach alpha ${vifSpec(11, 1)}`);
    await lab().startAgent();
    // The one of the time without an agent, and one more after it.
    await untilConnected(lab(), domid, [0, 1]);
    await xl(lab(), `network-attach alpha ${vifSpec(11, 2)}`);
    await untilConnected(lab(), domid, [0, 1, 2]);
    await lab().mustNicdom('kill $(cat /run/ip-monitor.pid)');
    const events = (await lab().mustNicdom('cat /run/ip-monitor.log')).split('\n');
    expect(events.some((line) => line.includes(`vif${domid}.1`))).toBe(true);
    expect(events.filter((line) => line.includes(`${ifname}:`) || line.includes(`${ifname}@`))).toEqual([]);
    expect((await links(lab())).get(ifname)).toEqual(link);
    expect(await lab().mustNicdom(changes)).toBe(carrier);
    const more = async () => (await pingSequence(lab(), 'alpha')).length > first.length + 5;
    await lab().until('six more pings', more, 60_000);
    const sequence = await pingSequence(lab(), 'alpha');
    expect(sequence).toEqual(range(sequence[0] ?? 0, (sequence[0] ?? 0) + sequence.length - 1));
  });
}

export function missingBridgeScenario(lab: () => Lab): void {
  test('(f) the bridge is missing: error in xenstore; it appears: connected; it is made anew: joined again', async () => {
    const domid = await alphaWithOneVif(lab());
    await xl(lab(), `network-attach alpha ${vifSpec(11, 1, 'brlate')}`);
    const failed = await lab().until(
      'hotplug-status error',
      async () => [...(await storeVifs(lab(), domid)).values()].find((vif) => vif['hotplug-status'] === 'error'),
      15_000,
    );
    expect(failed?.['hotplug-error']).toContain('brlate');
    await lab().mustNicdom('ip link add brlate type bridge && ip link set brlate up');
    const seconds = Date.now();
    await untilConnected(lab(), domid, [0, 1], 15_000);
    console.log(`bridge made -> connected seen ${Date.now() - seconds} ms later`);
    expect((await storeVifs(lab(), domid)).get(1)).not.toHaveProperty('hotplug-error');
    expect((await links(lab())).get(`vif${domid}.1`)).toMatchObject({ master: 'brlate' });
    await lab().mustNicdom('ip link delete brlate && ip link add brlate type bridge && ip link set brlate up');
    const joined = async () => (await links(lab())).get(`vif${domid}.1`)?.master === 'brlate';
    await lab().until('joined the new bridge', joined, 15_000);
    expect(isConnected((await storeVifs(lab(), domid)).get(1))).toBe(true);
    const complaints = await lab().agentComplaints();
    expect(complaints.some((line) => line.includes('brlate'))).toBe(true);
    expect(complaints.filter((line) => !line.includes('brlate'))).toEqual([]);
    await xl(lab(), 'network-detach alpha 1');
    await untilGone(lab(), domid, 1);
  });
}

/**
 * At once the guest may lose a race of its own: Linux writes state 6 into the new directory when it is not yet done with the old
 * device (end of xenbus_dev_remove), and dom0 leaves it only some 40 ms. What vifd owes is there in either case.
 */
export function reattachScenario(lab: () => Lab): void {
  test('(g) the same devid is detached and attached again, at once and after the guest has seen it', async () => {
    const domid = await alphaWithOneVif(lab());
    await xl(lab(), `network-attach alpha ${vifSpec(11, 1)}`);
    await untilConnected(lab(), domid, [0, 1]);
    for (const [round, pause] of [0, 0, 0, 3, 3].entries()) {
      const vif = vifSpec(11, 0x20 + round);
      const out = await lab().must(
        `xl network-detach alpha 1 && sleep ${pause} && xl network-attach alpha ${vif}`,
        90_000,
      );
      expect(out).not.toMatch(/error/i);
      await lab().until(
        `vif ${domid}/1 of round ${round} attached`,
        async () => {
          const now = (await storeVifs(lab(), domid)).get(1);
          return now?.mac === `00:16:3e:77:0b:${(0x20 + round).toString(16)}` && now['hotplug-status'] === 'connected';
        },
        30_000,
      );
      expect((await links(lab())).get(`vif${domid}.1`)).toMatchObject({ master: 'br0', txqlen: 1000 });
      if (pause > 0) await untilConnected(lab(), domid, [0, 1]);
    }
    await xl(lab(), 'network-detach alpha 1');
    await untilGone(lab(), domid, 1);
  });
}

/** Each opens the device a second time, beside the agent: the C xenstored must not mind either. */
export function operatorScenario(lab: () => Lab): void {
  test('status, explain and doctor tell what is so, beside the running agent', async () => {
    const domid = await alphaWithOneVif(lab());
    const status = JSON.parse(await lab().mustNicdom('vifd status --json')) as { vifs: Record<string, unknown>[] };
    expect(status.vifs).toHaveLength(1);
    expect(JSON.stringify(status.vifs[0])).toContain(`"vif${domid}.0"`);
    expect(await lab().mustNicdom(`vifd explain vif${domid}.0`)).not.toMatch(/wrong/i);
    const doctor = await lab().nicdom('vifd doctor');
    console.log(doctor.out);
    expect(doctor.code, doctor.out).toBe(0);
    await xl(lab(), `network-attach alpha ${vifSpec(11, 1, 'brnone')}`);
    const failed = async () => (await lab().nicdom('vifd status')).code === 1;
    await lab().until('status says 1', failed, 20_000);
    const { code, out } = await lab().nicdom(`vifd explain ${domid}/1`);
    expect(out).toContain('brnone');
    expect(code).toBe(1);
    await xl(lab(), 'network-detach alpha 1');
    await untilGone(lab(), domid, 1);
    const complaints = await lab().agentComplaints();
    expect(complaints.filter((line) => !line.includes('brnone'))).toEqual([]);
  });
}

export function reloadScenario(lab: () => Lab): void {
  test('SIGHUP: a changed configuration is brought to a running vif, a bad one is refused', async () => {
    const domid = await alphaWithOneVif(lab());
    const qlen = async () => (await links(lab())).get(`vif${domid}.0`)?.txqlen;
    const reload = (text: string) =>
      lab().mustNicdom(`mkdir -p /etc/xen; printf '${text}' >/etc/xen/vifd.toml; kill -HUP $(cat /run/lab-agent.pid)`);
    await reload('[vif]\\nqlen = 500\\n');
    await lab().until('queue length 500', async () => (await qlen()) === 500, 20_000);
    await reload('[vif]\\nqlan = 7\\n');
    await lab().until(
      'the fault is in the log',
      async () => (await lab().agentComplaints()).some((line) => line.includes('vif.qlan')),
      20_000,
    );
    expect(await qlen()).toBe(500);
    await lab().mustNicdom('rm /etc/xen/vifd.toml; kill -HUP $(cat /run/lab-agent.pid)');
    await lab().until('queue length 1000', async () => (await qlen()) === 1000, 20_000);
    await lab().agentComplaints(); // the repairs
  });
}

export function monitorScenario(lab: () => Lab): void {
  test('vifd monitor shows a vif coming, beside the running agent, and ends cleanly with Ctrl-C', async () => {
    const domid = await alphaWithOneVif(lab());
    await lab().mustNicdom(
      'setsid vifd monitor --json >/run/monitor.json 2>/run/monitor.err </dev/null & echo $! >/run/monitor.pid; sleep 4',
    );
    await xl(lab(), `network-attach alpha ${vifSpec(11, 1)}`);
    await untilConnected(lab(), domid, [0, 1]);
    await xl(lab(), 'network-detach alpha 1');
    const ended = await lab().nicdom(
      'pid=$(cat /run/monitor.pid); kill -INT $pid; for i in $(seq 50); do kill -0 $pid 2>/dev/null || exit 0; sleep 0.1; done; exit 1',
    );
    expect(ended.code).toBe(0);
    expect(await lab().mustNicdom('cat /run/monitor.err')).toBe('');
    const lines = (await lab().mustNicdom('cat /run/monitor.json')).split('\n').map((line) => JSON.parse(line));
    const seen = JSON.stringify(lines);
    expect(seen).toContain(`backend/vif/${domid}/1/state`);
    expect(seen).toContain('InitWait');
    expect(seen).toContain(`backend/vif/${domid}/1/hotplug-status`);
  });
}
