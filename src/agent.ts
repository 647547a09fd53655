/**
 * The composition root of `vifd run`: opens xenstore and netlink, wires them to the reconciler, and shuts down in order.
 * When the connection to xenstore is lost it begins anew; running guests notice neither that nor the end of vifd.
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { aborted } from './aborted.js';
import { OwnNetwork } from './binding/own-network.js';
import { VifDirectory } from './binding/vif-directory.js';
import type { LiveConfig } from './config/live.js';
import { hooksDirectory } from './config/schema.js';
import { DhcpServer } from './dhcp/server.js';
import { ConnectionError, hasCode, VifdError } from './errors.js';
import { HeapSweep } from './heap-sweep.js';
import { HostKernel } from './network/host-kernel.js';
import { Programs } from './network/hotplug-script.js';
import type { Kernel } from './network/kernel.js';
import { LinkMonitor } from './network/link-monitor.js';
import { HookFile } from './service/hook-file.js';
import type { Metrics } from './service/metrics.js';
import type { VifNow } from './service/metrics-text.js';
import { endOrphans } from './service/orphans.js';
import type { ServiceReport, Working } from './service/report.js';
import { stateDirectory } from './service/run-directory.js';
import { ScriptRequests } from './service/script-requests.js';
import { AttachQueue } from './vif/attach-queue.js';
import { WATCH_QUOTA_HINT } from './vif/failure.js';
import { Hooks } from './vif/hooks.js';
import { Reconciler } from './vif/reconciler.js';
import { scriptWork } from './vif/script-work.js';
import type { Phase, Vif } from './vif/vif.js';
import { connectXenstore, type XenstoreClient } from './xenstore/client.js';
import { BACKEND_ROOT, type BackendKey, SERVING_NODE } from './xenstore/paths.js';

export interface AgentOptions {
  /** Path of a socket or device; undefined: where it is found. */
  readonly xenstore: string | undefined;
  readonly config: LiveConfig;
  readonly log: Logger;
  /** Where vif scripts ask, and where is kept what hooks have heard; undefined: nowhere, so scripts do the work themselves. */
  readonly runDir: string | undefined;
  /** Ends the agent. */
  readonly signal: AbortSignal;
  readonly metrics: Metrics;
  /** Told when it is ready, and how it is. */
  readonly service?: ServiceReport | undefined;
}

/** xenstored drops events of a domain that does not read for 20 s (contract 5.3); this finds what was lost. */
const SCAN_EVERY_MS = 20_000;
/**
 * All queue for one netlink socket anyway; in lock-step every vif would be the last. Measured for 16 vifs at once: 22 ms
 * until the median vif is connected when all go side by side, 12 ms so.
 */
const ATTACHING_AT_ONCE = 4;
/** A look takes some 10 ms; one at which nft hangs holds up no vif for longer. */
const OWN_NETWORK_MAX_MS = 1_000;
const FIRST_RECONNECT_MS = 200;
const LAST_RECONNECT_MS = 10_000;

/** Runs until the signal. Rejects with ConnectionError when xenstore cannot be reached at the start. */
export async function runAgent(options: AgentOptions): Promise<void> {
  const store = await connectXenstore(options.xenstore);
  const kernel = new HostKernel();
  const programs = new Programs();
  const dhcp = new DhcpServer(stateDirectory(), options.log);
  const { runDir } = options;
  const record = runDir === undefined ? undefined : new HookFile(runDir, options.log);
  const hooks = new Hooks(programs, options.log, () => hooksDirectory(options.config.current), record);
  let reconciler: Reconciler | undefined;
  let inUse: XenstoreClient | undefined;
  const vifs = new VifDirectory({ connect: async () => inUse, onEvent: () => own.onVif() });
  const own: OwnNetwork = new OwnNetwork({
    kernel,
    vifs,
    log: options.log,
    get config() {
      return options.config.current;
    },
  });
  const onLink = (ifname?: string) => {
    reconciler?.onLinkEvent(ifname);
    own.onLink();
  };
  const monitor = new LinkMonitor({ onLink, onGap: onLink }, options.log);
  options.config.onReload = () => {
    own.onReload();
    reconciler?.kickAll();
  };
  monitor.start();
  let requests: ScriptRequests | undefined;
  try {
    await Promise.all([kernel.prepare(), loadNetback(options.log), endPrograms(options, hooks)]);
    const patience = sleep(OWN_NETWORK_MAX_MS, undefined, { ref: false });
    await Promise.race([own.start(), aborted(options.signal), patience]); // vifs need their bridges
    if (options.signal.aborted) return;
    requests = await openRequests(options, () => reconciler);
    await keepSessions(store, options, async (client) => {
      const session = await Session.open(client, { kernel, programs, dhcp, hooks }, options);
      reconciler = session.reconciler;
      inUse = client;
      own.onVif();
      return session.run().finally(() => {
        inUse = reconciler = undefined;
      });
    });
  } finally {
    await options.service?.end();
    monitor.stop();
    await requests?.close();
    kernel.ownChildren.pause();
    await Promise.all([own.stop(), dhcp.stop()]);
    programs.stop();
    kernel.close();
    await store.close().catch(() => undefined); // closed already, unless the kernel refused us at the start
  }
}

async function openRequests(
  { runDir: dir, log }: AgentOptions,
  reconciler: () => Reconciler | undefined,
): Promise<ScriptRequests | undefined> {
  if (dir === undefined) return undefined;
  return ScriptRequests.open({ dir, log, answer: (request) => scriptWork(request, reconciler()) });
}

/** One session after the other until the signal; `first` is the connection that is open already. */
async function keepSessions(
  first: XenstoreClient,
  options: AgentOptions,
  work: (store: XenstoreClient) => Promise<boolean>,
): Promise<void> {
  const { signal } = options;
  let store: XenstoreClient | undefined = first;
  for (let waitMs = FIRST_RECONNECT_MS; ; waitMs = Math.min(2 * waitMs, LAST_RECONNECT_MS)) {
    if (store !== undefined && (await work(store))) waitMs = FIRST_RECONNECT_MS;
    await sleep(waitMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    store = await reconnect(options);
  }
}

async function reconnect({ xenstore, log }: AgentOptions): Promise<XenstoreClient | undefined> {
  return connectXenstore(xenstore).catch((error: Error) => {
    log.warn(`no xenstore yet: ${error.message}`);
    return undefined;
  });
}

/** What outlives a connection to xenstore. */
interface Tools {
  readonly kernel: Kernel;
  readonly programs: Programs;
  readonly dhcp: DhcpServer;
  readonly hooks: Hooks;
}

/** One connection to xenstore, with all that hangs on it. */
class Session implements Working {
  private over = false;
  private scanning = false;
  private readonly heap = new HeapSweep();
  private constructor(
    private readonly store: XenstoreClient,
    private readonly tools: Tools,
    readonly reconciler: Reconciler,
    private readonly options: AgentOptions,
  ) {}

  static async open(store: XenstoreClient, tools: Tools, options: AgentOptions): Promise<Session> {
    const { config, log, signal, metrics } = options;
    tools.kernel.vifChildren.resume();
    const reading = store.readOptional('domid').catch(() => undefined); // if the connection is gone, run() says so
    const domid = await Promise.race([reading, aborted(signal)]);
    const privileged = domid === undefined || domid === '0'; // in doubt the careful way
    const reconciler = new Reconciler({
      store,
      ...tools,
      get config() {
        return config.current;
      },
      log,
      privileged,
      knowsAllVifs: true,
      attaching: new AttachQueue(ATTACHING_AT_ONCE),
      counts: metrics,
    });
    return new Session(store, tools, reconciler, options);
  }

  /** Works until the connection is lost or the signal comes. Resolves with whether it ever got to work. */
  async run(): Promise<boolean> {
    const stopped = aborted(this.options.signal);
    const timer = setInterval(() => void this.scanSlowly(), SCAN_EVERY_MS);
    const working = this.start().then(
      () => true,
      (error) => this.sayWhy(error),
    );
    const lost = this.store.closed.then((reason) => this.sayWhy(reason, '; vifs go on working, and vifd tries again'));
    await Promise.race([stopped, lost, working.then((ready) => (ready ? lost : undefined))]);
    this.over = true;
    clearInterval(timer);
    this.options.metrics.pause();
    this.tools.kernel.vifChildren.pause();
    if (!this.options.signal.aborted) this.options.service?.pause('the connection to xenstore is lost');
    // The store first: that ends every run that waits on it. A vif is safe at any point of a run.
    const closed = this.store.close();
    await Promise.allSettled([closed, this.reconciler.stop()]);
    await closed.catch((error: Error) => this.outlast(error));
    return working;
  }

  /** A read that stays blocked keeps one of the process's four threads, and a new connection would hang as well. */
  private async outlast({ message }: Error): Promise<void> {
    if (this.options.signal.aborted) return;
    this.options.log.warn(`${message}; vifd goes on when it answers`);
    await Promise.race([this.store.released(), aborted(this.options.signal)]);
  }

  private async start(): Promise<void> {
    const startedAt = performance.now();
    await this.watch();
    await this.reconciler.scan();
    if (this.over) throw new VifdError('ECANCELED', 'the session ended during its first scan'); // the list may be short
    this.keep();
    const { connected, failed } = this.reconciler.counts();
    const ms = Math.round(performance.now() - startedAt);
    this.options.log.info(
      { ms, uptimeMs: Math.round(process.uptime() * 1000) },
      `ready on ${this.store.peer}: ${connected} vifs connected, ${failed} failed`,
    );
    // One that has not been read yet may not be there at all: it was kicked when it had just left.
    this.options.metrics.begin(() =>
      this.reconciler
        .list()
        .filter(({ hasRead }) => hasRead)
        .map(vifNow),
    );
    this.heap.worked();
    this.announce();
    await this.options.service?.begin(this);
  }

  /** What has left while nobody heard of it, as of guests that dom0 had hidden. */
  private keep(): void {
    const mayBeThere = (key: BackendKey) => this.reconciler.mayBeThere(key);
    this.tools.dhcp.keep(mayBeThere);
    this.tools.hooks.keep(mayBeThere);
  }

  /** For dom0; nothing fails without it. */
  private announce(): void {
    void this.store.write(SERVING_NODE, 'ready').catch(() => undefined);
  }

  counts(): Record<Phase, number> {
    return this.reconciler.counts();
  }

  prove(): Promise<unknown> {
    return Promise.all([this.store.readOptional('domid'), this.tools.kernel.getLink('lo')]); // any answer will do
  }

  private async watch(): Promise<void> {
    let first = true; // the one that each watch starts with; start() scans
    try {
      await this.store.watch(BACKEND_ROOT, ({ path }) => {
        this.worked();
        if (path !== BACKEND_ROOT) this.reconciler.onStoreEvent(path);
        else if (!first) void this.scan().then(() => this.announce()); // this domain may have been moved
        first = false;
      });
    } catch (error) {
      if (!hasCode(error, 'E2BIG', 'ENOSPC')) throw error;
      throw new VifdError('EQUOTA', `vifd cannot watch ${BACKEND_ROOT}: ${WATCH_QUOTA_HINT}`, { cause: error });
    }
  }

  private worked(): void {
    this.heap.worked();
    this.options.service?.changed();
  }

  /** One at a time, one vif at a time. */
  private async scanSlowly(): Promise<void> {
    if (this.scanning) return;
    this.scanning = true;
    await this.scan(1);
    this.heap.scanned();
    this.options.service?.tell();
    this.scanning = false;
  }

  private async scan(atOnce?: number): Promise<void> {
    try {
      await this.reconciler.scan(atOnce);
      if (!this.over) this.keep();
      this.options.metrics.scanned();
    } catch (error) {
      if (!(error instanceof ConnectionError)) this.sayWhy(error);
    }
  }

  private sayWhy(error: unknown, andThen = ''): false {
    const text = error instanceof VifdError ? `${error.message}${andThen}` : `unexpected: ${(error as Error).stack}`;
    if (!hasCode(error, 'ECANCELED')) this.options.log.error(text);
    return false;
  }
}

const vifNow = ({ key, log, bridge, phase }: Vif): VifNow => ({
  ...key,
  ifname: log.ifname ?? null,
  bridge: bridge ?? null,
  health: phase === 'new' ? 'waiting' : phase,
});

/** Before the first look at a vif runs them again. */
async function endPrograms({ config, log }: AgentOptions, hooks: Hooks): Promise<void> {
  const wasCut = await hooks.begin();
  if (config.current.scripts === undefined && !wasCut) return;
  const ended = await endOrphans();
  if (ended > 0)
    log.warn(
      `scripts and hooks that a killed vifd had left running were killed (${ended}); they are run again where that is still due`,
    );
}

/** Without netback every vif stays in state 1, and dom0 gives up after 10 s. */
async function loadNetback(log: Logger): Promise<void> {
  if (!existsSync('/sys/bus/xen-backend') || existsSync('/sys/bus/xen-backend/drivers/vif')) return;
  const { execa } = await import('execa'); // seldom needed, and 5 MiB
  const { failed, shortMessage } = await execa('modprobe', ['xen-netback'], { reject: false, stdin: 'ignore' });
  if (failed)
    log.warn(
      `the module xen-netback is not loaded and vifd cannot load it (${shortMessage}); as root: modprobe xen-netback`,
    );
}
