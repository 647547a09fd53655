/** A wish that cannot be had harms nobody who has what is wished for. */
import { expect, test } from 'vitest';
import { eventually } from './agent-process.js';
import { useMemoryHost } from './memory-host.js';

const memory = useMemoryHost();
const GUARDED = { bridge: 'br0', mac: '00:16:3e:00:00:01', ip: '192.0.2.7' };
const refused = () => eventually(async () => (await memory.node('hotplug-status')) === 'error');

test('a vif is given no guard under a name that another interface has', async () => {
  await memory.start();
  const { host, kernel } = memory;
  await kernel.create('eth0');
  const guarded: string[] = [];
  const setGuard = kernel.setGuard.bind(kernel);
  kernel.setGuard = async (ifname, guard, table) => {
    guarded.push(ifname);
    return setGuard(ifname, guard, table);
  };
  await host.createGuest(5, [{ ...GUARDED, vifname: 'eth0' }]);
  await memory.later(20_000);
  await refused();
  expect(await memory.node('hotplug-error')).toBe(
    'the kernel refused to set ifname=eth0 of vif5.0: EEXIST (the name is taken)',
  );
  expect(guarded).toEqual([]);
});
