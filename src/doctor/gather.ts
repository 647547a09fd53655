/** EDGE: gathers what the doctor's checks judge. Reads only, and loads no module by it. */
import { readFile } from 'node:fs/promises';
import { vifMatch } from '../config/schema.js';
import { findDnsmasq } from '../dhcp/dnsmasq.js';
import { ConnectionError, type VifdError, XenstoreError } from '../errors.js';
import { HostKernel } from '../network/host-kernel.js';
import type { Kernel } from '../network/kernel.js';
import type { Link } from '../network/rtnetlink.js';
import { readStatistics } from '../network/statistics.js';
import { runningNames } from '../processes.js';
import { type LookIo, lookAtVifs } from '../vif/look.js';
import { readForwarding } from '../vif/observe-routed.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { readBridgeFilter } from './bridge-filter.js';
import { readConfigurationFiles } from './configuration-files.js';
import type { Machine } from './machine.js';
import { countOwnNodes } from './own-nodes.js';
import { findPrograms } from './programs.js';
import { configInForce, lookAtOwn, netbackModule } from './surroundings.js';

/** Never rejects for what is wrong with the machine: that is what it is asked for. */
export async function gatherMachine(store: XenstoreClient | ConnectionError, configFile?: string): Promise<Machine> {
  const kernel = new HostKernel();
  try {
    const [programs, network, statistics] = await Promise.all([
      findPrograms(),
      lookAtNetwork(kernel),
      readStatistics(),
    ]);
    const around = { programs, netback: netbackModule() };
    const { config, configFault, judgedBy } = await configInForce(configFile, programs);
    const io = { kernel, config, statistics, around, links: network.links };
    const xen = await lookAtXen(store, network.netlinkFault === undefined ? io : undefined);
    return {
      ...around,
      ...network,
      configFault,
      judgedBy,
      ...xen,
      hasIp: statistics.size > 0,
      hasDnsmasq: (await findDnsmasq()) !== undefined,
      hypervisor: await readTrimmed('/sys/hypervisor/type'),
      running: runningNames(),
      files: await readConfigurationFiles(),
      bridgeFilter: await readBridgeFilter(),
      forwards: await readForwarding(),
      observes: config.agent.mode === 'observe',
      asksForVifs: config.bindings.some((binding) => vifMatch(binding) !== undefined),
      own: network.netlinkFault === undefined ? await lookAtOwn(config, kernel, xen.vifs) : [],
    };
  } finally {
    kernel.close();
  }
}

type Network = Pick<Machine, 'links' | 'netlinkFault' | 'ethtoolFault'>;

async function lookAtNetwork(kernel: Kernel): Promise<Network> {
  try {
    const links = await kernel.listLinks();
    return { links, netlinkFault: undefined, ethtoolFault: await ethtoolFault(kernel, links) };
  } catch (error) {
    return { links: [], netlinkFault: messageOf(error), ethtoolFault: undefined };
  }
}

async function ethtoolFault(kernel: Kernel, links: readonly Link[]): Promise<string | undefined> {
  const lo = links.find(({ ifname }) => ifname === 'lo');
  if (lo === undefined) return undefined;
  return kernel.getFeatures(lo).then(() => undefined, messageOf);
}

/** Without `io` the kernel does not answer, and no vif is looked at. */
async function lookAtXen(
  store: XenstoreClient | ConnectionError,
  io: Omit<LookIo, 'store'> | undefined,
): Promise<Pick<Machine, 'xenstore' | 'vifs'>> {
  if (store instanceof ConnectionError) return { xenstore: troubleOf(store), vifs: [] };
  try {
    const domid = await store.readOptional('domid');
    const nodes = await countOwnNodes(store, domid);
    const vifs = io === undefined ? [] : await lookAtVifs({ ...io, store });
    return { xenstore: { peer: store.peer, domid, nodes }, vifs };
  } catch (error) {
    if (!(error instanceof ConnectionError || error instanceof XenstoreError)) throw error;
    return { xenstore: troubleOf(error), vifs: [] };
  }
}

const troubleOf = ({ code, message }: VifdError) => ({ code, message });

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

async function readTrimmed(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
}
