/**
 * `vifd run` where mode = "observe": this domain's own network and nothing else. It attaches no vif and needs no xenstore, so
 * it works beside whoever does attach them, as dom0's toolstack.
 */
import type { AgentOptions } from './agent.js';
import { OwnNetwork } from './binding/own-network.js';
import { HostKernel } from './network/host-kernel.js';
import { LinkMonitor } from './network/link-monitor.js';

/** Runs until the signal. */
export async function runObserver({ config, log, signal, service }: AgentOptions): Promise<void> {
  const kernel = new HostKernel();
  const own = new OwnNetwork({
    kernel,
    log,
    get config() {
      return config.current;
    },
  });
  const onLink = () => own.onLink();
  const monitor = new LinkMonitor({ onLink, onGap: onLink }, log);
  config.onReload = () => own.onReload();
  monitor.start();
  try {
    await own.start();
    const { bridges, bindings } = config.current;
    log.info(
      { uptimeMs: Math.round(process.uptime() * 1000) },
      `ready, observing: ${bridges.length} declared bridges, ${bindings.length} bindings; vifs are attached by others`,
    );
    await service?.begin({ counts: () => undefined, prove: () => kernel.getLink('lo') });
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  } finally {
    await service?.end();
    monitor.stop();
    await own.stop();
    kernel.close();
  }
}
