/**
 * `vifd vif-script`: the work of a vif script without a daemon, once for one vif, by the daemon's own parts. Prints one line
 * for scripts/vif-vifd; warnings go to stderr.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { loadConfig } from '../config/load.js';
import { type Config, DEFAULTS } from '../config/schema.js';
import { AttachError, hasCode, NodeError, printable, VifdError } from '../errors.js';
import { Programs } from '../network/hotplug-script.js';
import { Kernel } from '../network/kernel.js';
import { formatAnswer } from '../service/script-protocol.js';
import { AttachQueue } from '../vif/attach-queue.js';
import { parseBackend, parseIfname, parseLive, type RawNodes } from '../vif/backend.js';
import { detach } from '../vif/detach.js';
import { errorText, writeError } from '../vif/hotplug-status.js';
import { resolveAttachment } from '../vif/policy.js';
import { readAllNodes } from '../vif/reader.js';
import { Reconciler } from '../vif/reconciler.js';
import type { ScriptAnswer, ScriptCommand, Whereabouts } from '../vif/script-answer.js';
import { hasLeft, mayGo, scriptWork } from '../vif/script-work.js';
import { connectXenstore, type XenstoreClient } from '../xenstore/client.js';
import { type BackendKey, parseBackendPath } from '../xenstore/paths.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

export interface VifScriptOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly bridge?: string;
}

/** dom0 gives a removal 10 s, and netback's patience is shorter. */
const DEADLINE_MS = 9_000;

export async function vifScript(command: ScriptCommand, path: string, options: VifScriptOptions): Promise<void> {
  const place = parseBackendPath(path);
  if (place === undefined || place.node !== '')
    throw new VifdError('EUSAGE', `the path is ${printable(path)}; expected backend/vif/DOMID/DEVID`);
  try {
    const answer = await withStore(options, (work) => work[command](place.key));
    console.log(formatAnswer(answer));
    process.exitCode = answer.is === 'done' ? 0 : 1;
  } finally {
    endDespiteBlockedRead();
  }
}

async function withStore(
  options: VifScriptOptions,
  work: (script: Script) => Promise<ScriptAnswer>,
): Promise<ScriptAnswer> {
  const store = await connectXenstore(options.xenstore);
  const kernel = new Kernel();
  try {
    return await work(new Script(store, kernel, options));
  } finally {
    kernel.close();
    await store.close().catch(() => undefined);
  }
}

class Script {
  constructor(
    private readonly store: XenstoreClient,
    private readonly kernel: Kernel,
    private readonly options: VifScriptOptions,
  ) {}

  async online(key: BackendKey): Promise<ScriptAnswer> {
    const config = await this.loadConfig(key);
    const answer = await this.reconcile(config, (reconciler) => scriptWork({ command: 'online', key }, reconciler));
    return answer ?? { is: 'failed', sentence: `xenstore or the kernel did not answer within ${DEADLINE_MS / 1000} s` };
  }

  /** What cannot be undone any more is done. */
  async offline(key: BackendKey): Promise<ScriptAnswer> {
    const nodes = await readAllNodes(this.store, key);
    const config = await this.loadConfigOrNone();
    const place = await this.detach(key, nodes, config);
    // Never in dom0, where libxl does it; elsewhere as the daemon does. xl devd removes the directory, but too quickly.
    if (nodes.has('state') && !parseLive(nodes).online) {
      const left = process.env.UDEV_CALL === undefined ? mayGo : hasLeft;
      const gone = await this.reconcile(config, async (reconciler) => reconciler.inDom0 || left(key, reconciler));
      if (gone === undefined)
        return { is: 'failed', sentence: `the vif has not left within ${DEADLINE_MS / 1000} s; its directory stays` };
    }
    return { is: 'done', place };
  }

  /** A vif that dom0 described badly was never attached. */
  private async detach(key: BackendKey, nodes: RawNodes, config: Config): Promise<Whereabouts | undefined> {
    try {
      const backend = parseBackend(key, nodes);
      const want = resolveAttachment(backend, config);
      await detach(want, this.kernel);
      return { ifname: want.ifname, bridge: backend.bridge ?? this.options.bridge ?? '-', ip: backend.ip };
    } catch (error) {
      if (error instanceof AttachError) stderrLog().warn(`${error.message}; ${error.hint}`);
      if (error instanceof NodeError || error instanceof AttachError) return undefined;
      throw error;
    }
  }

  /** Undefined when it takes too long. */
  private async reconcile<T>(config: Config, work: (reconciler: Reconciler) => Promise<T>): Promise<T | undefined> {
    const domid = await this.store.readOptional('domid');
    const reconciler = new Reconciler({
      store: this.store,
      kernel: this.kernel,
      config,
      log: stderrLog(),
      privileged: domid === undefined || domid === '0',
      attaching: new AttachQueue(1),
      knowsAllVifs: false,
      programs: new Programs(),
      defaultBridge: parseIfname(this.options.bridge ?? ''),
    });
    const timeUp = new AbortController();
    try {
      return await Promise.race([work(reconciler), sleep(DEADLINE_MS, undefined, { signal: timeUp.signal })]);
    } finally {
      timeUp.abort();
      await reconciler.stop();
    }
  }

  /** A vif that leaves must leave. What only the files know of the next vifd drops: no vif has it then (leftovers.ts). */
  private async loadConfigOrNone(): Promise<Config> {
    try {
      return (await loadConfig(this.options.config)).config;
    } catch (error) {
      const [fault] = (error as Error).message.split('\n');
      stderrLog().warn(
        `the configuration cannot be used, so the vif is taken out as without one, and a guard, rule or port that only it asks for stays until vifd runs: ${fault}`,
      );
      return DEFAULTS;
    }
  }

  /** The guest hears that there is something wrong, not what is in the files. */
  private async loadConfig(key: BackendKey): Promise<Config> {
    try {
      return (await loadConfig(this.options.config)).config;
    } catch (error) {
      if (hasCode(error, 'ECONFIG')) {
        const told = { hotplugStatus: undefined, hotplugError: undefined };
        await writeError(
          this.store,
          key,
          told,
          errorText("the configuration of the driver domain's vifd is not valid"),
        );
      }
      throw error;
    }
  }
}

/** Plain words for xl's log. */
function stderrLog(): Logger {
  const write = (line: string) => {
    const { msg } = JSON.parse(line) as { msg: string };
    process.stderr.write(`vifd: ${msg}\n`);
  };
  return pino({ level: 'warn', base: null }, { write });
}
