/** EDGE: looks at one vif, in xenstore and in the kernel; changes nothing. */
import type { Config } from '../config/schema.js';
import { AttachError, hasCode, NetlinkError, NodeError, XenstoreError } from '../errors.js';
import type { LinkStatistics } from '../network/ip-link.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Link } from '../network/rtnetlink.js';
import type { XenstoreClient } from '../xenstore/client.js';
import type { BackendKey } from '../xenstore/paths.js';
import { type Attachment, guardTable } from './attachment.js';
import { parseBackend, parseLive } from './backend.js';
import { explainFailure } from './failure.js';
import { readFrontendNode } from './frontend.js';
import { findLink, findPlace, guardedName, observePlace } from './observe.js';
import { resolveAttachment } from './policy.js';
import { listBackends, readAllNodes, readKernelError, unlisted } from './reader.js';
import type { Surroundings, VifSeen } from './seen.js';

export interface LookIo {
  readonly store: XenstoreClient;
  readonly kernel: KernelNetwork;
  readonly config: Config;
  readonly around: Surroundings;
  readonly statistics: ReadonlyMap<string, LinkStatistics>;
  /** All interfaces, read once for all vifs. */
  readonly links: readonly Link[];
}

/** All vifs that have a directory, in the order of their numbers; `onHidden` gets a sentence for those that may not be listed. */
export async function lookAtVifs(io: LookIo, onHidden: (why: string) => void = () => {}): Promise<VifSeen[]> {
  const keys = await listBackends(io.store, (path, why) => why === 'hidden' && onHidden(unlisted(path)));
  keys.sort((a, b) => a.domid - b.domid || a.devid - b.devid);
  const seen = await Promise.all(keys.map((key) => lookAtVif(key, io)));
  return seen.filter(({ live }) => live === undefined || live.state !== undefined); // gone meanwhile
}

/** Never rejects for what is wrong with the vif; only when xenstore itself fails. */
export async function lookAtVif(key: BackendKey, io: LookIo): Promise<VifSeen> {
  const { store, config, around } = io;
  const [[nodes, hidden], kernelError, state, mtu] = await Promise.all([
    readAllNodes(store, key).then((read) => [read, undefined] as const, unreadable),
    readKernelError(store, key),
    readFrontendNode(store, key, 'state'),
    readFrontendNode(store, key, 'mtu'),
  ]);
  const [live, liveFault] = attempt(() => nodes && parseLive(nodes));
  const [backend, backendFault] = attempt(() => nodes && parseBackend(key, nodes));
  const [want, wantFault] = attempt(() => backend && resolveAttachment(backend, config));
  return {
    key,
    live,
    backend,
    nodeFault: hidden ?? liveFault ?? backendFault ?? wantFault,
    kernelError,
    frontend: { state, mtu },
    want,
    around,
    ...(await lookAtKernel(key, want, io)),
  };
}

/** dom0 may hide one vif's nodes; the others are to be seen all the same. */
function unreadable(error: unknown): [undefined, string] {
  if (!(error instanceof XenstoreError && error.code === 'EACCES')) throw error;
  return [undefined, error.message];
}

type KernelSide = Pick<
  VifSeen,
  'link' | 'placeFault' | 'place' | 'bridge' | 'guard' | 'addresses' | 'features' | 'statistics'
>;

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
    ...(want === undefined ? NOWHERE : await lookAtPlace(want, link, kernel, links)),
    guard: want && (await kernel.getGuard(guardedName(want, link), 'now', guardTable(want)).catch(noAnswer)),
    addresses: link === undefined ? [] : await kernel.listAddresses(link.ifindex),
    features: link === undefined ? undefined : await kernel.getFeatures(link).catch(noAnswer),
    statistics: link === undefined ? undefined : statistics.get(link.ifname),
  };
}

const NOWHERE = { placeFault: undefined, place: undefined, bridge: undefined };

async function lookAtPlace(
  want: Attachment,
  link: Link | undefined,
  kernel: KernelNetwork,
  links: readonly Link[],
): Promise<Pick<KernelSide, 'placeFault' | 'place' | 'bridge'>> {
  try {
    const found = await findPlace(want, kernel);
    const place = link && (await observePlace(want, found, link, kernel));
    if (found.mode !== 'bridge') return { placeFault: undefined, place, bridge: undefined };
    const ports = links.filter(({ master }) => master === found.link.ifindex);
    return { placeFault: undefined, place, bridge: { ...found, ports } };
  } catch (error) {
    if (!(error instanceof AttachError)) throw error;
    return { ...NOWHERE, placeFault: explainFailure(error) };
  }
}

function attempt<T>(parse: () => T): [T, undefined] | [undefined, string] {
  try {
    return [parse(), undefined];
  } catch (error) {
    if (error instanceof NodeError) return [undefined, error.message];
    if (error instanceof AttachError) return [undefined, `${error.message}; ${error.hint}`];
    throw error;
  }
}

/** The interface went between two questions, or the kernel has no ethtool family. */
function noAnswer(error: unknown): undefined {
  if (!(error instanceof NetlinkError) && !hasCode(error, 'ENFTTIME')) throw error;
}
