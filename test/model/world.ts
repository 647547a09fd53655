/**
 * A host in which nothing happens by itself: the real reconciler and the real client of xenstore, with the simulator's store and
 * a kernel in memory, by virtual time. Whatever can happen next has a name (moves()), and happens when it is called (make()).
 */
import { pino } from 'pino';
import { type Config, DEFAULTS } from '../../src/config/schema.js';
import { AttachError, hasCode, NetlinkError } from '../../src/errors.js';
import { Programs } from '../../src/network/hotplug-script.js';
import type { KernelNetwork } from '../../src/network/kernel.js';
import { type Prefix, parsePrefix } from '../../src/network/prefix.js';
import { NICDOM } from '../../src/simulator/host.js';
import { frontendDir, type Vif as Nic } from '../../src/simulator/nic.js';
import { SimulatedStore } from '../../src/simulator/store.js';
import { Toolstack } from '../../src/simulator/toolstack.js';
import type { StoreNode } from '../../src/simulator/tree.js';
import { AttachQueue } from '../../src/vif/attach-queue.js';
import { Reconciler } from '../../src/vif/reconciler.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { type BackendKey, backendDir, type KeyText, kernelErrorDir, keyText } from '../../src/xenstore/paths.js';
import type { Packet } from '../../src/xenstore/wire.js';
import { MemoryKernel } from '../support/memory-kernel.js';
import { Clock } from './clock.js';
import { Judge } from './judge.js';
import { type Deed, type Life, MOVES, type Sight, UNBORN, type When } from './life.js';
import { describePacket, WireTap } from './wire-tap.js';

const HOME = `/local/domain/${NICDOM}`;
/** As agent.ts. */
const SCAN_EVERY_MS = 20_000;

export interface VifPlan extends BackendKey {
  /** What the guest's configuration says of it. */
  readonly nic?: Partial<Nic>;
}

export interface WorldOptions {
  readonly vifs: readonly VifPlan[];
  readonly config?: Config;
  /** Each request of the agent is a move of its own (`serve`); otherwise all that it asks for is served at once. */
  readonly fine?: boolean;
  /** As on the device, or on a socket. */
  readonly maxInFlight?: number;
  /** How often a move of this name may be made, for each vif; absent: ever again. */
  readonly limits?: Readonly<Record<string, number>>;
  /** When the connection to xenstore is lost, there is a new one soon. */
  readonly reconnects?: boolean;
}

/** Something that the agent has asked for and that has not been answered yet. */
export interface Effect {
  readonly text: string;
  serve(): void;
  refuse(errno: string): void;
}

export interface Possible {
  readonly name: string;
  readonly when: When;
}

type Nodes = [path: string, node: StoreNode][];
const DOMAINS = new Map<string, Nodes>();

function nodesBelow({ tree }: SimulatedStore, path: string): Nodes {
  const node = tree.read(path) as StoreNode;
  node.shared = true;
  const below = [...node.children].map((name) => `${path === '/' ? '' : path}/${name}`);
  return [[path, node], ...below.flatMap((child) => nodesBelow({ tree } as SimulatedStore, child))];
}

/** One life of the agent. */
class Agent {
  readonly tap: WireTap;
  readonly client: XenstoreClient;
  readonly reconciler: Reconciler;
  private readonly timer: NodeJS.Timeout;
  alive = true;
  private scanning = false;
  constructor(private readonly world: World) {
    const { options, store } = world;
    this.tap = new WireTap(
      store,
      NICDOM,
      options.maxInFlight ?? 1,
      (packet) => world.ask(this, packetEffect(this, world, packet)),
      (event) => void world.events.push(event),
    );
    this.client = new XenstoreClient(this.tap);
    this.reconciler = new Reconciler({
      store: this.client,
      kernel: gated(world, this),
      get config() {
        return world.config;
      },
      log: world.log,
      privileged: false,
      knowsAllVifs: true,
      programs: new Programs(),
      attaching: new AttachQueue(4),
    });
    this.timer = setInterval(() => void this.scan(), SCAN_EVERY_MS);
    void this.start();
    void this.client.closed.then((reason) => this.alive && world.reconnect(this, reason));
  }

  private async start(): Promise<void> {
    try {
      await this.client.watch(
        'backend/vif',
        ({ path }) => path === 'backend/vif' || this.reconciler.onStoreEvent(path),
      );
      await this.reconciler.scan();
    } catch (error) {
      if (this.alive) this.world.reconnect(this, error);
    }
  }

  private async scan(): Promise<void> {
    if (this.scanning) return;
    this.scanning = true;
    await this.reconciler.scan(1).catch(() => undefined);
    this.scanning = false;
  }

  /** Its requests are never answered, and nothing of it does anything any more. */
  kill(): void {
    this.alive = false;
    clearInterval(this.timer);
    void this.reconciler.stop();
    this.tap.end();
  }
}

export class World {
  readonly store = new SimulatedStore();
  readonly kernel = new MemoryKernel();
  readonly judge: Judge;
  readonly lives = new Map<KeyText, Life>();
  effects: Effect[] = [];
  events: Packet[] = [];
  /** Interfaces of which the agent is still to hear. */
  links: string[] = [];
  agent: Agent | undefined;
  config: Config;
  /** What the agent was told since it last had nothing under way: what it may remember besides its objects. */
  exchange: string[] = [];
  readonly said: string[] = [];
  /** What was played, where nobody else knows. */
  readonly way: string[] = [];
  readonly log = pino({ level: 'info', base: null }, { write: (line: string) => void this.said.push(line.trim()) });
  /** Called instead of serving it: for faults. */
  onEffect: (effect: Effect) => 'served' | undefined = () => undefined;
  private readonly spent = new Map<string, number>();
  private readonly dom0: XenstoreClient;
  private readonly toolstack: Toolstack;
  private readonly netback: XenstoreClient;
  private readonly guests = new Map<number, XenstoreClient>();

  private constructor(readonly options: WorldOptions) {
    this.config = options.config ?? DEFAULTS;
    this.judge = new Judge(this);
    this.dom0 = this.connect(0);
    this.toolstack = new Toolstack(this.dom0);
    this.netback = this.connect(NICDOM);
    for (const plan of options.vifs) this.lives.set(keyText(plan), UNBORN);
  }

  /** With the bridge br0 and an agent that has nothing to do yet. */
  static async begin(options: WorldOptions): Promise<World> {
    const world = new World(options);
    world.addBridge();
    world.kernel.onChange = (ifname) => world.hear(ifname);
    const domids = [...new Set(options.vifs.map((vif) => vif.domid))];
    for (const domid of domids) world.guests.set(domid, world.connect(domid));
    await world.makeDomains(domids);
    world.agent = new Agent(world);
    await world.drain();
    world.events = [];
    return world;
  }

  /** What does not change from world to world is made once. */
  private async makeDomains(domids: readonly number[]): Promise<void> {
    const made = DOMAINS.get(domids.join());
    for (const [path, node] of made ?? []) this.store.tree.put(path, { ...node, children: new Set(node.children) });
    for (const [, { perms }] of made ?? []) this.store.tree.count(perms[0]?.domid ?? 0, 1);
    if (made !== undefined) return;
    await this.toolstack.initDom0();
    await this.toolstack.createDomain({ domid: NICDOM, name: 'nicdom', driverDomain: true });
    await this.dom0.mkdir(`${HOME}/backend/vif`);
    for (const domid of domids) await this.toolstack.createDomain({ domid, name: `guest${domid}` });
    DOMAINS.set(domids.join(), nodesBelow(this.store, '/'));
  }

  /** br0, with an address that serves as gateway; without effect where it is there. */
  addBridge(): void {
    if (this.kernel.find('br0') !== undefined) return;
    const ifindex = this.kernel.addBridge('br0');
    const prefix = parsePrefix('198.51.100.1/24') as Prefix;
    this.kernel.addresses.push({ ifindex, prefix });
  }

  end(): void {
    this.agent?.kill();
    Clock.clear();
  }

  private connect(domid: number): XenstoreClient {
    const tap: WireTap = new WireTap(
      this.store,
      domid,
      16,
      (packet) => tap.serve(packet),
      () => undefined,
    );
    return new XenstoreClient(tap);
  }

  hear(ifname: string): void {
    if (this.agent !== undefined && this.links.at(-1) !== ifname) this.links.push(ifname);
  }

  ask(agent: Agent, effect: Effect): void {
    if (agent.alive) this.effects.push(effect);
  }

  /** All that can happen next. */
  moves(): Possible[] {
    const found: Possible[] = [];
    const add = (name: string, when: Possible['when']) => this.isLeft(name) && found.push({ name, when });
    if (this.effects.length > 0) add('serve', 'urgent');
    if (this.events.length > 0) {
      add('events', 'urgent');
      add('lose-events', 'free');
    }
    if (this.links.length > 0) {
      add('links', 'urgent');
      add('lose-links', 'free');
    }
    for (const plan of this.options.vifs) {
      const life = this.lives.get(keyText(plan)) as Life;
      const sight = this.sight(plan);
      for (const [name, move] of Object.entries(MOVES))
        if (move.may(life, sight))
          add(`${keyText(plan)}:${name}`, typeof move.when === 'string' ? move.when : move.when(life, sight));
    }
    if (this.agent === undefined) add('start', 'soon');
    else add('crash', 'free');
    if (!found.some(({ when }) => when === 'urgent')) add('time', 'soon');
    return found;
  }

  private isLeft(name: string): boolean {
    const limit = this.options.limits?.[name.slice(name.indexOf(':') + 1)];
    return limit === undefined || (this.spent.get(name) ?? 0) < limit;
  }

  /** How often each limited move has been made: part of what can happen yet. */
  get spending(): string {
    const { limits = {} } = this.options;
    return [...this.spent]
      .filter(([name]) => name.slice(name.indexOf(':') + 1) in limits)
      .sort()
      .join(' ');
  }

  /** Makes one move, and all that follows from it without waiting. */
  async make(name: string): Promise<void> {
    this.spent.set(name, (this.spent.get(name) ?? 0) + 1);
    const [key, move] = name.split(':') as [KeyText, string | undefined];
    if (move !== undefined) await this.live(key, move);
    else await this.happen(name);
    await Clock.settle();
    if (!this.options.fine) await this.drain();
    if (this.isIdle()) this.exchange = [];
    this.judge.look();
  }

  private async happen(name: string): Promise<void> {
    switch (name) {
      case 'serve':
        return this.serve();
      case 'events':
        for (const event of this.events.splice(0)) this.agent?.tap.deliver(event);
        return;
      case 'lose-events':
        this.judge.disturb();
        this.events = [];
        return;
      case 'links':
        for (const ifname of this.links.splice(0)) this.agent?.reconciler.onLinkEvent(ifname);
        return;
      case 'lose-links':
        this.links = [];
        return;
      case 'crash':
        this.judge.disturb();
        this.agent?.kill();
        this.agent = undefined;
        return this.forgetAgent();
      case 'start':
        this.agent = new Agent(this);
        return;
      case 'time':
        return Clock.next();
      default:
        throw new Error(`no such move: ${name}`);
    }
  }

  serve(): void {
    const effect = this.effects.shift();
    if (effect === undefined) return;
    if (this.onEffect(effect) === undefined) effect.serve();
  }

  /** The same process with a new connection, and all that hangs on it new (agent.ts). */
  reconnect(agent: Agent, reason: unknown): void {
    if (this.agent !== agent) return;
    agent.kill();
    this.agent = undefined;
    this.judge.disturb();
    this.forgetAgent();
    if (!this.options.reconnects) this.judge.accuse(`the session ended: ${reason}`);
  }

  private forgetAgent(): void {
    Object.assign(this, { effects: [], events: [], links: [], exchange: [] });
  }

  /** Serves all that the agent asks for. */
  async drain(): Promise<void> {
    for (let i = 0; this.effects.length > 0; i++) {
      if (i > 5_000) return this.judge.accuse(`the agent asks without end: ${this.effects[0]?.text}`);
      for (let known = this.effects.length; known > 0; known--) this.serve();
      await Clock.settle();
    }
  }

  /** Nothing is under way in the agent but what its objects and timers say. */
  isIdle(): boolean {
    if (this.agent === undefined) return true;
    const { loop, leftovers } = this.agent.reconciler as unknown as Record<
      'loop' | 'leftovers',
      { runs: Map<string, unknown> }
    >;
    return this.effects.length === 0 && loop.runs.size === 0 && leftovers.runs.size === 0;
  }

  sight(key: BackendKey): Sight {
    const back = `${HOME}/${backendDir(key)}`;
    const state = this.read(`${back}/state`);
    const front = this.read(`${frontendDir(asNic(key))}/state`);
    return {
      now: Clock.now(),
      back:
        state === undefined
          ? undefined
          : {
              state: Number(state),
              online: this.read(`${back}/online`) === '1',
              status: this.read(`${back}/hotplug-status`) ?? '',
            },
      front: front === undefined ? undefined : Number(front),
    };
  }

  /** A node as it is, whoever may read it. */
  read(path: string): string | undefined {
    const node = this.store.tree.read(path);
    return node && Buffer.from(node.value).toString();
  }

  backNode(key: BackendKey, name: string): string | undefined {
    return this.read(`${HOME}/${backendDir(key)}/${name}`);
  }

  life(key: BackendKey): Life {
    return this.lives.get(keyText(key)) as Life;
  }

  private async live(text: KeyText, name: string): Promise<void> {
    const plan = this.options.vifs.find((one) => keyText(one) === text);
    const [move, life] = [MOVES[name], this.lives.get(text)];
    if (plan === undefined || move === undefined || life === undefined)
      throw new Error(`no such move: ${text}:${name}`);
    const sight = this.sight(plan);
    if (!move.may(life, sight)) throw new Error(`${text}:${name} cannot be now: ${JSON.stringify({ life, sight })}`);
    const { life: change = {}, deeds = [] } = move.does(life, sight);
    this.lives.set(text, { ...life, ...change, spent: { ...life.spent, [name]: (life.spent[name] ?? 0) + 1 } });
    this.judge.follow(text, name, change.deadline !== undefined);
    for (const due of [change.deadline, change.madeBy]) if (due !== undefined) Clock.alarm(due - sight.now);
    for (const deed of deeds)
      await this.do(deed, plan).catch((error) => {
        if (!hasCode(error, 'ENOENT', 'EACCES')) throw error; // it is gone
      });
  }

  private async do(deed: Deed, plan: VifPlan): Promise<void> {
    const ifname = `vif${plan.domid}.${plan.devid}`;
    if ('make' in deed) return this.toolstack.writeVif(this.dom0, { ...asNic(plan), bridge: 'br0', ...plan.nic });
    if ('link' in deed) return deed.link === 'add' ? this.kernel.create(ifname) : this.removeLink(plan);
    const client = { dom0: this.dom0, netback: this.netback, guest: this.guests.get(plan.domid) }[
      deed.as
    ] as XenstoreClient;
    const path = this.place('rm' in deed ? deed.rm : deed.write, plan);
    if ('write' in deed) return client.write(path, deed.value);
    await client.rm(path);
    if (deed.as === 'dom0' && deed.rm === 'back') await this.rmEmptyParent(plan);
  }

  /** An admin's hand in dom0: the backend directory and all that dom0 knows of it. */
  async vanish(plan: VifPlan): Promise<void> {
    const life = this.life(plan);
    this.lives.set(keyText(plan), { ...life, dom0: 'none', errors: [] });
    for (const rm of ['front', 'back']) await this.do({ as: 'dom0', rm }, plan).catch(() => undefined);
  }

  private async rmEmptyParent({ domid }: BackendKey): Promise<void> {
    const parent = `${HOME}/backend/vif/${domid}`;
    if (this.store.tree.read(parent)?.children.size === 0) await this.dom0.rm(parent);
  }

  /** However it is called by now. */
  private async removeLink(key: BackendKey): Promise<void> {
    const link = this.linkOf(key);
    if (link !== undefined) await this.kernel.remove(link.ifname);
  }

  linkOf({ domid, devid }: BackendKey) {
    return [...this.kernel.links.values()].find(({ parentDev }) => parentDev === `vif-${domid}-${devid}`);
  }

  private place(name: string, plan: VifPlan): string {
    const [first, ...rest] = name.split('/');
    const at = {
      back: `${HOME}/${backendDir(plan)}`,
      front: frontendDir(asNic(plan)),
      error: `${HOME}/${kernelErrorDir(plan)}`,
    };
    return [at[first as keyof typeof at], ...rest].join('/');
  }
}

const asNic = ({ domid, devid }: BackendKey): Nic => ({ domid, devid, backendDomid: NICDOM });

function packetEffect(agent: Agent, world: World, packet: Packet): Effect {
  const text = describePacket(packet);
  return {
    text,
    serve: () => {
      world.exchange.push(text);
      world.judge.watching(text, () => agent.tap.serve(packet));
    },
    refuse: (errno) => {
      world.exchange.push(`${text}: ${errno}`);
      agent.tap.refuse(packet, errno);
    },
  };
}

/** The kernel as the agent sees it: each question and each change waits to be served. */
function gated(world: World, agent: Agent): KernelNetwork {
  const { kernel } = world;
  return new Proxy(kernel, {
    get(_, name: keyof MemoryKernel & string) {
      const inner = kernel[name] as unknown;
      if (typeof inner !== 'function') return inner;
      return (...args: unknown[]) =>
        new Promise((resolve, reject) => {
          const text = `${name} ${args.map((arg) => JSON.stringify((arg as { ifname?: string })?.ifname ?? arg)).join(' ')}`;
          world.ask(agent, {
            text,
            serve: () => {
              world.exchange.push(text);
              world.judge.beforeKernel(name, args);
              (inner.apply(kernel, args) as Promise<unknown>).then(resolve, reject);
              if (/^set(Link|Port|Vlans|Features)$/.test(name)) world.hear((args[0] as { ifname: string }).ifname);
            },
            refuse: (errno) => {
              world.exchange.push(`${text}: ${errno}`);
              reject(kernelError(name, args, errno));
            },
          });
        });
    },
  });
}

/** As the edges say it: nft's refusals have a code of their own. */
function kernelError(name: string, args: readonly unknown[], errno: string): Error {
  if (/Guard/.test(name)) return new AttachError('ENFT', `nftables refused a guard: ${errno}`, 'see nft list ruleset');
  const ifname = (args[0] as { ifname?: string })?.ifname ?? String(args[0] ?? '');
  return new NetlinkError(errno, name, ifname, 1);
}
