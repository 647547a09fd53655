/**
 * The players around the agent against a fake agent that only writes hotplug-status and removes directories: each
 * sequence of contract 2.3, 6.3, 6.6 and 10.4 as the real ones show it.
 */
import { mkdtemp, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { hasCode } from '../../src/errors.js';
import {
  type LinkFactory,
  MemoryLinks,
  NETBACK_MAC,
  OLD_TXQUEUELEN,
  tapLinks,
  vethLinks,
} from '../../src/simulator/links.js';
import { Netback, type NetbackOptions } from '../../src/simulator/netback.js';
import { Netfront, type NetfrontOptions } from '../../src/simulator/netfront.js';
import { SimulatedStore } from '../../src/simulator/store.js';
import { Toolstack, type ToolstackOptions, type Vif } from '../../src/simulator/toolstack.js';
import { openSocket, XenstoreClient } from '../../src/xenstore/client.js';
import { parseBackendPath } from '../../src/xenstore/paths.js';

const NICDOM = 1;

interface FakeAgentOptions {
  readonly connects?: boolean;
  readonly removes?: boolean;
  readonly graceMs?: number;
}

/** As little of an agent as the contract needs. */
class FakeAgent {
  readonly seen: string[] = [];
  constructor(
    private readonly store: XenstoreClient,
    private readonly options: FakeAgentOptions,
  ) {}

  async start(): Promise<void> {
    await this.store.watch('backend/vif', ({ path }) => void this.look(path).catch(() => undefined));
  }

  private async look(path: string): Promise<void> {
    const place = parseBackendPath(path);
    if (place === undefined) return;
    const dir = `backend/vif/${place.key.domid}/${place.key.devid}`;
    if (place.node !== '') this.seen.push(place.node);
    const state = await this.store.readOptional(`${dir}/state`);
    const online = await this.store.readOptional(`${dir}/online`);
    if (state === '2' && online === '1' && this.options.connects !== false) await this.connect(dir);
    if (state === '6' && online === '0' && this.options.removes !== false) await this.remove(dir);
  }

  private async connect(dir: string): Promise<void> {
    if ((await this.store.readOptional(`${dir}/hotplug-status`)) !== 'connected')
      await this.store.write(`${dir}/hotplug-status`, 'connected');
  }

  private async remove(dir: string): Promise<void> {
    if (this.options.graceMs !== undefined) await sleep(this.options.graceMs);
    await this.store.rm(dir).catch((error) => {
      if (!hasCode(error, 'EACCES')) throw error;
    });
  }
}

interface WorldOptions {
  readonly toolstack?: ToolstackOptions;
  readonly netback?: Partial<NetbackOptions>;
  readonly agent?: FakeAgentOptions;
  readonly links?: LinkFactory;
}

/** A host: dom0, the driver domain 1 with its kernel and a fake agent, and guests on demand. */
class World {
  private static readonly open = new Set<World>();
  private readonly clients: XenstoreClient[] = [];
  private constructor(
    private readonly dir: string,
    private readonly store: SimulatedStore,
    readonly dom0: XenstoreClient,
    readonly toolstack: Toolstack,
    readonly links: LinkFactory,
    private readonly options: WorldOptions,
  ) {}
  nicdom!: XenstoreClient;
  netback!: Netback;
  agent!: FakeAgent;

  static async start(options: WorldOptions = {}): Promise<World> {
    const dir = await mkdtemp(join(tmpdir(), 'vifd-simulator-'));
    const store = new SimulatedStore();
    await store.listen(0, join(dir, '0'));
    const dom0 = new XenstoreClient(await openSocket(join(dir, '0')));
    const toolstack = new Toolstack(dom0, options.toolstack);
    const world = new World(dir, store, dom0, toolstack, options.links ?? new MemoryLinks(), options);
    World.open.add(world);
    await world.boot();
    return world;
  }

  private async boot(): Promise<void> {
    const { netback, agent } = this.options;
    await this.toolstack.initDom0();
    await this.toolstack.createDomain({ domid: NICDOM, name: 'nicdom', driverDomain: true });
    this.nicdom = await this.connect(NICDOM);
    this.netback = await Netback.start(await this.connect(NICDOM), { links: this.links, ...netback });
    this.agent = new FakeAgent(this.nicdom, agent ?? {});
    await this.agent.start();
  }

  /** A connection as this domain. */
  async connect(domid: number): Promise<XenstoreClient> {
    const path = join(this.dir, `${domid}-${this.clients.length}`);
    await this.store.listen(domid, path);
    const client = new XenstoreClient(await openSocket(path));
    this.clients.push(client);
    return client;
  }

  /** A running guest without vifs. */
  async guest(domid: number): Promise<XenstoreClient> {
    await this.toolstack.createDomain({ domid, name: `guest${domid}` });
    return this.connect(domid);
  }

  /** A guest's driver, started. */
  async netfront(client: XenstoreClient, devid = 0, options: NetfrontOptions = {}): Promise<Netfront> {
    const netfront = new Netfront(client, devid, options);
    await netfront.start();
    return netfront;
  }

  /** A guest with one vif that is connected. */
  async connected(domid: number, vif: Partial<Vif> = {}): Promise<{ guest: XenstoreClient; netfront: Netfront }> {
    const guest = await this.guest(domid);
    expect(await this.toolstack.attachVif({ ...vifOf(domid), ...vif })).toMatchObject({ ok: true });
    const netfront = await this.netfront(guest);
    await netfront.waitForBackend([4]);
    return { guest, netfront };
  }

  read(node: string, domid = 5, devid = 0): Promise<string | undefined> {
    return this.dom0.readOptional(backendOf(domid, devid) + (node === '' ? '' : `/${node}`));
  }

  /** Every value that the node takes from now on, one after the other. */
  async record(path: string): Promise<string[]> {
    const values: string[] = [];
    let turn = Promise.resolve();
    await this.dom0.watch(path, () => {
      turn = turn.then(async () => {
        const value = (await this.dom0.readOptional(path).catch(() => undefined)) ?? 'gone';
        if (values.at(-1) !== value) values.push(value);
      });
    });
    return values;
  }

  get ifnames(): string[] {
    return this.links instanceof MemoryLinks ? [...this.links.ifnames] : [];
  }

  static async stopAll(): Promise<void> {
    for (const world of World.open) await world.stop();
    World.open.clear();
  }

  private async stop(): Promise<void> {
    await this.netback?.stop();
    for (const client of [...this.clients, this.dom0]) await client.close();
    await this.store.close();
    await rm(this.dir, { recursive: true, force: true });
  }
}

const vifOf = (domid: number, devid = 0): Vif => ({ domid, devid, backendDomid: NICDOM, bridge: 'br0' });
const backendOf = (domid: number, devid = 0): string => `/local/domain/${NICDOM}/backend/vif/${domid}/${devid}`;

async function until(condition: () => Promise<boolean> | boolean, timeoutMs = 3_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${condition}`);
    await sleep(5);
  }
}

afterEach(() => World.stopAll());

describe('attach', () => {
  it('goes from state 1 to 2 by netback, to connected by the agent, to 4 by netback and the guest', async () => {
    const world = await World.start();
    const states = await world.record(`${backendOf(5)}/state`);
    await world.connected(5);
    await until(() => states.at(-1) === '4');
    expect(states.filter((state) => state !== 'gone' && state !== '1')).toEqual(['2', '4']);
    expect(await world.read('hotplug-status')).toBe('connected');
    expect(world.ifnames).toEqual(['vif5.0']);
  });

  it('has dom0 wait for state 2 only, not for the agent', async () => {
    const world = await World.start({ agent: { connects: false } });
    await world.guest(5);
    const attached = await world.toolstack.attachVif(vifOf(5));
    expect(attached).toMatchObject({ ok: true, errors: [] });
    expect(await world.read('state')).toBe('2');
    expect(await world.read('hotplug-status')).toBe('');
  });

  it('never reaches 4 without exactly "connected"', async () => {
    const world = await World.start({ agent: { connects: false } });
    const guest = await world.guest(5);
    await world.toolstack.attachVif(vifOf(5));
    await world.netfront(guest);
    await until(async () => (await guest.read('device/vif/0/state')) === '4');
    for (const value of ['error', 'connected\n', 'connected\0', 'Connected']) {
      await world.nicdom.write('backend/vif/5/0/hotplug-status', value);
      await sleep(50);
      expect(await world.read('state')).toBe('2');
    }
    await world.nicdom.write('backend/vif/5/0/hotplug-status', 'connected');
    await until(async () => (await world.read('state')) === '4');
  });

  it('fails after dom0 waited when there is no netback', async () => {
    const world = await World.start({ toolstack: { initTimeoutMs: 150 } });
    await world.netback.stop();
    await world.guest(5);
    const attached = await world.toolstack.attachVif(vifOf(5));
    expect(attached.errors[0]).toContain(`unable to add device with path ${backendOf(5)}`);
    expect(attached.waitedMs).toBeGreaterThanOrEqual(140);
    expect((await world.toolstack.attachVif(vifOf(5))).errors[0]).toContain('device already exists in xenstore');
  });
});

describe('the guest’s driver', () => {
  it('may pass through 3, which netback does not mind', async () => {
    const world = await World.start();
    const guest = await world.guest(5);
    await world.toolstack.attachVif(vifOf(5));
    const netfront = await world.netfront(guest, 0, { initialised: true, bootMs: 20 });
    await netfront.waitForBackend([4]);
  });

  it('is fatal for its vif where it connects without rings', async () => {
    const world = await World.start();
    const guest = await world.guest(5);
    await world.toolstack.attachVif(vifOf(5));
    await guest.write('device/vif/0/state', '4');
    await until(async () => (await world.nicdom.readOptional('error/backend/vif/5/0/error')) !== undefined);
    expect(await world.nicdom.read('error/backend/vif/5/0/error')).toBe(
      '2 reading /local/domain/5/device/vif/0/ring-ref',
    );
  });
});

describe('nodes and permissions (contract 2.1)', () => {
  const FULL: Vif = {
    ...vifOf(5),
    mac: '00:16:3e:01:02:03',
    vifname: 'web',
    ip: '10.0.0.5 fd00::5',
    gatewaydev: 'eth0',
    rate: '1000,50000',
    mtu: 9000,
    vlan: '10p/20',
  };

  it('writes the new libxl’s nodes in its order', async () => {
    const world = await World.start({ netback: {}, agent: { connects: false } });
    await world.netback.stop();
    const order: string[] = [];
    await world.nicdom.watch('backend/vif', ({ path }) => order.push(path.replace('backend/vif/5/0/', '')));
    await world.guest(5);
    void world.toolstack.attachVif(FULL);
    await until(() => order.includes('hotplug-status'));
    expect(order.filter((name) => !name.startsWith('backend'))).toEqual(
      'frontend frontend-id online state script vifname mac ip gatewaydev rate mtu vlan bridge handle type hotplug-status'.split(
        ' ',
      ),
    );
    expect(await world.read('script')).toBe('/etc/xen/scripts/vif-bridge');
    expect(await world.dom0.read('/libxl/5/device/vif/0/backend')).toBe(backendOf(5));
  });

  it('leaves out what an old libxl does not know, and mtu where it is 1500', async () => {
    const old = await World.start({ toolstack: { xenMinor: 14 } });
    await old.guest(5);
    await old.toolstack.attachVif(FULL);
    const names = await old.dom0.directory(backendOf(5));
    for (const name of ['mtu', 'vlan']) expect(names).not.toContain(name);
    expect(await old.dom0.readOptional('/local/domain/5/device/vif/0/mtu')).toBeUndefined();
    expect(await old.dom0.readOptional('/libxl/5/device/vif/0/hotplug-status')).toBeUndefined();
    const recent = await World.start();
    await recent.guest(5);
    await recent.toolstack.attachVif(vifOf(5));
    expect(await recent.read('mtu')).toBeUndefined();
    expect(await recent.dom0.read('/local/domain/5/device/vif/0/mtu')).toBe('1500');
  });

  it('gives the driver domain its backend and the mtu, and the guest its frontend', async () => {
    const world = await World.start();
    const guest = await world.guest(5);
    await world.toolstack.attachVif(vifOf(5));
    const frontend = '/local/domain/5/device/vif/0';
    expect(await world.dom0.getPerms(backendOf(5))).toEqual(['n1', 'r5']);
    expect(await world.dom0.getPerms(`${backendOf(5)}/bridge`)).toEqual(['n1', 'r5']);
    expect(await world.dom0.getPerms(frontend)).toEqual(['n5', 'r1']);
    expect(await world.dom0.getPerms(`${frontend}/mtu`)).toEqual(['n1', 'r5']);
    expect(await world.dom0.getPerms('/libxl/5/device/vif/0')).toEqual(['n0']);
    await world.nicdom.write(`${frontend}/mtu`, '9000');
    await expect(guest.write(`${frontend}/mtu`, '1')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(world.nicdom.rm('backend/vif/5')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(guest.write(`${backendOf(5)}/bridge`, 'br1')).rejects.toMatchObject({ code: 'EACCES' });
    expect(await guest.read(`${backendOf(5)}/bridge`)).toBe('br0');
  });

  it('lets a test replace, add and leave out nodes', async () => {
    const world = await World.start({ toolstack: { initTimeoutMs: 100 } });
    await world.guest(5);
    await world.toolstack.attachVif({ ...vifOf(5), nodes: { bridge: 'bad name', extra: 'x', type: undefined } });
    expect(await world.read('bridge')).toBe('bad name');
    expect(await world.read('extra')).toBe('x');
    expect(await world.read('type')).toBeUndefined();
  });

  it('makes homes in which a driver domain can write what it must and nothing else', async () => {
    const world = await World.start();
    for (const dir of ['libxl', 'device-model', 'error', 'data']) await world.nicdom.write(`${dir}/x`, '1');
    await expect(world.nicdom.write('foo', '1')).rejects.toMatchObject({ code: 'EACCES' });
    expect(await world.nicdom.read('domid')).toBe('1');
    const guest = await world.guest(5);
    await expect(guest.write('libxl/x', '1')).rejects.toMatchObject({ code: 'EACCES' });
  });
});

describe('detach', () => {
  it('takes a live guest’s vif down without an error when the agent leaves dom0 a grace', async () => {
    const world = await World.start({ agent: { graceMs: 200 }, toolstack: { eventMs: 10 } });
    const { guest } = await world.connected(5);
    const states = await world.record(`${backendOf(5)}/state`);
    expect(await world.toolstack.detachVif(vifOf(5))).toMatchObject({ ok: true, errors: [] });
    expect(states).toContain('6');
    expect(await world.read('')).toBeUndefined();
    expect(await world.dom0.readOptional('/libxl/5/device')).toBeUndefined();
    expect(await world.dom0.readOptional(`/local/domain/${NICDOM}/backend/vif/5`)).toBeUndefined();
    await expect(guest.directory('device/vif')).rejects.toMatchObject({ code: 'ENOENT' });
    expect(world.ifnames).toEqual([]);
  });

  it('shows libxl’s error when the agent removes the directory before dom0 has read state 6', async () => {
    const world = await World.start({ toolstack: { eventMs: 50 } });
    await world.connected(5);
    const detached = await world.toolstack.detachVif(vifOf(5));
    expect(detached.ok).toBe(false);
    expect(detached.errors[0]).toContain(`Domain 5:unable to remove device with path ${backendOf(5)}`);
    expect(await world.dom0.readOptional('/libxl/5/device/vif/0')).toBe(''); // not cleaned: FORCE_AUTO with an error
  });

  it('times out on an agent that never removes, and then calls the device existing', async () => {
    const world = await World.start({ agent: { removes: false }, toolstack: { destroyTimeoutMs: 200 } });
    await world.connected(5);
    const detached = await world.toolstack.detachVif(vifOf(5));
    expect(detached.errors[0]).toContain(`timed out while waiting for ${backendOf(5)} to be removed`);
    expect(detached.waitedMs).toBeGreaterThanOrEqual(190);
    expect(world.ifnames).toEqual([]);
    expect((await world.toolstack.attachVif(vifOf(5))).errors[0]).toContain('already exists in xenstore');
  });

  it('forces a guest that does not answer after the first wait, in a second one', async () => {
    const world = await World.start({ agent: { graceMs: 50 }, toolstack: { destroyTimeoutMs: 200 } });
    const { netfront } = await world.connected(5);
    await netfront.stop();
    const detached = await world.toolstack.detachVif(vifOf(5));
    expect(detached).toMatchObject({ ok: true });
    expect(detached.waitedMs).toBeGreaterThanOrEqual(240);
    expect(world.ifnames).toEqual([]);
  });

  it('works for a vif that never was connected, whose states netback holds back', async () => {
    const world = await World.start({ agent: { connects: false, graceMs: 100 } });
    const guest = await world.guest(5);
    await world.toolstack.attachVif(vifOf(5));
    await world.netfront(guest);
    await until(async () => (await guest.read('device/vif/0/state')) === '4');
    expect(await world.toolstack.detachVif(vifOf(5))).toMatchObject({ ok: true });
  });

  it('can attach the same devid again at once', async () => {
    const world = await World.start({ agent: { graceMs: 50 } });
    const { guest, netfront } = await world.connected(5);
    for (let round = 0; round < 3; round++) {
      expect(await world.toolstack.detachVif(vifOf(5))).toMatchObject({ ok: true });
      await netfront.stop();
      expect(await world.toolstack.attachVif(vifOf(5))).toMatchObject({ ok: true });
      const again = await world.netfront(guest);
      await again.waitForBackend([4]);
      expect(world.ifnames).toEqual(['vif5.0']);
    }
  });

  it('cleans the frontend only when the backend is gone already', async () => {
    const world = await World.start();
    await world.connected(5);
    await world.dom0.rm(backendOf(5));
    await until(() => world.ifnames.length === 0);
    expect(await world.toolstack.detachVif(vifOf(5))).toMatchObject({ ok: true, errors: [] });
    expect(await world.dom0.readOptional('/libxl/5/device')).toBeUndefined();
  });
});

describe('destroy', () => {
  const EIGHT = Array.from({ length: 8 }, (_, devid) => vifOf(5, devid));

  async function destroyEight(graceMs: number | undefined): Promise<readonly string[]> {
    const world = await World.start({ toolstack: { eventMs: 3 }, agent: graceMs === undefined ? {} : { graceMs } });
    expect(await world.toolstack.createGuest({ domid: 5, name: 'guest5' }, EIGHT)).toMatchObject({ ok: true });
    const guest = await world.connect(5);
    const netfronts = await Promise.all(EIGHT.map(({ devid }) => world.netfront(guest, devid)));
    await Promise.all(netfronts.map((netfront) => netfront.waitForBackend([4])));
    await Promise.all(netfronts.map((netfront) => netfront.stop()));
    const { errors } = await world.toolstack.destroyDomain(5);
    expect(world.ifnames).toEqual([]);
    for (const path of ['/local/domain/5', '/libxl/5', `/local/domain/${NICDOM}/backend/vif/5`])
      expect(await world.dom0.readOptional(path)).toBeUndefined();
    return errors;
  }

  it('prints no error for eight vifs with a grace', async () => {
    expect(await destroyEight(500)).toEqual([]);
  });

  it('prints errors for some of eight vifs without a grace (contract 10.4)', async () => {
    const errors = await destroyEight(undefined);
    expect(errors.filter((line) => line.includes('unable to remove device with path')).length).toBeGreaterThan(0);
    expect(errors.at(-1)).toContain('libxl__devices_destroy failed');
  });

  it('cleans everything even when the agent removes nothing, after its wait', async () => {
    const world = await World.start({ agent: { removes: false }, toolstack: { destroyTimeoutMs: 200 } });
    const { netfront } = await world.connected(5);
    await netfront.stop();
    const destroyed = await world.toolstack.destroyDomain(5);
    expect(destroyed.errors[0]).toContain('timed out while waiting for');
    expect(await world.read('')).toBeUndefined();
    expect(await world.dom0.readOptional('/local/domain/5')).toBeUndefined();
  });

  it('leaves the backend directory behind with an old libxl', async () => {
    const toolstack = { xenMinor: 14, destroyTimeoutMs: 200 };
    const world = await World.start({ agent: { removes: false }, toolstack });
    await world.connected(5);
    await world.toolstack.destroyDomain(5);
    expect(await world.read('state')).toBe('6');
  });

  it('ends a guest of which one vif cannot be added', async () => {
    const world = await World.start({ toolstack: { initTimeoutMs: 200, destroyTimeoutMs: 200 } });
    const broken: Vif = { ...vifOf(5, 1), nodes: { state: '3' } };
    const created = await world.toolstack.createGuest({ domid: 5, name: 'guest5' }, [vifOf(5, 0), broken]);
    expect(created.errors).toContainEqual(expect.stringContaining('unable to add vif devices'));
    expect(await world.dom0.readOptional('/local/domain/5')).toBeUndefined();
  });
});

describe('reboot', () => {
  it('comes back as another domain with the same vifs', async () => {
    const world = await World.start({ agent: { graceMs: 100 } });
    const mac = '00:16:3e:00:00:42';
    const { netfront } = await world.connected(5, { mac });
    await netfront.stop();
    expect(await world.toolstack.rebootDomain(5, 6)).toMatchObject({ ok: true, errors: [] });
    const again = await world.netfront(await world.connect(6));
    await again.waitForBackend([4]);
    expect(world.ifnames).toEqual(['vif6.0']);
    expect(await world.read('mac', 6)).toBe(mac);
    expect(await world.read('')).toBeUndefined();
  });
});

describe('driver reload in the guest', () => {
  it('keeps the interface and hotplug-status while online is 1', async () => {
    const world = await World.start();
    const { netfront } = await world.connected(5);
    const statuses = await world.record(`${backendOf(5)}/hotplug-status`);
    for (let round = 0; round < 3; round++) {
      await netfront.close();
      expect(await world.read('state')).toBe('6');
      expect(world.ifnames).toEqual(['vif5.0']);
      await netfront.reopen();
      expect(await world.read('state')).toBe('4');
    }
    expect(statuses).toEqual(['connected']);
  });

  it('needs the agent again on kernels that remove hotplug-status at a disconnect', async () => {
    const world = await World.start({ netback: { rmStatusOnDisconnect: true } });
    const { netfront } = await world.connected(5);
    const statuses = await world.record(`${backendOf(5)}/hotplug-status`);
    await netfront.reload();
    await until(() => statuses.at(-1) === 'connected');
    expect(statuses).toEqual(['connected', 'gone', 'connected']);
  });

  it('hangs when the guest closes before the agent connected, until it does', async () => {
    const world = await World.start({ agent: { connects: false } });
    const guest = await world.guest(5);
    await world.toolstack.attachVif(vifOf(5));
    const netfront = await world.netfront(guest);
    await until(async () => (await guest.read('device/vif/0/state')) === '4');
    await netfront.switchState(5);
    await sleep(50);
    expect(await world.read('state')).toBe('2');
    await world.nicdom.write('backend/vif/5/0/hotplug-status', 'connected');
    await until(async () => (await world.read('state')) === '5');
  });
});

describe('hostile guests', () => {
  it('may flap as fast as they can', async () => {
    const world = await World.start();
    const { netfront } = await world.connected(5);
    await netfront.flap(200);
    await until(async () => (await world.read('state')) === '4');
    expect(world.ifnames).toEqual(['vif5.0']);
  });

  it('lose their interface when they remove their directory, whatever online says', async () => {
    const world = await World.start();
    const { netfront } = await world.connected(5);
    await netfront.removeDirectory();
    await until(() => world.ifnames.length === 0);
    expect(await world.read('online')).toBe('1');
    expect(await world.read('state')).toBe('6');
    expect(await world.read('hotplug-status')).toBeUndefined();
  });
});

describe('probe', () => {
  it.each([
    ['a missing script', { script: undefined }],
    ['a missing handle', { handle: undefined }],
    ['a handle that is no number', { handle: 'x' }],
    ['no frontend', { frontend: '/local/domain/5/device/vif/9' }],
  ])('is fatal with %s', async (_, nodes) => {
    const world = await World.start({ toolstack: { initTimeoutMs: 200 } });
    await world.guest(5);
    await world.toolstack.attachVif({ ...vifOf(5), nodes });
    await until(async () => (await world.read('state')) === '5');
    expect(await world.nicdom.read('error/backend/vif/5/0/error')).toMatch(
      /^\d+ xenbus_dev_probe on backend\/vif\/5\/0$/,
    );
    expect(await world.read('hotplug-status')).toBeUndefined();
    expect(world.ifnames).toEqual([]);
  });

  it('is fatal when the name of the interface is taken', async () => {
    const links = new MemoryLinks();
    await links.create('vif5.0');
    const world = await World.start({ links, toolstack: { initTimeoutMs: 200 } });
    await world.guest(5);
    await world.toolstack.attachVif(vifOf(5));
    await until(async () => (await world.read('state')) === '5');
  });

  it('leaves directories alone that are not in state 1', async () => {
    const world = await World.start({ toolstack: { initTimeoutMs: 100 } });
    await world.guest(5);
    await world.toolstack.attachVif({ ...vifOf(5), nodes: { state: '4' } });
    expect(await world.read('feature-sg')).toBeUndefined();
    expect(world.ifnames).toEqual([]);
  });

  it('writes state 2 before the interface, or after it on old kernels', async () => {
    const late = await World.start({ netback: { linkDelayMs: 150 }, agent: { connects: false } });
    await late.guest(5);
    await late.toolstack.attachVif(vifOf(5));
    expect(late.ifnames).toEqual([]);
    await until(() => late.ifnames.length === 1);
    const early = await World.start({ netback: { linkFirst: true, linkDelayMs: 50 } });
    await early.guest(5);
    await early.toolstack.attachVif(vifOf(5));
    expect(early.ifnames).toEqual(['vif5.0']);
  });

  it('can leave the interface out', async () => {
    const world = await World.start({ netback: { neverLink: true } });
    await world.guest(5);
    expect(await world.toolstack.attachVif(vifOf(5))).toMatchObject({ ok: true });
    expect(world.ifnames).toEqual([]);
  });
});

describe.skipIf(process.env.VIFD_TEST_NETNS !== '1')('real interfaces', () => {
  const show = async (ifname: string) => {
    const { stdout, failed } = await execa('ip', ['-j', '-d', 'link', 'show', 'dev', ifname], { reject: false });
    return failed ? undefined : JSON.parse(stdout)[0];
  };

  it('are a veth pair with netback’s properties', async () => {
    const world = await World.start({ links: vethLinks({ txqueuelen: OLD_TXQUEUELEN }) });
    await world.connected(5);
    expect(await show('vif5.0')).toMatchObject({ address: NETBACK_MAC, mtu: 1500, txqlen: 32, operstate: 'DOWN' });
    expect(await show('guest5.0')).toMatchObject({ address: '00:16:3e:00:05:00' });
  });

  it('go with the vif under whatever name they have by then', async () => {
    const world = await World.start({ links: vethLinks(), agent: { graceMs: 50 } });
    await world.connected(5);
    await execa('ip', ['link', 'set', 'dev', 'vif5.0', 'name', 'web']);
    expect(await world.toolstack.detachVif(vifOf(5))).toMatchObject({ ok: true });
    expect(await show('web')).toBeUndefined();
    expect(await show('guest5.0')).toBeUndefined();
  });

  it('can be taps', async () => {
    const world = await World.start({ links: tapLinks() });
    await world.connected(5);
    expect(await show('vif5.0')).toMatchObject({
      address: NETBACK_MAC,
      mtu: 1500,
      txqlen: 1000,
      linkinfo: { info_kind: 'tun' },
    });
  });

  it('have their other end in the guest’s namespace, which can be pinged', async () => {
    const sleeper = execa('unshare', ['--net', 'sleep', '60'], { reject: false });
    onTestFinished(() => void sleeper.kill());
    const netns = sleeper.pid ?? 0;
    const here = await readlink('/proc/self/ns/net');
    await until(async () => (await readlink(`/proc/${netns}/ns/net`)) !== here);
    const links = vethLinks({ guestEnd: () => ({ netns, address: '10.9.0.5/24' }) });
    const world = await World.start({ links });
    await world.connected(5);
    await execa('ip', ['address', 'add', '10.9.0.1/24', 'dev', 'vif5.0']);
    await execa('ip', ['link', 'set', 'dev', 'vif5.0', 'up']);
    await execa('ping', ['-c', '1', '-W', '2', '10.9.0.5']);
  });
});
