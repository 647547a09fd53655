/**
 * What a driver domain with 192 MB bears, and what dom0 does to its domains while they run. In the lab of the Debian package: client
 * `alpha` pings all the time, and unless a scenario says so, none of its packets is lost and its interface is not touched.
 */
import { expect, test } from 'vitest';
import { printMeasured } from '../support/measured.js';
import {
  createClient,
  describeClient,
  domidOf,
  isConnected,
  links,
  pingSequence,
  storeVifs,
  untilConnected,
  untilPings,
  vifSpec,
  xl,
} from './guests.js';
import { type Lab, timed, tookMs } from './lab.js';
import { BRIDGE, undisturbed } from './systemd-scenarios.js';

/** With alpha's one: as many as the 1000 nodes of a domain are enough for, 24 each beside its own. */
const CROWD = 39;
/** Of a 192 MB domain, beside its kernel and a whole Debian. */
const LEFT_MB = 48;
const RESIDENT_MB = 64;
/** Each is eight states, written without waiting for anybody, and the driver off and on. */
const FLAPS = 40;
/** Longer than the neighbour's address is believed, so that a few packets may be lost meanwhile. */
const PAUSE_S = 8;

export function crowdScenario(lab: () => Lab): void {
  test('40 vifs: the next one is refused with a sentence and harms none; raised as it says, the quota has room', async () => {
    const alpha = await domidOf(lab(), 'alpha');
    await undisturbed(lab(), async () => {
      await describeClient(lab(), { name: 'crowd', number: 40, vifs: CROWD, bridge: BRIDGE });
      // Paused it never connects: its backends are vifs like any other, without the time that 39 netfronts would take.
      await xl(lab(), 'create -p /guests/crowd.cfg', 300_000);
      const crowd = await domidOf(lab(), 'crowd');
      const waiting = async () => {
        const vifs = [...(await storeVifs(lab(), crowd)).values()];
        return vifs.filter((vif) => vif.state === '2' && vif['hotplug-status'] === 'connected').length;
      };
      await lab().until('the crowd is attached', async () => (await waiting()) === CROWD, 60_000);
      const refused = await lab().dom0(timed(`xl network-attach alpha ${vifSpec(11, 1, BRIDGE)}`));
      expect(refused.code).not.toBe(0);
      printMeasured('one vif more than the quota takes: xl has failed', tookMs(refused.out));
      const complaints = (await lab().agentComplaints()).join('\n');
      expect(complaints).toMatch(new RegExp(`vif${alpha}.1: .*quota of this driver domain is used up.* about 40 fit`));
      expect(await waiting()).toBe(CROWD);
      const { residentMb, leftMb } = await memory(lab());
      console.log(`192 MB with 40 vifs: vifd ${residentMb} MB, ${leftMb} MB left`);
      expect(residentMb).toBeLessThan(RESIDENT_MB);
      expect(leftMb).toBeGreaterThan(LEFT_MB);

      await lab().must(
        /in dom0: (xenstore-control quota set nodes \d+)/.exec(complaints)?.[1] ?? 'no remedy in the log',
      );
      await lab().dom0('xl network-detach alpha 1'); // what xl left of its failed attempt; it complains of that
      await xl(lab(), `network-attach alpha ${vifSpec(11, 2, BRIDGE)}`);
      await untilConnected(lab(), alpha, [0, 1]);
      await xl(lab(), 'network-detach alpha 1');
      await xl(lab(), 'destroy crowd');
      expect(await storeVifs(lab(), crowd)).toEqual(new Map());
    });
    await lab().agentComplaints(); // the refused one's end
  }, 900_000);
}

export function flapScenario(lab: () => Lab): void {
  test('a guest tears its frontend down and up as fast as it can: the others do not feel it, and it gets its network again', async () => {
    const before = await memory(lab());
    await undisturbed(lab(), async () => {
      const flapper = await createClient(lab(), { name: 'flapper', number: 12, bridge: BRIDGE, flaps: FLAPS });
      const flapped = (text: string) => async () => (await lab().guestLog('flapper')).includes(`LAB ${text}`);
      await lab().until('half of the flaps', flapped(`flapped ${FLAPS / 2}\n`), 120_000);
      const half = await memory(lab());
      await lab().until('all flaps', flapped(`flapped ${FLAPS}\n`), 120_000);
      const after = await memory(lab());
      console.log(`flaps: ${JSON.stringify({ before, half, after })}`);
      expect(after.residentMb).toBeLessThan(half.residentMb + 4);
      // Xenstore and netback pass over most of the states; more than the first connection has come of it.
      const connects = await lab().mustNicdom(`dmesg | grep -c 'vif${flapper}.0: Guest Rx ready'`);
      expect(Number(connects)).toBeGreaterThan(3);
      await untilPings(lab(), 'flapper', 2);
      const anew = (await lab().guestLog('flapper')).match(/LAB bound anew/g) ?? [];
      console.log(`flaps: ${connects.trim()} connects, then the guest's driver was bound anew ${anew.length} times`);
      await untilConnected(lab(), flapper, [0]);
      await xl(lab(), 'destroy flapper');
      expect(await storeVifs(lab(), flapper)).toEqual(new Map());
      // Rings that the guest has taken back: netback's complaint of them is passed on, of this vif and of no other.
      const complaints = await lab().agentComplaints();
      expect(complaints.filter((line) => !line.startsWith(`vif${flapper}.0: `))).toEqual([]);
      expect(complaints.length).toBeLessThan(FLAPS);
    });
  }, 600_000);
}

export function pauseScenario(lab: () => Lab): void {
  test('xl pause, of the client and of the driver domain itself: afterwards all goes on where it was', async () => {
    const pause = (name: string) => lab().must(`xl pause ${name} && sleep ${PAUSE_S} && xl unpause ${name}`);
    await undisturbed(lab(), () => pause('alpha'));
    const before = (await links(lab())).get(`vif${await domidOf(lab(), 'alpha')}.0`);
    const last = async () => (await pingSequence(lab(), 'alpha')).at(-1) ?? 0;
    const from = await last();
    const out = await lab().must(`xl pause nicdom && sleep ${PAUSE_S} || exit\n${untilAnswered('xl unpause nicdom')}`);
    printMeasured(`the driver domain was paused for ${PAUSE_S} s: a guest is answered`, tookMs(out));
    await lab().until('alpha pings on', async () => (await last()) > from + PAUSE_S + 3, 60_000);
    const lost = PAUSE_S + 1;
    expect((await pingSequence(lab(), 'alpha')).filter((seq) => seq > from).length).toBeGreaterThan(
      (await last()) - from - lost,
    );
    expect((await links(lab())).get(before?.ifname ?? '')).toEqual(before);
    expect(await lab().mustNicdom('systemctl is-active vifd; vifd status >/dev/null && echo well')).toBe(
      'active\nwell',
    );
  }, 600_000);
}

export function saveScenario(lab: () => Lab): void {
  test('xl save and xl restore: another domain id, and the network is there again', async () => {
    const before = await domidOf(lab(), 'alpha');
    const file = '/run/alpha.save';
    const out = await lab().must(
      `xl save alpha ${file} || exit\n${untilAnswered(`xl restore ${file}`)}; rm ${file}`,
      300_000,
    );
    printMeasured('a guest was restored: it is answered', tookMs(out));
    const after = await domidOf(lab(), 'alpha');
    expect(after).toBeGreaterThan(before);
    expect(await storeVifs(lab(), before)).toEqual(new Map());
    expect(isConnected((await storeVifs(lab(), after)).get(0))).toBe(true);
    expect(tookMs(out)).toBeLessThan(10_000);
  }, 600_000);
}

/** A command of dom0's after which that is done, and alpha's next ping answered: how long that took says tookMs(). */
const untilAnswered = (work: string) => `log=/var/log/xen/console/guest-alpha.log
  n=$(grep -c seq= $log) && ${work} || exit
  ${timed('for i in $(seq 300); do [ $(grep -c seq= $log) -gt $n ] && break; sleep 0.1; done')}`;

/** Of the driver domain: what vifd has, and what is left, in MB. */
async function memory(lab: Lab): Promise<{ residentMb: number; leftMb: number }> {
  const out = await lab.mustNicdom(
    "cat /proc/$(systemctl show -P MainPID vifd)/status /proc/meminfo | awk '/^(VmRSS|MemAvailable):/ { print $2 }'",
  );
  const [residentMb = Number.NaN, leftMb = Number.NaN] = out.split('\n').map((kb) => Math.round(Number(kb) / 1024));
  return { residentMb, leftMb };
}
