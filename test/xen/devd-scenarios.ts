/** (h) xl devd with Debian's vif-bridge, same machine and flags: the lab is a fair judge only if it works there too. */
import { expect, test } from 'vitest';
import { createClient, links, storeVifs, untilConnected, untilGone, untilPings, vifSpec, xl } from './guests.js';
import type { Lab } from './lab.js';

export function devdScenarios(lab: () => Lab): void {
  let domid = 0;

  test('(h) a client is attached by xl devd, and pings', async () => {
    domid = await createClient(lab(), { name: 'alpha', number: 11 });
    await untilPings(lab(), 'alpha');
    await untilConnected(lab(), domid, [0]);
    expect((await links(lab())).get(`vif${domid}.0`)).toMatchObject({ master: 'br0' });
  });

  test('(h) network-attach and network-detach with xl devd', async () => {
    await xl(lab(), `network-attach alpha ${vifSpec(11, 1)}`);
    await untilConnected(lab(), domid, [0, 1]);
    expect((await links(lab())).get(`vif${domid}.1`)).toMatchObject({ master: 'br0' });
    await xl(lab(), 'network-detach alpha 1');
    await untilGone(lab(), domid, 1);
    expect([...(await storeVifs(lab(), domid)).keys()]).toEqual([0]);
  });
}
