/** What vifd(8) says beyond the words of --help. */
import { FAILURE_CODES } from '../vif/failure-codes.js';

/** A paragraph, or a term and what it is, in lines. */
export type Part = string | readonly [term: string, ...lines: string[]];

export const LIFE: readonly Part[] = [
  [
    '1.',
    'dom0 writes the directory backend/vif/DOMID/DEVID; vifd reads and checks every node. The script that the node names is never executed: its name says how the vif is connected (vif-bridge, vif-route, vif-nat, vif-openvswitch, or one that [script.NAME] allows), vif-bridge_qlen and vif-bridge_TxOff give what they say, and another is an error unless the configuration sets mode.',
  ],
  [
    '2.',
    "The kernel says state 2 and makes the interface vifDOMID.HANDLE. vifd sets MAC fe:ff:ff:ff:ff:ff, no addresses, MTU (node mtu, else the bridge's), queue length 1000 and transmit checksum offload off (unless configured otherwise), the name in vifname if there is one, joins the bridge, and takes it up. A routed vif joins none: it gets the gateway's address and the guest's routes. Without bridge it is the first in alphabetical order, and for xenbrN that does not exist ethN if that is a bridge, as with vif-bridge; both are warned of.",
  ],
  [
    '3.',
    "The guest's mtu node is written where that is allowed, hotplug-error is cleared, and hotplug-status becomes connected. Only now does the kernel let the guest connect.",
  ],
  [
    '4.',
    'What drifts is repaired: within a second when the interface changes, within 20 s for what makes no event. Where another program undoes that again and again, repairs come ever later, up to 20 s apart, until a minute has been quiet.',
  ],
  [
    '5.',
    "When dom0 has set online 0 and the kernel is in state 6, vifd waits until all vifs of the guest have been quiet for a second (0.1 s more for each further vif, 8 s at most), which dom0 needs to see that state, and removes the directory. dom0's own limit is 10 s.",
  ],
  "Emulated cards (vif_ioemu) are QEMU's matter where QEMU runs; their PV twin is attached like any other.",
];

export const SCRIPT: readonly Part[] = [
  'Called in place of vif-bridge by libxl in dom0, xl devd or udev, it asks vifd run, or without one calls vifd vif-script. It answers within 9 s, before dom0 gives up. No value is evaluated or becomes part of a command; what does not look like backend/vif/DOMID/DEVID is refused.',
  [
    'online',
    'exit 0 with hotplug-status = connected, also when it was before; else exit 1, the sentence on stderr and in hotplug-error',
  ],
  [
    'offline',
    'ends when the vif has left but for its directory, a second or more after its end: xl devd removes that as soon as its script ends, and vifd run then leaves it to devd, for 1.5 s more. In dom0, and for a vif that stays, it ends at once. Without vifd run the interface is taken down and out of its bridge first; called by udev the script removes the directory itself',
  ],
  ['add, remove, or type_if=tap', "exit 0: emulated cards are QEMU's matter where QEMU runs"],
  [
    'NAME=VALUE',
    'type_if, XENBUS_PATH, vif, bridge and ip count before the environment, and xenstore before both; others mean nothing. bridge counts without vifd run only',
  ],
  [
    'log',
    'stderr, that is xl\'s log, where xl also prints the sentence: script: bridge "brnone" does not exist. xl create takes the guest back; after a failed xl network-attach the vif stays in xl\'s list until xl network-detach',
  ],
];

export const SIGNALS: readonly Part[] = [
  [
    'SIGTERM, SIGINT',
    'vifd run ends with 0 and leaves every vif as it is; vif scripts that wait for it do their work themselves. vifd monitor and vifd status --watch end.',
  ],
  [
    'SIGHUP',
    'vifd run reads its configuration again. Good files come into force at once, also for vifs that are connected, without taking them down; the log says which settings changed. Files with a fault change nothing: the log has the fault, and "keeping the configuration of" the time at which that was read.',
  ],
  ['SIGKILL', 'Leaves every vif as it is, too; the next vifd run takes them over.'],
];

export const DIAGNOSTICS: readonly Part[] = [
  'A vif that cannot be connected has a sentence in hotplug-error and in the log, there with the remedy. The code is in the log as JSON lines, and vifd_failures_total counts by it. vifd tries again by itself. A code that is not here is the name of an error of the kernel or of xenstore, and stands in the sentence:',
  ...Object.entries(FAILURE_CODES).map(([code, { means, remedy }]): Part => [code, `${means}`, `-> ${remedy}`]),
  'Other sentences, of the log or of a command:',
  ['the bridge X is down', 'the vif is in its bridge, but no packet passes', '-> ip link set X up'],
  [
    'frames with any other source are dropped',
    "vifd explain says it of each guarded vif, with the addresses that its guest may have. Where ip= or the guard's settings name not those that it has, the vif is connected, but no packet passes; nothing else tells of it",
    '-> name them all in ip= of its vif line, or in guard_ip and guard_macs; guard = "off" under [vif] or in a rule lets all pass',
  ],
  ['vifd runs here already (pid N)', "one agent is enough: two would undo each other's work"],
  ['the kernel refused to ...: EPERM', 'vifd may not change interfaces', '-> run vifd with CAP_NET_ADMIN'],
  [
    'keeping the configuration of TIME',
    'files with a fault were not taken over',
    '-> correct them, see vifd config check, and send SIGHUP again',
  ],
  [
    'something else keeps changing vifX.Y',
    'another program (NetworkManager, systemd-networkd, a script) sets it too',
    '-> ip monitor link shows what, vifd doctor may name it; make it leave vifs alone',
  ],
  [
    'guests get no address',
    'vifs are connected all the same; dnsmasq is missing, or does not start',
    '-> as the sentence says; dnsmasq is tried again every 30 s',
  ],
  ['cannot follow link changes', 'until then repairs wait for the periodic look', '-> install iproute2'],
];

export const FINDINGS: readonly Part[] = [
  'Each finding has a code that stays the same, a severity (ok, warning, error) and a remedy.',
  ['xen, xenstore, domain', 'Is this a Xen domain, may xenstore be used, is it dom0.'],
  ['netback', 'Is xen-netback loaded.'],
  [
    'agent, udev-rules, ifupdown, networkmanager, networkd',
    'Who else attaches vifs or may detach them: xl devd, a second vifd, rules, stanzas, other daemons.',
  ],
  ['node-quota, watch-quota', "For how many more vifs xenstore's default quotas last."],
  ['forwarding', 'Does this domain pass packets on, where routed vifs need it.'],
  ['dhcp', 'Is dnsmasq here, where guests are to be given their address.'],
  ['silo', "Does Xen's XSM policy seem to keep guests from this domain."],
  ['configuration', 'Are the files valid.'],
  ['vif', 'Each vif that has failed.'],
  ['own-network', 'How each [bridge] and [bind] of the files stands.'],
  ['netlink, ethtool, iproute2', 'Can the kernel be asked what vifd has to ask.'],
  [
    'bridge, uplink, vlan, mtu',
    'Are there bridges, up, with a port that leads on, no VLAN devices below them, with one MTU.',
  ],
  ['br-netfilter', "Does a DROP policy, such as Docker's, meet bridged packets."],
];

export const JSON_TEXT: readonly Part[] = [
  'What --json gives has version 1: fields may be added, none is removed or changes its meaning. Of monitor each line is an object with version, time, source, meaning, domid and devid (not in all of link and vifd), and by its source:',
  [
    'store',
    'side (backend, frontend), path, node, value (null: gone), sincePreviousMs (for state, online, hotplug-status).',
  ],
  ['uevent', 'action, path (XENBUS_PATH), ifname (or null).'],
  [
    'link',
    'ifindex, ifname, event (present, made, changed, gone), changes (of ifname, up, carrier, mtu, qlen, master, address).',
  ],
  ['vifd', "level, attach, record (the log's record as it is)."],
  'A record is JSON lines: a header with format, version, vifd, kernel and start, then what was seen, raw, with ms since the start.',
  'The log of vifd run as JSON lines has domid, devid, ifname, bridge, did (the changes made), ms, code, and attach: one id for all records of a vif from when its directory appears until it has left, and another when it comes again.',
];

export const METRICS: readonly Part[] = [
  ['vifd_up', '1 when vifd run is there and answers.'],
  ['vifd_build_info{version,node_version}, vifd_start_time_seconds', 'What runs, and since when.'],
  [
    'vifd_xenstore_connected, vifd_xenstore_reconnects_total',
    'The connection to xenstore; while there is none, nothing is told of the vifs.',
  ],
  ['vifd_vifs{state,bridge}', 'Vifs that are connected, waiting, leaving or failed.'],
  ['vifd_vif_failed{domid,devid,ifname}', '1 when somebody has to do something for this vif.'],
  [
    'vifd_attach_seconds',
    'Histogram of new vifs: from state 2 as vifd first sees it until connected, with whatever failed in between.',
  ],
  [
    'vifd_failures_total{code}',
    'Faults by reason; as in the log each once until the vif is connected, not each retry.',
  ],
  [
    'vifd_repairs_total{what}',
    'What drifted on connected vifs and was put right: master, mtu, txqlen, up, clear-features and others.',
  ],
  ['vifd_departures_total, vifd_scans_total', 'Vifs that have left; looks at all vifs.'],
];

export const FILES: readonly Part[] = [
  [
    '/etc/xen/vifd.toml, /etc/xen/vifd.d/*.toml',
    'Configuration, see vifd.toml(5). What others could change is not read.',
  ],
  [
    '/run/vifd/status',
    "Socket of vifd run, for its user and root. A client writes one line: metrics is answered in Prometheus' text format, follow with the log from then on, as JSON lines from level debug up, whatever --log-level is. Eight clients at most; those that are silent for 2 s or read too slowly are dropped.",
  ],
  ['/run/vifd/requests, /run/vifd/reader', 'Where the script vif-vifd asks, and whom.'],
  ['/run/vifd/hooks.json', 'The vifs of which hooks have heard, for the next vifd.'],
  [
    '/var/lib/vifd/dnsmasq.leases',
    'Who has which address, where dhcp is set; $STATE_DIRECTORY instead of /var/lib/vifd where systemd gives one. While dnsmasq runs its configuration, which vifd writes, is beside it.',
  ],
  ['/run/xenstored/socket, /dev/xen/xenbus, /proc/xen/xenbus', 'xenstore, in this order.'],
  [
    '/etc/default/vifd, /etc/conf.d/vifd',
    'For SysV and OpenRC: VIFD_ARGS, options of vifd run; VIFD_IN_DOM0=yes, to start it in dom0.',
  ],
  ['/var/log/vifd.log', 'The log, for SysV and OpenRC. With systemd: journalctl -u vifd.'],
];

export const ENVIRONMENT: readonly Part[] = [
  ['XENSTORED_PATH', 'Socket or device of xenstore.'],
  [
    'VIFD_RUN_DIR',
    'Instead of /run/vifd, for vifd run and those that ask it. Empty: it can be asked nothing. Must be closed to all but the user that runs vifd.',
  ],
  [
    'VIFD_STATE_DIR',
    "Instead of /var/lib/vifd, for vifd run. Nobody but vifd's user may write there; where vifd runs as root, dnsmasq runs as another user and must be able to read there.",
  ],
  ['VIFD', 'The program that the script vif-vifd calls when no agent runs; vifd in the usual directories.'],
  ['NOTIFY_SOCKET, WATCHDOG_USEC', 'Set by systemd: vifd run tells it when it is ready and that it lives.'],
];
