/** Every reason for which a vif fails, for the manual page: what `code` in the log and `vifd_failures_total` stand for. Pure. */
import { QUOTA_HINT, WATCH_QUOTA_HINT } from './failure.js';

interface Reason {
  readonly means: string;
  readonly remedy: string;
}

export const FAILURE_CODES: Readonly<Record<string, Reason>> = {
  EBADNODE: {
    means: 'dom0 wrote a node that cannot be used; the sentence names it, its value, and what would be accepted',
    remedy: "correct the guest's vif line in dom0 and attach it again",
  },
  ESCRIPT: {
    means: 'the script that dom0 names is none that vifd knows',
    remedy:
      "write another into the guest's vif line, or say how such vifs are connected: [rule.NAME] with match.script and mode",
  },
  ENOBRIDGE: {
    means: 'the bridge does not exist; the log names those that there are',
    remedy: "make it and take it up, or correct bridge= in the guest's vif line",
  },
  ENOTBRIDGE: {
    means: 'what bridge= names is no bridge',
    remedy: 'name the bridge, not the card in it',
  },
  ENOVLANFILTER: {
    means: 'the vif asks for VLANs, and its bridge does not filter them',
    remedy:
      'ip link set BRIDGE type bridge vlan_filtering 1, and give the card in it the VLANs: bridge vlan add dev eth0 vid 10',
  },
  ENOGATEWAY: {
    means: 'a routed vif has no address that its guest could take for its gateway',
    remedy: 'set gateway, or name the interface to the network: gatewaydev',
  },
  ENATNETWORK: {
    means: 'nat_network has no address for this vif',
    remedy: "give it one by ip= in the guest's vif line, or set a larger nat_network",
  },
  EOWNADDRESS: {
    means: "an address of the guest is this domain's own",
    remedy: 'give the guest another address in ip=, or set ip',
  },
  EROUTE: {
    means: 'an address of the guest is routed to another interface already; the sentence names both',
    remedy: 'give the guest another address, or remove that route',
  },
  ESCRIPTFILE: {
    means: 'the file of a [script.NAME] cannot be used; the sentence says why',
    remedy: 'it must be there, be executable, belong to root, and nobody else may write it or a directory above it',
  },
  ESCRIPTRUN: {
    means: 'a user script cannot be run',
    remedy:
      "the interpreter in its first line must be there; the systemd unit's sandbox allows little; memory, processes and file descriptors must be left",
  },
  ESCRIPTFAILED: {
    means: 'a user script failed; the sentence ends with the last line of its stderr',
    remedy: 'as that says; all its output is in the log',
  },
  ESCRIPTLIMIT: {
    means: 'a user script took too long and was killed with all that it had started',
    remedy: 'see its output in the log, or give it a longer timeout',
  },
  ECANCELED: {
    means: 'a user script was killed by another',
    remedy: 'none: it is run again',
  },
  ENOOVS: {
    means: 'ovs-vsctl cannot be run',
    remedy: 'install openvswitch-switch, or give the vif another script or mode',
  },
  EOVSDB: {
    means: 'the database of Open vSwitch cannot be reached',
    remedy: "start Open vSwitch, or let vifd's user use its socket",
  },
  EOVSTIME: {
    means: 'Open vSwitch has not done it in time',
    remedy: 'see whether ovs-vswitchd runs',
  },
  EOVSPORT: {
    means: 'Open vSwitch cannot use the interface',
    remedy: 'the log has its words',
  },
  EOVS: {
    means: 'Open vSwitch has refused it',
    remedy: 'the log has its words',
  },
  EVLAN: {
    means: 'Open vSwitch cannot do this vlan: only one VLAN can go without a tag',
    remedy: 'leave u out of vlan',
  },
  ENOGUARD: {
    means: 'a port of Open vSwitch is to be guarded, whose frames pass nftables by',
    remedy: 'set guard = "off" for it, and let flows of Open vSwitch do it',
  },
  ENONFT: {
    means: 'the vif is to be guarded, and the program nft cannot be started',
    remedy: 'install nftables, or write guard = "off"',
  },
  ENFT: {
    means: 'nft refused the rules of the guard; the log has its words',
    remedy: 'load nf_tables with its bridge family (modprobe nft_meta_bridge), or write guard = "off"',
  },
  ENFTTIME: {
    means: 'nft has not done it in time',
    remedy: 'see what it waits for: time nft list ruleset',
  },
  ENONETBACK: {
    means: 'xen-netback has not taken the vif: state stays 1',
    remedy: 'modprobe xen-netback in the driver domain',
  },
  ENOLINK: {
    means: 'xen-netback made no interface, or gave the vif up without a word',
    remedy: 'dmesg | grep vif in the driver domain',
  },
  ENETBACK: {
    means: "xen-netback gave the vif up; the log has the kernel's own words",
    remedy: `as these say. Where they begin with 7, ${WATCH_QUOTA_HINT}. Where they begin with 28, as for EQUOTA`,
  },
  EQUOTA: {
    means: 'xenstore has no room for what has to be written of this vif',
    remedy: QUOTA_HINT,
  },
  EUNEXPECTED: {
    means: 'a fault of vifd itself; the log has the place in the program',
    remedy: 'report it with that and with a record of vifd monitor',
  },
};
