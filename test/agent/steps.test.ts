/**
 * Between any two steps of an attach the interface vanishes, with the reconciler in this process. What else can go wrong at each
 * step is test/model/steps.test.ts's.
 */
import { describe, expect, test } from 'vitest';
import { NetlinkError } from '../../src/errors.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { measured } from '../support/measured.js';
import { eventually } from './agent-process.js';
import { useMemoryHost } from './memory-host.js';

const memory = useMemoryHost();

/** An undisturbed attach takes at least so many kernel calls. */
const STEPS = Array.from({ length: 6 }, (_, i) => i);

test.each(STEPS)('the interface vanishes before kernel call %i, and comes again', async (step) => {
  await memory.start();
  const { host, kernel } = memory;
  const first = kernel.calls;
  kernel.beforeCall = async (call) => {
    if (call !== first + step) return;
    await kernel.remove('vif5.0');
    setTimeout(() => void kernel.create('vif5.0'), 30);
  };
  await host.createGuest(5, [{ bridge: 'br0' }]);
  expect(kernel.calls).toBeGreaterThan(first + step);
  await memory.connected();
  expect(kernel.find('vif5.0')).toMatchObject({ master: kernel.find('br0')?.ifindex, txqlen: 1000, up: true });
});

test.each([1, 3])('refused by the kernel %i times: an error that names it, and then it is done', async (times) => {
  await memory.start();
  const { host, kernel } = memory;
  let refused = 0;
  kernel.beforeChange = ({ master }, ifname) => {
    if (master !== undefined && refused++ < times) throw new NetlinkError('ENOBUFS', 'set master of', ifname, 105);
  };
  await measured(`refused by the kernel, ${times} times: connected`, 6_000, async () => {
    await host.createGuest(5, [{ bridge: 'br0' }]);
    await eventually(async () => /ENOBUFS/.test((await memory.node('hotplug-error')) ?? ''));
    await memory.connected();
  });
  expect(memory.says('error', 'ENOBUFS')).toBe(1);
});

describe('a routed vif', () => {
  const ROUTED = { script: 'vif-nat', mac: '00:16:3e:00:00:01', ip: '192.0.2.7', gatewaydev: 'br0' };
  /** It takes at least so many kernel calls. */
  const CALLS = Array.from({ length: 17 }, (_, i) => i);

  async function isRight(): Promise<void> {
    await memory.connected();
    const { kernel } = memory;
    const { ifindex } = kernel.find('vif5.0') as Link;
    await eventually(() => kernel.routes.some((route) => route.ifindex === ifindex));
    expect(kernel.routes.map(({ destination: { address } }) => address)).toEqual(['192.0.2.7']);
    expect(kernel.addresses.map(({ prefix }) => prefix.address)).toEqual(['192.0.2.134']);
    expect([await kernel.listGuarded('inet'), await kernel.listGuarded('nat')]).toEqual([['vif5.0'], ['vif5.0']]);
    expect(await memory.node('hotplug-error')).toBeUndefined();
  }

  test.each(CALLS)('the interface vanishes before kernel call %i, and comes again', async (step) => {
    await memory.start();
    const { host, kernel } = memory;
    const first = kernel.calls;
    kernel.beforeCall = async (call) => {
      if (call !== first + step) return;
      await kernel.remove('vif5.0');
      setTimeout(() => void kernel.create('vif5.0'), 30);
    };
    await host.createGuest(5, [ROUTED]);
    await eventually(() => kernel.calls > first + step);
    await eventually(() => kernel.find('vif5.0')?.up === true);
    await isRight();
  });
});
