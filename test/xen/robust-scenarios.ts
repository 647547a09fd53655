/** What an agent must survive: its own end, and settings changed behind its back. */
import { expect, test } from 'vitest';
import { printMeasured } from '../support/measured.js';
import { createClient, domidOf, feature, isConnected, links, storeVifs, untilConnected, untilPings } from './guests.js';
import type { Lab } from './lab.js';

export function terminateScenario(lab: () => Lab): void {
  test('(e) SIGTERM ends vifd within 2 s with code 0, with the device open and the vif untouched', async () => {
    const domid = await createClient(lab(), { name: 'alpha', number: 11 });
    await untilPings(lab(), 'alpha');
    await untilConnected(lab(), domid, [0]);
    const before = (await links(lab())).get(`vif${domid}.0`);
    expect(before?.master).toBe('br0');
    await lab().killAgent();
    // Started by this very shell: only a parent can tell the exit code.
    const script = `vifd run >/run/term.log 2>&1 </dev/null & pid=$!
      for i in $(seq 300); do grep -q 'ready on' /run/term.log && break; sleep 0.1; done
      grep -q 'ready on' /run/term.log || { cat /run/term.log; exit 90; }
      ls -l /proc/$pid/fd | grep -q xen/xenbus || exit 91
      a=$(date +%s%N); kill -TERM $pid; wait $pid; code=$?
      echo "code=$code ms=$((($(date +%s%N) - a) / 1000000))"`;
    const out = await lab().mustNicdom(script, 90_000);
    const [, code, ms] = /code=(\d+) ms=(\d+)/.exec(out) ?? [];
    printMeasured('SIGTERM, with the xenstore device open: it ends', Number(ms));
    expect(code).toBe('0');
    expect(Number(ms)).toBeLessThan(2_000);
    expect((await links(lab())).get(`vif${domid}.0`)).toEqual(before);
    expect(isConnected((await storeVifs(lab(), domid)).get(0))).toBe(true);
    await lab().startAgent();
  });
}

export function driftScenario(lab: () => Lab): void {
  test('(a) queue length and checksum offload are set by vifd, not only the kernel default', async () => {
    const ifname = `vif${await domidOf(lab(), 'alpha')}.0`;
    const ifindex = (await links(lab())).get(ifname)?.ifindex;
    // Current kernels come up with 1000 anyway: only another value that does not last proves anything.
    const spoil = `ip link set ${ifname} txqueuelen 37 && cat /sys/class/net/${ifname}/tx_queue_len`;
    await lab().killAgent();
    expect(await lab().mustNicdom(spoil)).toBe('37');
    await lab().mustNicdom(`ethtool -K ${ifname} tx on`);
    expect(await feature(lab(), ifname, 'tx-checksum-ipv4')).toBe('on');
    await lab().startAgent();
    const link = await lab().until(
      'queue length repaired',
      async () => [...(await links(lab())).values()].find((one) => one.ifname === ifname && one.txqlen === 1000),
      30_000,
    );
    expect(link).toMatchObject({ ifindex, master: 'br0' });
    for (const name of ['tx-checksum-ipv4', 'tx-checksum-ipv6']) expect(await feature(lab(), ifname, name)).toBe('off');
  });
}
