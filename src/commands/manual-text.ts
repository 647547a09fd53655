/** What vifd(8) says beyond the words of --help. */
import { FAILURE_CODES } from '../vif/failure-codes.js';

/** A paragraph, or a term and what it is, in lines. */
export type Part = string | readonly [term: string, ...lines: string[]];

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
  ['silo', "Does Xen's XSM policy seem to keep guests from this domain."],
  ['configuration', 'Are the files valid.'],
  ['vif', 'Each vif that has failed.'],
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
  ['/etc/xen/vifd.toml, /etc/xen/vifd.d/*.toml', 'Configuration, see vifd.toml(5).'],
  [
    '/run/vifd/status',
    "Socket of vifd run, for its user and root. A client writes one line: metrics is answered in Prometheus' text format, follow with the log from then on, as JSON lines from level debug up, whatever --log-level is. Eight clients at most; those that are silent for 2 s or read too slowly are dropped.",
  ],
  ['/run/vifd/requests, /run/vifd/reader', 'Where the script vif-vifd asks, and whom.'],
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
  ['VIFD', 'The program that the script vif-vifd calls when no agent runs; vifd in the usual directories.'],
  ['NOTIFY_SOCKET, WATCHDOG_USEC', 'Set by systemd: vifd run tells it when it is ready and that it lives.'],
];
