/** All that can be seen of one vif in xenstore and in the kernel at one time: what `status`, `explain` and `doctor` judge. Pure. */
import type { Features } from '../network/ethtool.js';
import type { LinkStatistics } from '../network/ip-link.js';
import type { Link, LinkAddress } from '../network/rtnetlink.js';
import type { BackendKey } from '../xenstore/paths.js';
import type { Attachment } from './attachment.js';
import type { VifBackend, VifLive } from './backend.js';
import type { Failure } from './failure.js';
import type { Place } from './plan.js';

export interface VifSeen {
  readonly key: BackendKey;
  /** Undefined when a node of it is wrong. */
  readonly backend: VifBackend | undefined;
  /** Undefined when a node of it is wrong. */
  readonly live: VifLive | undefined;
  /** The first node that cannot be accepted. */
  readonly nodeFault: string | undefined;
  /** What the kernel wrote of a fault of this vif, as it stands in xenstore. */
  readonly kernelError: string | undefined;
  /** The guest's half. Undefined state: its directory is gone; the guest may write anything there. */
  readonly frontend: { readonly state: string | undefined; readonly mtu: string | undefined };
  readonly want: Attachment | undefined;
  readonly link: Link | undefined;
  /** Why what it is to be connected to is not there. */
  readonly placeFault: Failure | undefined;
  /** How the interface stands to that; undefined without an interface or while something is at fault. */
  readonly place: Place | undefined;
  /** Undefined where none is asked for, or it is not there. */
  readonly bridge: BridgeSeen | undefined;
  /** The chain that guards the interface's name. */
  readonly guard: string | undefined;
  readonly addresses: readonly LinkAddress[];
  /** Undefined: could not be asked. */
  readonly features: Features | undefined;
  /** Undefined when `ip` did not tell. */
  readonly statistics: LinkStatistics | undefined;
  readonly around: Surroundings;
}

export interface BridgeSeen {
  readonly link: Link;
  readonly warning?: string;
  readonly ports: readonly Link[];
}

/** A process that attaches vifs. */
export interface Program {
  readonly pid: number;
  readonly command: 'vifd run' | 'xl devd';
  /** The configuration file that it was started with. */
  readonly config?: string;
}

/** What is the same for all vifs. */
export interface Surroundings {
  readonly programs: readonly Program[];
  /** `no bus`: this kernel has no Xen backends at all, as beside the simulator. */
  readonly netback: 'loaded' | 'missing' | 'no bus';
}

/** A vif's interface, whoever's it is and however it is called: the device behind it tells, before Linux 5.14 vifd's alias. */
export const isVifLink = ({ ifname, alias, parentDev }: Link): boolean =>
  parentDev === '' ? [ifname, alias].some((name) => /^vif\d+\.\d+$/.test(name)) : parentDev.startsWith('vif-');
