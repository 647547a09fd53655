/** What a vif owes to its neighbours, to its guest and to the log: rules that need one event or one value out of place. */
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { ConnectionError, NetlinkError } from '../../src/errors.js';
import { GuestMtu } from '../../src/vif/frontend.js';
import { blameNetback } from '../../src/vif/netback-fault.js';
import { eventually } from './agent-process.js';
import { useMemoryHost } from './memory-host.js';

const memory = useMemoryHost();
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const BACKEND = '/local/domain/1/backend/vif/5/0';

async function attached(vif: Parameters<typeof memory.host.createGuest>[1][number] = {}): Promise<void> {
  await memory.start();
  await memory.host.createGuest(5, [{ bridge: 'br0', ...vif }]);
  await memory.connected();
  await eventually(async () => (await memory.node('state')) === '4');
  await memory.reconciler.scan();
}

const guestMtu = () => memory.host.dom0.readOptional('/local/domain/5/device/vif/0/mtu');
const vif = () => memory.kernel.find('vif5.0');

describe('MTU', () => {
  test('a bridge that shrank to another guest’s packets does not drag the vif along', async () => {
    await attached();
    memory.kernel.change('br0', { mtu: 1400 });
    await memory.later(20_000);
    expect(vif()?.mtu).toBe(1500);
    expect(await guestMtu()).toBe('1500');
  });

  test('taken from the bridge when it joined, it is kept against other hands', async () => {
    await attached();
    memory.kernel.change('vif5.0', { mtu: 1300 });
    await eventually(() => vif()?.mtu === 1500);
  });

  test('one that is refused is said once, not tried for ever, and the guest is told what is in force', async () => {
    await memory.start();
    let tries = 0;
    memory.kernel.beforeChange = ({ mtu }) => {
      if (mtu !== 9000) return;
      tries++;
      throw new NetlinkError('EINVAL', 'set mtu=9000 of', 'vif5.0', 22);
    };
    await memory.host.createGuest(5, [{ bridge: 'br0', mtu: 9000 }]);
    await memory.connected();
    await eventually(async () => (await memory.node('state')) === '4');
    await memory.later(20_000);
    const before = tries;
    for (let i = 0; i < 3; i++) await memory.later(20_000);
    expect(tries).toBe(before);
    expect(memory.says('warn', 'repaired')).toBe(0);
    expect(memory.says('warn', 'keeps MTU 1500')).toBe(1);
    expect(await guestMtu()).toBe('1500');
  });

  test('a guest that keeps rewriting its mtu node harms nobody, itself included', async () => {
    await memory.start();
    await memory.stopReconciler();
    await memory.host.createGuest(5, [{ bridge: 'br0', mtu: 1400 }], { connects: false });
    const rewrite = () => memory.host.dom0.write('/local/domain/5/device/vif/0/mtu', String(Math.random()));
    const rewriting = setInterval(() => void rewrite().catch(() => undefined), 1);
    onTestFinished(() => clearInterval(rewriting));
    const seen: (string | undefined)[] = [];
    await memory.host.nicdom.watch('backend/vif', async ({ path }) => {
      if (path.endsWith('hotplug-status')) seen.push(await memory.node('hotplug-status'));
    });
    await memory.startReconciler();
    await memory.connected();
    expect(seen).not.toContain('error');
  });

  test('told to the guest only where it has a node for that, in dom0 too', async () => {
    await memory.start();
    const key = { domid: 9, devid: 0 };
    for (const [store, privileged] of [
      [memory.host.dom0, true],
      [memory.host.nicdom, false],
    ] as const) {
      expect(await new GuestMtu(key, { store, privileged }).tell(1400, undefined)).toBe(false);
      expect(await memory.host.dom0.readOptional('/local/domain/9/device/vif/0/mtu')).toBeUndefined();
    }
  });
});

describe('what the kernel wrote of a fault', () => {
  const error = 'error/backend/vif/5/0/error';

  test('is no reason any more once the driver works: a reload in the guest is no error', async () => {
    await attached();
    await memory.host.nicdom.write(error, '22 reading script');
    await memory.later(20_000);
    expect(await memory.host.nicdom.readOptional(error)).toBeUndefined();
    expect(memory.says('warn', '22 reading script')).toBe(1);
    await memory.host.netfront(5, 0).close();
    await memory.later(20_000);
    expect(await memory.node('hotplug-status')).toBe('connected');
  });

  test('is said once, whatever numbers a guest has in it', async () => {
    await attached();
    for (const ref of [8, 9, 10]) {
      await memory.host.nicdom.write(error, `2 mapping shared-frames ${ref}/${ref + 1} port ${ref}`);
      await memory.later(20_000);
      expect(await memory.host.nicdom.readOptional(error)).toBeUndefined();
    }
    expect(memory.says('warn', 'mapping shared-frames')).toBe(1);
  });

  test('leaves no node behind, not even that of the guest', async () => {
    await attached();
    await memory.host.nicdom.write(error, '22 reading script');
    expect(await memory.host.detachVif(5, 0)).toMatchObject({ ok: true });
    expect(await memory.host.nicdom.readOptional('error/backend/vif/5')).toBeUndefined();
  });

  test('goes with the vif', async () => {
    await attached();
    await memory.host.nicdom.write(error, '22 reading script');
    expect(await memory.host.detachVif(5, 0)).toMatchObject({ ok: true, errors: [] });
    expect(await memory.host.nicdom.readOptional(error)).toBeUndefined();
  });
});

describe('what dom0 wrote once', () => {
  test.each(Array.from({ length: 24 }, (_, i) => i))('is read again if it changes before request %i', async (step) => {
    await memory.start();
    memory.kernel.addBridge('br1');
    const first = memory.messages;
    memory.beforeMessage = async (message) => {
      if (message === first + 1 + step && (await memory.node('bridge')) === 'br0')
        await memory.dom0Write('bridge', 'br1');
    };
    await memory.host.createGuest(5, [{ bridge: 'br0' }]);
    await memory.connected();
    if ((await memory.node('bridge')) === 'br0') await memory.dom0Write('bridge', 'br1'); // an attach of fewer requests
    await eventually(() => vif()?.master === memory.kernel.find('br1')?.ifindex);
  });

  test('counts at the moment of "connected": never first one bridge and then the right one', async () => {
    await memory.start();
    const { kernel, host } = memory;
    kernel.addBridge('br1');
    const masters: (number | undefined)[] = [];
    await host.nicdom.watch('backend/vif', async ({ path }) => {
      if (path.endsWith('hotplug-status') && (await memory.node('hotplug-status')) === 'connected')
        masters.push(vif()?.master);
    });
    await host.netback.stop(); // state 2 comes by hand
    const creating = host.createGuest(5, [{ bridge: 'br0' }], { connects: false }).catch(() => undefined);
    await eventually(async () => (await memory.node('bridge')) === 'br0');
    await sleep(100);
    await memory.dom0Write('bridge', 'br1');
    await kernel.create('vif5.0');
    await memory.dom0Write('state', '2');
    await creating;
    await eventually(() => masters.length > 0);
    expect(masters[0]).toBe(kernel.find('br1')?.ifindex);
  });

  test('is read again by the periodic scan, for an event may be lost', async () => {
    await attached();
    memory.kernel.addBridge('br1');
    memory.deaf = true;
    await memory.dom0Write('bridge', 'br1');
    await memory.later(20_000);
    expect(vif()?.master).toBe(memory.kernel.find('br1')?.ifindex);
  });

  test('and is not used in bridge mode is no reason to refuse the vif when it is wrong: one warning', async () => {
    await memory.start();
    await memory.host.createGuest(5, [{ bridge: 'br0', rate: 'ten', ip: 'example' }]);
    await memory.connected();
    for (let i = 0; i < 3; i++) await memory.later(20_000);
    expect(memory.says('warn', 'node "rate" is "ten"')).toBe(1);
    expect(memory.says('warn', 'node "ip" is "example"')).toBe(1);
  });

  test('a bridge that is not named is warned of once', async () => {
    await memory.start();
    await memory.host.createGuest(5, [{ bridge: '' }]);
    await memory.connected();
    for (let i = 0; i < 3; i++) await memory.later(20_000);
    expect(memory.says('warn', 'dom0 named no bridge; using br0')).toBe(1);
  });
});

describe('nodes that are not as they must be', () => {
  test('a hotplug-status that vifd may not write is an error, not a vif that has gone', async () => {
    await memory.start();
    await memory.host.createGuest(5, [{ bridge: 'none' }], { connects: false }).catch(() => undefined);
    await eventually(async () => (await memory.node('hotplug-status')) === 'error');
    await memory.host.dom0.setPerms(`${BACKEND}/hotplug-status`, ['n0', 'r1']);
    memory.kernel.addBridge('none');
    await eventually(() => memory.says('error', 'xenstore refused a request') > 0);
    expect(memory.reconciler.counts()).toMatchObject({ failed: 1 });
    await memory.host.dom0.setPerms(`${BACKEND}/hotplug-status`, ['n1', 'r0']);
    await eventually(async () => (await memory.node('hotplug-status')) === 'connected');
  });

  test('a vif without "online" is an error, and is not removed', async () => {
    await attached();
    await memory.host.dom0.rm(`${BACKEND}/online`);
    await eventually(async () => (await memory.node('hotplug-error'))?.includes('node "online" is missing') === true);
    for (let i = 0; i < 3; i++) await memory.later(10_000);
    expect(await memory.node('state')).toBe('4');
  });

  test('a path that cannot be a vif’s is said once', async () => {
    await memory.start();
    await memory.host.dom0.write('/local/domain/1/backend/vif/05/0/state', '1');
    for (let i = 0; i < 3; i++) await memory.later(20_000);
    expect(memory.says('warn', 'backend/vif/05/0')).toBe(1);
  });

  test('where no node can be made any more, the status alone tells the error', async () => {
    await memory.start();
    await memory.host.createGuest(5, [{ bridge: 'br0' }]);
    await memory.connected();
    for (let i = 0; ; i++) {
      const full = await memory.host.nicdom.write(`data/${i % 10}/${i}`, '').then(
        () => false,
        () => true,
      );
      if (full) break;
    }
    await memory.kernel.remove('br0');
    memory.kernel.change('vif5.0', { master: 0 }); // as the kernel does with its ports
    await eventually(async () => (await memory.node('hotplug-status')) === 'error');
    expect(await memory.node('hotplug-error')).toBeUndefined();
  });
});

test.each([
  [1, 2],
  [undefined, 6],
])('a scan of %s vif at a time leaves room for what is urgent', async (atOnce, most) => {
  await memory.start();
  const { kernel, host, reconciler } = memory;
  await host.createGuest(
    5,
    Array.from({ length: 8 }, () => ({ bridge: 'br0' })),
  );
  for (let devid = 0; devid < 8; devid++)
    await eventually(async () => (await host.backendNode(5, devid, 'state')) === '4');
  await sleep(300);
  let [active, max] = [0, 0];
  kernel.beforeCall = async () => {
    max = Math.max(max, ++active);
    await sleep(5);
    active--;
  };
  await reconciler.scan(atOnce);
  kernel.beforeCall = () => {};
  // Each vif asks for its interface and its bridge side by side.
  if (atOnce === 1) expect(max).toBe(most);
  else expect(max).toBeGreaterThanOrEqual(most);
});

describe('a directory that is made anew', () => {
  /** dom0's single commit, as xl network-detach and -attach within the same moment. */
  async function remake(state: string, online = '1', bridge = 'br0'): Promise<void> {
    const { dom0 } = memory.host;
    await dom0.transaction(async (tx) => {
      const nodes = await Promise.all(
        ['frontend', 'frontend-id', 'script', 'handle', 'type'].map(
          async (name) => [name, await tx.read(`${BACKEND}/${name}`)] as const,
        ),
      );
      await tx.rm(BACKEND);
      await tx.mkdir(BACKEND);
      await tx.setPerms(BACKEND, ['n1', 'r5']);
      for (const [name, value] of [
        ...nodes,
        ['bridge', bridge],
        ['hotplug-status', ''],
        ['online', online],
        ['state', state],
      ])
        await tx.write(`${BACKEND}/${name}`, value as string);
    });
  }

  test('is not removed by the grace of the one before: online counts, too', async () => {
    await attached();
    await memory.host.netback.stop();
    await memory.host.dom0.write(`${BACKEND}/online`, '0');
    await memory.dom0Write('state', '6');
    await eventually(() => memory.reconciler.counts().leaving === 1);
    memory.deaf = true;
    await remake('6');
    for (let i = 0; i < 3; i++) await memory.later(1_000);
    expect(await memory.node('state')).toBe('6');
  });

  test('is not told "connected" by a look at the one before', async () => {
    await memory.start();
    let remade = false;
    memory.kernel.beforeChange = async ({ up }) => {
      if (!up || remade) return; // the last step of an attach
      remade = true;
      await memory.host.netback.stop();
      await remake('1');
      await sleep(20);
    };
    await memory.host.createGuest(5, [{ bridge: 'br0' }], { connects: false });
    await eventually(() => remade);
    await sleep(100);
    expect(await memory.node('hotplug-status')).toBe('');
  });

  test('a script that asks is told of the new one, not what is known of the one before', async () => {
    await attached();
    await memory.later(0);
    await sleep(50); // what is dropped after a scan has asked the kernel
    let remade = false;
    memory.kernel.beforeCall = async () => {
      if (remade) return; // in the midst of the look that the script's question brings
      remade = true;
      await remake('2', '1', 'none');
      await sleep(20);
    };
    const vif = await memory.reconciler.until(
      { domid: 5, devid: 0 },
      ({ phase }) => phase !== 'new' && phase !== 'waiting',
    );
    expect([remade, vif?.phase]).toEqual([true, 'failed']);
  });

  test('a failed one gets new patience, and all that was learnt of it is forgotten', async () => {
    await memory.start();
    await memory.host.createGuest(5, [{ bridge: 'none' }], { connects: false }).catch(() => undefined);
    await eventually(async () => (await memory.node('hotplug-status')) === 'error');
    await memory.host.netback.stop();
    await remake('1');
    await sleep(500);
    expect(await memory.node('hotplug-status')).toBe(''); // not yet: netback may still take it
    expect(memory.reconciler.counts()).toMatchObject({ failed: 0, waiting: 1 });
  });
});

describe('a vif that netback does not serve', () => {
  const logged = () => memory.log.filter(({ level }) => level === 'error').map(({ msg }) => msg);

  test('is told so, and the log says what to do', async () => {
    await memory.start();
    await memory.host.netback.stop();
    void memory.host.createGuest(5, [{ bridge: 'br0' }], { connects: false }).catch(() => undefined);
    await eventually(async () => (await memory.node('state')) === '1');
    await memory.later(0);
    await memory.later(2_500);
    const told = 'xen-netback has not taken this vif (state is still 1)';
    await eventually(async () => (await memory.node('hotplug-error')) === told);
    await eventually(() => logged().includes(`vif 5/0: ${told}; load its module in this domain: modprobe xen-netback`));
    memory.deaf = true;
    await memory.host.nicdom.write('error/backend/vif/5/0/error', '22 reading script');
    await memory.dom0Write('state', '6');
    await memory.later(0);
    expect(await memory.node('hotplug-error')).toBe('xen-netback gave this vif up (state 6)');
    expect(logged().at(-1)).toMatch(
      /: xen-netback gave this vif up \(state 6\); the kernel says: "22 reading script"$/,
    );
  });

  test('out of nodes the kernel cannot leave its reason: xenstore has no room, says the log, and how to make some', async () => {
    await attached();
    memory.deaf = true;
    const { nicdom, dom0 } = memory.host;
    await dom0.mkdir('/local/domain/1/data');
    await dom0.setPerms('/local/domain/1/data', ['n1']);
    const fill = async (n: number) => {
      for (let i = 0; i < n; i++) await nicdom.write(`data/${i % 4}/${i}`, '');
    };
    await expect(fill(1000)).rejects.toMatchObject({ code: 'ENOSPC' });
    await nicdom.rm('data/0/0'); // as much as a hotplug-error takes, and less than the kernel's reason
    await memory.kernel.remove('vif5.0');
    await memory.dom0Write('hotplug-status', '');
    await memory.dom0Write('state', '5');
    await memory.later(0);
    const reason = /: xenstore has no room for this vif \(quota\); the xenstore quota .*quota-maxentity/;
    await eventually(() => logged().some((msg) => reason.test(msg)));
  });

  test('the kernel’s reason may come at any moment while room for it is asked for, and is not lost', async () => {
    await memory.start();
    const { nicdom } = memory.host;
    let came = true;
    for (let step = 1; came; step++) {
      await nicdom.rm('error/backend').catch(() => undefined);
      const first = memory.messages + 1;
      came = false;
      memory.beforeMessage = async (message) => {
        if (message !== first + step) return;
        came = true;
        await nicdom.write('error/backend/vif/5/0/error', '22 reading script');
      };
      const blamed = blameNetback(memory.store, { domid: 5, devid: 0 }, 6, 'vif5.0');
      await expect(blamed).rejects.toMatchObject({ code: 'ENOLINK' });
      const left = await nicdom.directory('error/backend/vif/5/0').catch(() => []);
      expect([step, left]).toEqual([step, came ? ['error'] : []]);
    }
    memory.beforeMessage = () => {};
  });

  test('out of watches netback announces Closing and goes on: no fault that is over, but the reason of the end that comes', async () => {
    await attached();
    memory.deaf = true;
    const kernel = '7 adding watch on backend/vif/5/0/hotplug-status';
    await memory.host.nicdom.write('error/backend/vif/5/0/error', kernel);
    await memory.dom0Write('state', '4');
    await memory.later(20_000);
    const warned = () => memory.log.filter(({ level }) => level === 'warn').map(({ msg }) => msg);
    await eventually(() => warned().some((msg) => /it may not last.*adding watch on.*quota-maxwatch/.test(msg)));
    await memory.dom0Write('state', '6');
    await memory.later(20_000);
    const reason = /gave this vif up \(state 6\); the kernel says: "7 adding watch.*quota-maxwatch/;
    await eventually(() => logged().some((msg) => reason.test(msg)));
    expect(warned()).toHaveLength(1);
  });
});

describe('leaving', () => {
  /** A backend stuck in Closing, as netback leaves it now and then. */
  async function stuck(): Promise<void> {
    await attached();
    memory.deaf = true;
    await memory.host.netback.stop();
    await memory.kernel.create('vif5.0');
    await memory.host.dom0.write(`${BACKEND}/online`, '0');
    await memory.dom0Write('state', '5');
    await memory.host.dom0.rm('/local/domain/5/device/vif/0');
  }

  test('abandoned by guest and kernel, its directory goes after 6 s', async () => {
    await stuck();
    await memory.kernel.remove('vif5.0');
    await memory.later(0);
    await memory.later(5_500);
    expect(await memory.node('state')).toBe('5');
    await memory.later(1_000);
    expect(await memory.node('state')).toBeUndefined();
  });

  test('not while its interface is there, of which a new vifd knows no name', async () => {
    await stuck();
    await memory.stopReconciler();
    await memory.startReconciler();
    await memory.later(0);
    await memory.later(10_000);
    await memory.later(10_000);
    expect(await memory.node('state')).toBe('5');
  });

  test('not if the guest’s directory is there again at the end of the 6 s', async () => {
    await stuck();
    await memory.kernel.remove('vif5.0');
    await memory.later(0);
    await memory.host.dom0.write('/local/domain/5/device/vif/0/state', '1');
    await memory.host.dom0.setPerms('/local/domain/5/device/vif/0/state', ['n5', 'r1']);
    await memory.later(7_000);
    expect(await memory.node('state')).toBe('5');
  });
});

describe('the kernel’s side', () => {
  test('a bridge made anew between its look-up and the attach is no error', async () => {
    await memory.start();
    const { kernel } = memory;
    let asked = false;
    kernel.beforeChange = ({ master }) => {
      if (asked || master === undefined) return;
      asked = true;
      kernel.links.delete(master);
      kernel.addBridge('br0');
    };
    const seen: (string | undefined)[] = [];
    await memory.host.nicdom.watch('backend/vif', async ({ path }) => {
      if (path.endsWith('hotplug-status')) seen.push(await memory.node('hotplug-status'));
    });
    await memory.host.createGuest(5, [{ bridge: 'br0' }]);
    await memory.connected();
    expect(asked).toBe(true);
    expect(seen).not.toContain('error');
  });

  test('an interface that another program has renamed is found by the device behind it', async () => {
    await memory.start();
    const { kernel } = memory;
    const create = kernel.create.bind(kernel);
    kernel.create = async (ifname) => {
      await create(ifname);
      kernel.change(ifname, { ifname: 'enX0' });
    };
    await memory.host.createGuest(5, [{ bridge: 'br0' }]);
    await eventually(async () => (await memory.node('state')) === '2');
    await memory.later(0);
    await memory.later(2_500);
    await memory.connected();
    expect(kernel.find('enX0')).toBeUndefined();
  });

  test.each(['EBUSY', 'ENETDOWN'])('%s passes without a word', async (code) => {
    await memory.start();
    let left = 3;
    memory.kernel.beforeChange = () => {
      if (left-- > 0) throw new NetlinkError(code, 'set up=true of', 'vif5.0', 16);
    };
    await memory.host.createGuest(5, [{ bridge: 'br0' }]);
    await memory.connected();
    expect(memory.log.filter(({ level }) => level === 'error' || level === 'warn')).toEqual([]);
  });

  test('a refusal names the value', () => {
    const { message } = new NetlinkError('EINVAL', 'set mtu=9000 of', 'vif5.0', 22);
    expect(message).toBe('the kernel refused to set mtu=9000 of vif5.0: EINVAL (the device does not accept the value)');
  });
});

describe('another program that undoes repairs again and again', () => {
  const undo = () => memory.kernel.change('vif5.0', { txqlen: 32 });

  async function contested(): Promise<void> {
    await attached();
    for (let i = 0; i < 6; i++) {
      undo();
      await memory.reconciler.scan(); // repairs
    }
  }

  test('is answered later and later', async () => {
    await contested();
    undo();
    await sleep(700);
    expect(vif()?.txqlen).toBe(32);
    expect(memory.says('warn', 'repaired vif5.0')).toBe(4);
  });

  test('for the vif that it is about only', async () => {
    await contested();
    await memory.host.createGuest(6, [{ bridge: 'br0' }]);
    await eventually(async () => (await memory.host.backendNode(6, 0, 'state')) === '4');
    memory.kernel.change('vif6.0', { txqlen: 32 });
    await eventually(() => memory.kernel.find('vif6.0')?.txqlen === 1000, 1_000);
  });

  test('does not keep a new bridge of dom0’s waiting', async () => {
    await contested();
    memory.kernel.addBridge('br1');
    undo();
    await memory.dom0Write('bridge', 'br1');
    await eventually(() => vif()?.master === memory.kernel.find('br1')?.ifindex, 1_000);
  });

  test('is forgotten after a quiet minute: the next drift is repaired at once, and said', async () => {
    await contested();
    undo();
    await memory.later(60_000);
    undo();
    await eventually(() => vif()?.txqlen === 1000, 1_000);
    expect(memory.says('warn', 'repaired vif5.0')).toBe(6);
  });
});

test('a bridge that is down is warned of once: the vif is in place, but no packet passes', async () => {
  await memory.start();
  memory.kernel.change('br0', { up: false });
  await memory.host.createGuest(5, [{ bridge: 'br0' }]);
  await memory.connected();
  for (let i = 0; i < 3; i++) await memory.later(20_000);
  expect(memory.says('warn', 'vif5.0: the bridge br0 is down, so no packet passes: ip link set br0 up')).toBe(1);
});

test('a failed vif is not tried again because of its own words', async () => {
  await memory.start();
  await memory.host.createGuest(5, [{ bridge: 'none' }], { connects: false }).catch(() => undefined);
  await eventually(async () => (await memory.node('hotplug-status')) === 'error');
  await sleep(100); // the kernel's last events are looked at
  const { calls } = memory.kernel;
  await sleep(100); // the next retry comes after some 300 ms
  expect(memory.kernel.calls).toBe(calls);
});

test('a scan that loses its connection behind the list of vifs rejects: nothing may be made of what it has', async () => {
  await attached();
  const inner = memory.store.directory.bind(memory.store);
  memory.store.directory = async (path) => {
    if (path.startsWith('error/')) await memory.store.close();
    return inner(path);
  };
  await expect(memory.reconciler.scan()).rejects.toBeInstanceOf(ConnectionError);
});

test('four vifs that leave together have what is left of them dropped once, or nearly', async () => {
  await memory.start();
  await memory.host.createGuest(5, Array(4).fill({ bridge: 'br0' }));
  await eventually(() => memory.reconciler.counts().connected === 4);
  await sleep(300);
  const listed = vi.spyOn(memory.kernel, 'listProxies');
  await memory.host.destroyGuest(5);
  await eventually(() => memory.reconciler.list().length === 0);
  await sleep(300);
  expect(listed.mock.calls.filter(([family]) => family === 'ipv4').length).toBeOneOf([1, 2]);
});
