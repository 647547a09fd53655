/** What dom0 does by itself: waiting for a guest's network, and giving it back after the driver domain has been restarted. */
import { expect, test } from 'vitest';
import { printMeasured } from '../support/measured.js';
import { createClient, domidOf, storeVifs, untilGone, untilPings, xl } from './guests.js';
import { type Lab, timed, tookMs } from './lab.js';

/** `vifd dom0` in dom0. Resolves with exit code and output, as dom0() does. */
const vifd = (lab: Lab, words: string) => lab.dom0(`vifd dom0 ${words}`, 300_000);

/** With the client alpha from before. */
export function waitScenario(lab: () => Lab): void {
  test('dom0 wait: a guest with its network; one whose bridge is missing, of which xl says nothing; one that never comes', async () => {
    expect(await vifd(lab(), 'wait nicdom --until serving --timeout 60')).toMatchObject({ code: 0 });
    const domid = await domidOf(lab(), 'alpha');
    const { code, out } = await vifd(lab(), 'wait alpha --timeout 120');
    expect({ code, out: out.trim() }).toEqual({ code: 0, out: `alpha (domid ${domid}), vif 0: connected` });
    await untilPings(lab(), 'alpha');

    const beta = await createClient(lab(), { name: 'beta', number: 12, bridge: 'br_no' });
    const failed = await vifd(lab(), 'wait beta --timeout 120');
    expect(failed.code).toBe(1);
    expect(failed.out).toContain(`beta (domid ${beta}), vif 0: bridge "br_no" does not exist`);
    await xl(lab(), 'destroy beta');
    await untilGone(lab(), beta, 0);
    expect((await vifd(lab(), 'wait beta --timeout 1')).code).toBe(1);
    await lab().agentComplaints(); // the missing bridge
  }, 300_000);
}

const NICDOM_AGAIN = 'create /guests/nicdom.cfg \'extra="console=hvc0 rdinit=/init quiet lab_agent=vifd lab_quiet=0"\'';

/** The last of its lab: none of the others may need the first driver domain afterwards. With `keepNicdom`, and alpha. */
export function recoverScenario(lab: () => Lab): void {
  const said = async (domid: number) =>
    [...(await storeVifs(lab(), domid))].map(([devid, { mac, bridge, script, handle }]) => ({
      ...{ devid, mac, bridge, script, handle },
    }));

  test('dom0 recover: nicdom destroyed and started again, both guests ping again, without a reboot', async () => {
    const gamma = await createClient(lab(), { name: 'gamma', number: 13, vifs: 2 });
    await untilPings(lab(), 'gamma');
    const alpha = await domidOf(lab(), 'alpha');
    const before = [await said(alpha), await said(gamma)];
    await xl(lab(), 'destroy nicdom');
    const lost = await vifd(lab(), 'wait alpha --timeout 0');
    expect(lost.code).toBe(1);
    expect(lost.out).toContain('is gone; once the driver domain runs again: vifd dom0 recover');

    await xl(lab(), NICDOM_AGAIN);
    const planned = await vifd(lab(), 'recover nicdom');
    expect(planned.out.match(/^xl network-attach /gm)).toHaveLength(3);
    const { code, out } = await lab().dom0(timed('vifd dom0 recover nicdom --yes --timeout 120'), 300_000);
    printMeasured('dom0 recover: three vifs of two guests are connected', tookMs(out));
    expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining('3 of 3 vifs have their network again') });
    expect(await vifd(lab(), 'wait gamma --timeout 0')).toMatchObject({ code: 0 });
    for (const name of ['alpha', 'gamma']) await untilPings(lab(), name, 2);
    expect([await domidOf(lab(), 'alpha'), await domidOf(lab(), 'gamma')]).toEqual([alpha, gamma]);
    expect([await said(alpha), await said(gamma)]).toEqual(before);
    expect((await vifd(lab(), 'recover nicdom --yes')).out).toContain('no vif of nicdom waits for a new backend');
    // The log is a new one: agentComplaints() counts the lines of the old one.
    expect((await lab().agentLog()).split('\n').filter((line) => /"level":"(warn|error|fatal)"/.test(line))).toEqual(
      [],
    );
  }, 400_000);
}
