/**
 * `vifd run` where mode = "observe": this domain's own network and nothing else. It attaches no vif, and asks xenstore only for
 * when.vif, so it works beside whoever does attach them, as dom0's toolstack.
 */
import { aborted } from './aborted.js';
import type { AgentOptions } from './agent.js';
import { OwnNetwork } from './binding/own-network.js';
import { VifDirectory } from './binding/vif-directory.js';
import { HostKernel } from './network/host-kernel.js';
import { LinkMonitor } from './network/link-monitor.js';
import { connectXenstore, type XenstoreClient } from './xenstore/client.js';

/** Runs until the signal. */
export async function runObserver({ config, log, signal, service, xenstore }: AgentOptions): Promise<void> {
  let store: XenstoreClient | undefined;
  const kernel = new HostKernel();
  const vifs = new VifDirectory({
    connect: async () => {
      store ??= await connectXenstore(xenstore);
      void store.closed.then(() => {
        store = undefined;
      });
      return store;
    },
    onEvent: () => own.onVif(),
  });
  const own: OwnNetwork = new OwnNetwork({
    kernel,
    log,
    vifs,
    get config() {
      return config.current;
    },
  });
  const onLink = () => own.onLink();
  const monitor = new LinkMonitor({ onLink, onGap: onLink }, log);
  config.onReload = () => own.onReload();
  monitor.start();
  try {
    const ended = aborted(signal);
    await Promise.race([own.start(), ended]);
    if (signal.aborted) return;
    const { bridges, bindings } = config.current;
    log.info(
      { uptimeMs: Math.round(process.uptime() * 1000) },
      `ready, observing: ${bridges.length} declared bridges, ${bindings.length} bindings; vifs are attached by others`,
    );
    await service?.begin({ counts: () => undefined, prove: () => kernel.getLink('lo') });
    await ended;
  } finally {
    await service?.end();
    monitor.stop();
    await store?.close().catch(() => undefined); // ends what waits for it; a read that stays blocked is the caller's matter
    kernel.ownChildren.pause();
    await own.stop();
    kernel.close();
  }
}
