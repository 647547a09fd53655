/** All that `vifd doctor` knows of this machine, gathered once; every check is a function of it. Pure: the shape only. */
import type { Family } from '../network/prefix.js';
import type { Link } from '../network/rtnetlink.js';
import type { Surroundings, VifSeen } from '../vif/seen.js';
import type { OwnState } from './own-network.js';

export interface Machine extends Surroundings {
  /** /sys/hypervisor/type: `xen`; undefined: none that the kernel knows. */
  readonly hypervisor: string | undefined;
  readonly xenstore: Xenstore | XenstoreTrouble;
  /** All interfaces of this network namespace; none when netlink does not answer. */
  readonly links: readonly Link[];
  /** Why the kernel cannot be asked over netlink. */
  readonly netlinkFault: string | undefined;
  /** Why the family `ethtool` of generic netlink cannot be used. */
  readonly ethtoolFault: string | undefined;
  /** What is wrong in the configuration files; undefined: nothing. */
  readonly configFault: string | undefined;
  /** What took the place of files that are spoiled. */
  readonly judgedBy?: string | undefined;
  readonly vifs: readonly VifSeen[];
  /** iproute2 is there and speaks JSON. */
  readonly hasIp: boolean;
  readonly hasDnsmasq: boolean;
  /** Names of all running programs (comm). */
  readonly running: ReadonlySet<string>;
  readonly files: ConfigurationFiles;
  readonly bridgeFilter: BridgeFilter;
  /** Whether packets of this family are passed on. */
  readonly forwards: Readonly<Record<Family, boolean>>;
  /** agent.mode = "observe": vifs are attached by others. */
  readonly observes: boolean;
  /** Whether a binding asks xenstore for vifs. */
  readonly asksForVifs: boolean;
  /** [bridge] and [bind]. */
  readonly own: readonly OwnState[];
}

export interface Xenstore {
  /** The socket or device. */
  readonly peer: string;
  /** The node `domid`; undefined when it is missing. */
  readonly domid: string | undefined;
  /** Nodes that this domain owns, as far as they can be seen. */
  readonly nodes: number;
}

export interface XenstoreTrouble {
  /** ENOENT, EACCES ... */
  readonly code: string;
  readonly message: string;
}

/** Only files that are in force: of two with the same name, the one that systemd or udev would read. */
export interface ConfigurationFiles {
  readonly udevRules: readonly TextFile[];
  /** /etc/network/interfaces and what it includes. */
  readonly interfaces: readonly TextFile[];
  readonly networkManager: readonly TextFile[];
  /** `.network` files, in the order in which networkd tries them. */
  readonly networkd: readonly TextFile[];
}

export interface TextFile {
  readonly path: string;
  readonly text: string;
}

/** br_netfilter hands bridged packets to iptables. Undefined: the module is not loaded. */
export interface BridgeFilter {
  readonly iptables: boolean | undefined;
  readonly ip6tables: boolean | undefined;
  /** Chains on the way of bridged or forwarded packets that drop what no rule accepts; undefined: could not be asked. */
  readonly dropping: readonly DroppingChain[] | undefined;
}

export interface DroppingChain {
  /** nftables' word: ip, ip6, inet, bridge. */
  readonly family: string;
  readonly table: string;
  readonly chain: string;
}

export const inTrouble = (xenstore: Machine['xenstore']): xenstore is XenstoreTrouble => 'code' in xenstore;
