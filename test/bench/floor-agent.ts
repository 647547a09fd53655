/**
 * The floor under any agent written with these parts: on `state` 2 the store's and the kernel's round trips that cannot
 * be left out, for one vif after the other, and nothing around them: no validation, no plan, no log, no memory of vifs.
 */
import { featureChange } from '../../src/network/ethtool.js';
import { Kernel } from '../../src/network/kernel.js';
import { ADDR_GEN_MODE_NONE } from '../../src/network/rtnetlink.js';
import { connectXenstore } from '../../src/xenstore/client.js';

const store = await connectXenstore(process.argv[2]);
const kernel = new Kernel();
await kernel.prepare();
let turn = Promise.resolve();

async function attach(dir: string, ifname: string): Promise<void> {
  const [state, online, status] = await Promise.all(
    ['state', 'online', 'hotplug-status'].map((node) => store.readOptional(`${dir}/${node}`)),
  );
  if (state !== '2' || online !== '1' || status === 'connected') return;
  const [link, bridge] = await Promise.all([kernel.getLink(ifname), kernel.getLink('br0')]);
  if (link === undefined || bridge === undefined) throw new Error(`no ${ifname} or no br0`);
  const [addresses, features] = await Promise.all([kernel.listAddresses(link.ifindex), kernel.getFeatures(link)]);
  if (addresses.length > 0) throw new Error(`${ifname} has addresses`);
  await kernel.setFeatures(link, featureChange({ txChecksum: false }, features));
  await kernel.setLink(link, { txqlen: 1000, addrGenMode: ADDR_GEN_MODE_NONE, master: bridge.ifindex });
  await kernel.setLink(link, { up: true });
  await store.write(`${dir}/hotplug-status`, 'connected');
}

await store.watch('backend/vif', ({ path }) => {
  const [, dir, domid, devid] = /^(backend\/vif\/([0-9]+)\/([0-9]+))\/state$/.exec(path) ?? [];
  if (dir === undefined) return;
  turn = turn.then(() => attach(dir, `vif${domid}.${devid}`)).catch((error) => console.error(error));
});
console.log('ready');
