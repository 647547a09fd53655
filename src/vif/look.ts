/** EDGE: looks at one vif, in xenstore and in the kernel; changes nothing. */
import type { Config } from '../config/schema.js';
import { AttachError, NetlinkError, NodeError } from '../errors.js';
import { NO_VLANS } from '../network/bridge-vlan.js';
import type { LinkStatistics } from '../network/ip-link.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Link } from '../network/rtnetlink.js';
import type { XenstoreClient } from '../xenstore/client.js';
import type { BackendKey } from '../xenstore/paths.js';
import { parseBackend, parseLive } from './backend.js';
import { explainFailure, type Failure } from './failure.js';
import { readFrontendNode } from './frontend.js';
import { findBridge, findLink } from './observe.js';
import { type Attachment, resolveAttachment } from './policy.js';
import { listBackends, readAllNodes, readKernelError } from './reader.js';
import type { BridgeSeen, Surroundings, VifSeen } from './seen.js';

export interface LookIo {
  readonly store: XenstoreClient;
  readonly kernel: KernelNetwork;
  readonly config: Config;
  readonly around: Surroundings;
  readonly statistics: ReadonlyMap<string, LinkStatistics>;
  /** All interfaces, read once for all vifs. */
  readonly links: readonly Link[];
}

/** All vifs that have a directory, in the order of their numbers. */
export async function lookAtVifs(io: LookIo): Promise<VifSeen[]> {
  const keys = await listBackends(io.store);
  keys.sort((a, b) => a.domid - b.domid || a.devid - b.devid);
  const seen = await Promise.all(keys.map((key) => lookAtVif(key, io)));
  return seen.filter(({ live }) => live === undefined || live.state !== undefined); // gone meanwhile
}

/** Never rejects for what is wrong with the vif; only when xenstore itself fails. */
export async function lookAtVif(key: BackendKey, io: LookIo): Promise<VifSeen> {
  const { store, config, around } = io;
  const [nodes, kernelError, state, mtu] = await Promise.all([
    readAllNodes(store, key),
    readKernelError(store, key),
    readFrontendNode(store, key, 'state'),
    readFrontendNode(store, key, 'mtu'),
  ]);
  const [live, liveFault] = attempt(() => parseLive(nodes));
  const [backend, backendFault] = attempt(() => parseBackend(key, nodes));
  const [want, wantFault] = attempt(() => backend && resolveAttachment(backend, config));
  return {
    key,
    live,
    backend,
    nodeFault: liveFault ?? backendFault ?? wantFault,
    kernelError,
    frontend: { state, mtu },
    want,
    around,
    ...(await lookAtKernel(key, want, io)),
  };
}

type KernelSide = Pick<VifSeen, 'link' | 'bridge' | 'guard' | 'vlans' | 'addresses' | 'features' | 'statistics'>;

async function lookAtKernel(
  { domid, devid }: BackendKey,
  want: Attachment | undefined,
  { kernel, links, statistics }: LookIo,
): Promise<KernelSide> {
  const link =
    want === undefined
      ? links.find(({ ifname }) => ifname === `vif${domid}.${devid}`)
      : await findLink(want, kernel, true);
  return {
    link,
    bridge: want === undefined ? undefined : await lookAtBridge(want, kernel, links),
    guard: want === undefined ? undefined : await kernel.getGuard(want.ifname, Number.POSITIVE_INFINITY),
    vlans: link === undefined || want?.vlans === undefined ? NO_VLANS : await kernel.getVlans(link),
    addresses: link === undefined ? [] : await kernel.listAddresses(link.ifindex),
    features: link === undefined ? undefined : await kernel.getWantedFeatures(link).catch(noAnswer),
    statistics: link === undefined ? undefined : statistics.get(link.ifname),
  };
}

async function lookAtBridge(
  want: Attachment,
  kernel: KernelNetwork,
  links: readonly Link[],
): Promise<BridgeSeen | Failure> {
  try {
    const found = await findBridge(want, kernel);
    const ports = links.filter(({ master }) => master === found.link.ifindex);
    return { ...found, ports };
  } catch (error) {
    if (!(error instanceof AttachError)) throw error;
    return explainFailure(error);
  }
}

function attempt<T>(parse: () => T): [T, undefined] | [undefined, string] {
  try {
    return [parse(), undefined];
  } catch (error) {
    if (!(error instanceof NodeError)) throw error;
    return [undefined, error.message];
  }
}

/** The interface went between two questions, or the kernel has no ethtool family. */
function noAnswer(error: unknown): undefined {
  if (!(error instanceof NetlinkError)) throw error;
}
