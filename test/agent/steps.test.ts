/**
 * Between any two steps of an attach something goes wrong: a request is refused, the directory vanishes, the interface
 * vanishes. The reconciler runs in this process, with a kernel of memory only, so that every single step can be hit.
 */
import { describe, expect, test } from 'vitest';
import { NetlinkError } from '../../src/errors.js';
import type { Link } from '../../src/network/rtnetlink.js';
import { eventually } from './agent-process.js';
import { useMemoryHost } from './memory-host.js';

const memory = useMemoryHost();

/** An undisturbed attach takes at least so many kernel calls. */
const STEPS = Array.from({ length: 6 }, (_, i) => i);

describe('a netlink request is refused once, at every step', () => {
  test.each(
    STEPS.flatMap((step) =>
      ['EPERM', 'EBUSY', 'EEXIST', 'ENODEV', 'EINVAL', 'ETIMEDOUT'].map((code) => [step, code] as const),
    ),
  )('step %i: %s', async (step, code) => {
    await memory.start();
    const { host, kernel } = memory;
    const first = kernel.calls;
    kernel.beforeCall = (call) => {
      if (call === first + step) throw new NetlinkError(code, 'test', 'vif5.0', 1);
    };
    await host.createGuest(5, [{ bridge: 'br0' }]);
    await memory.connected();
    expect(kernel.find('vif5.0')).toMatchObject({ master: kernel.find('br0')?.ifindex, txqlen: 1000, up: true });
    expect(await host.backendNode(5, 0, 'hotplug-error')).toBeUndefined();
  });
});

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

  test.each(CALLS.flatMap((step) => ['EPERM', 'EEXIST', 'ENODEV', 'EINVAL'].map((code) => [step, code] as const)))(
    'a request is refused once, step %i: %s',
    async (step, code) => {
      await memory.start();
      const { host, kernel } = memory;
      const first = kernel.calls;
      kernel.beforeCall = (call) => {
        if (call === first + step) throw new NetlinkError(code, 'test', 'vif5.0', 1);
      };
      await host.createGuest(5, [ROUTED]);
      await eventually(() => kernel.calls > first + step);
      await isRight();
    },
  );

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

/** An undisturbed attach takes at least so many requests. */
const MESSAGES = Array.from({ length: 16 }, (_, i) => i);

test.each(MESSAGES)(
  'the directory vanishes before request %i: forgotten, and made again it is connected',
  async (step) => {
    await memory.start();
    const { host } = memory;
    const first = memory.messages;
    let removed = false;
    memory.beforeMessage = async (message) => {
      if (message !== first + 1 + step) return;
      await host.dom0.rm('/local/domain/1/backend/vif/5');
      removed = true;
    };
    const { ok } = await host.createGuest(5, [{ bridge: 'br0' }], { connects: false });
    await eventually(() => removed);
    await eventually(() => {
      const { connected, failed } = memory.reconciler.counts();
      return connected + failed === 0;
    });
    expect(await host.backendNode(5, 0, 'state')).toBeUndefined(); // nothing of ours has brought it back
    if (ok) await host.destroyGuest(5); // else xl has given the guest up by itself
    await host.createGuest(6, [{ bridge: 'br0' }], { connects: false });
    await eventually(async () => (await host.backendNode(6, 0, 'hotplug-status')) === 'connected');
  },
);
