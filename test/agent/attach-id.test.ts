/** The id by which the log's records of one attach are found among those of others. */
import { expect, test } from 'vitest';
import { useWorld } from './world.js';

const world = useWorld();
const idsOf = (devid: number) =>
  new Set(world.agent.log.filter((line) => line.domid === 5 && line.devid === devid).map(({ attach }) => attach));
/** Until the log is silent about it: the id counts for records of every kind. */
const left = (count: number) =>
  world.agent.saw(() => world.agent.log.filter(({ msg }) => msg === 'vif5.0 has left').length === count, 15_000);

test('all records of a vif have one id until it has left, and another when it comes again', async () => {
  await world.start();
  await world.host.createGuest(5, [{ bridge: 'none' }, { bridge: 'br0' }]);
  await world.until(5, 0, 'hotplug-status', 'error');
  await world.connected(5, 1);
  await world.agent.saw(() => idsOf(0).size > 0 && idsOf(1).size > 0);
  expect(idsOf(0).size).toBe(1);
  expect(idsOf(1).size).toBe(1);
  const [first] = idsOf(0);
  expect(first).toMatch(/^[0-9a-f]{4}-[0-9]+$/);
  expect(idsOf(1)).not.toContain(first);
  await world.host.detachVif(5, 0);
  await left(1);
  expect(idsOf(0)).toEqual(new Set([first]));
  await world.host.attachVif(5, { devid: 0, bridge: 'br0' });
  await world.connected(5, 0);
  await world.agent.saw(({ msg }) => msg.startsWith('connected vif5.0'));
  expect(idsOf(0).size).toBe(2);
  expect(world.agent.log.filter(({ domid, attach }) => domid !== undefined && attach === undefined)).toEqual([]);
});
