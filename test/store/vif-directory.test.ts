/** Which vifs are connected, for bindings: read once each, until their directory changes hands. */
import { expect, test } from 'vitest';
import { VifDirectory } from '../../src/binding/vif-directory.js';
import type { XenstoreClient } from '../../src/xenstore/client.js';
import { NICDOM, startWorld, until } from './support.js';

const DIR = `/local/domain/${NICDOM}/backend/vif/5/0`;

/** As dom0 does it: all at once, connected. */
async function attach(dom0: XenstoreClient, mac: string): Promise<void> {
  const nodes = {
    'frontend-id': '5',
    frontend: '/local/domain/5/device/vif/0',
    mac,
    handle: '0',
    type: 'vif',
    online: '1',
  };
  await dom0.transaction(async (t) => {
    await t.mkdir(DIR);
    await t.setPerms(DIR, ['n0', `r${NICDOM}`]);
    for (const [name, value] of Object.entries({
      ...nodes,
      state: '4',
      'hotplug-status': 'connected',
      script: '/vif-bridge',
    }))
      await t.write(`${DIR}/${name}`, value);
  });
}

test('not known before the first answer; another vif in the place of one; what was known while nothing answers', async () => {
  const world = await startWorld();
  const dom0 = await world.connect(0);
  await attach(dom0, '00:16:3e:00:00:01');
  let store: XenstoreClient | undefined;
  let events = 0;
  const vifs = new VifDirectory({ connect: async () => store, onEvent: () => events++ });
  const macs = async () => (await vifs.list()).vifs?.map(({ backend }) => backend.mac);
  expect(await macs()).toBeUndefined();
  store = await world.connect(NICDOM);
  expect(await macs()).toEqual(['00:16:3e:00:00:01']);
  await dom0.write(`${DIR}/state`, '5'); // a guest's driver that lets go keeps its vif
  await dom0.write(`${DIR}/hotplug-status`, '');
  expect(await macs()).toEqual(['00:16:3e:00:00:01']);
  const before = events;
  await dom0.rm(DIR);
  await attach(dom0, '00:16:3e:00:00:02');
  await until(() => events > before + 2);
  expect(await macs()).toEqual(['00:16:3e:00:00:02']);
  await dom0.rm(DIR);
  await until(() => events > before + 4);
  expect(await macs()).toEqual([]);
  expect(Reflect.get(vifs, 'renewed')).toEqual(new Set()); // else one would stay for each vif that leaves
  await attach(dom0, '00:16:3e:00:00:02');
  expect(await macs()).toEqual(['00:16:3e:00:00:02']);
  await store.close();
  expect(await macs()).toEqual(['00:16:3e:00:00:02']);
});
