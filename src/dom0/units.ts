/** systemd units with which dom0's xendomains starts the driver domain first and stops it last. Pure. */
import { printable, VifdError } from '../errors.js';

/** What a unit's name, xl and a shell take without quotes alike. */
const PLAIN_NAME = /^[A-Za-z0-9][\w.-]*$/;
const PLAIN_PATH = /^(\/[\w.@+-]+)+$/;

/**
 * Three files, each below a comment with its name. xendomains would save or shut down the driver domain among the others, in
 * the order of their numbers (Debian's at once, Xen's with `xl shutdown --all`): so its guests are shut down before it.
 */
export function driverDomainUnits(name: string, config = `/etc/xen/${name}.cfg`): string {
  if (!PLAIN_NAME.test(name) || /^\d+$/.test(name))
    throw new VifdError(
      'EUSAGE',
      `${printable(name)} cannot be part of a unit's name; give the domain a name of letters, digits, ".", "_" and "-"`,
    );
  if (!PLAIN_PATH.test(config))
    throw new VifdError('EUSAGE', `${printable(config)} cannot stand in a unit; give an absolute path without spaces`);
  const unit = `vifd-driver-domain-${name}.service`;
  return [
    comment(name, config),
    file(unit, driverDomain(name, config)),
    file('xendomains.service.d/vifd.conf', ['[Unit]', `Wants=${unit}`, `After=${unit}`]),
    file('vifd-guests.service', guests(name, unit)),
  ].join('\n');
}

const UNIT_DIR = '/etc/systemd/system';
/** xenstored's own units differ: Xen's, and Debian's one script for all of it. */
const XEN = 'proc-xen.mount xenstored.service xenconsoled.service xen-init-dom0.service xen.service';

const file = (path: string, lines: readonly string[]): string => [`# ${UNIT_DIR}/${path}`, ...lines, ''].join('\n');

const comment = (name: string, config: string): string =>
  `# Write each part into the file that its first line names, and then:
#   systemctl daemon-reload
#   systemctl enable vifd-driver-domain-${name}.service vifd-guests.service xendomains.service
# ${config} must not be in /etc/xen/auto, too. The guests there, served by ${name}, start when vifd serves in it.
# At the end vifd-guests shuts the guests down, then xendomains has only ${name} left, which goes last. It must not be
# saved to a file: XENDOMAINS_SAVE="" in /etc/default/xendomains (elsewhere /etc/sysconfig/xendomains).
`;

const driverDomain = (name: string, config: string): string[] => [
  '[Unit]',
  `Description=Xen driver domain ${name}`,
  'Documentation=man:vifd(8)',
  'ConditionPathExists=/proc/xen/capabilities',
  `After=${XEN} network-pre.target`,
  'Before=xendomains.service libvirtd.service',
  '',
  '[Service]',
  'Type=oneshot',
  'RemainAfterExit=yes',
  `ExecStart=/bin/sh -c 'xl domid ${name} >/dev/null 2>&1 || exec xl create ${config}'`,
  '# Guests that start before it is ready would wait for their network, and xl would not say so.',
  `ExecStart=-/usr/bin/env vifd dom0 wait ${name} --until serving --timeout 120`,
  `ExecStop=/bin/sh -c 'if xl domid ${name} >/dev/null 2>&1; then exec xl shutdown -w ${name}; fi'`,
  'TimeoutStartSec=180',
  'TimeoutStopSec=120',
  '',
  '[Install]',
  'WantedBy=multi-user.target',
];

const guests = (name: string, unit: string): string[] => [
  '[Unit]',
  `Description=Shut down the Xen guests before the driver domain ${name}`,
  'Documentation=man:vifd(8)',
  'ConditionPathExists=/proc/xen/capabilities',
  '# What starts after xendomains is stopped before it.',
  `After=xendomains.service ${unit} ${XEN}`,
  '',
  '[Service]',
  'Type=oneshot',
  'RemainAfterExit=yes',
  'ExecStart=/bin/true',
  `ExecStop=-/bin/sh -c '${stopGuests(name)}'`,
  'TimeoutStopSec=300',
  '',
  '[Install]',
  'WantedBy=multi-user.target',
];

/** All at once, each waited for; device models (-dm) end with their guests. `$$` is systemd's `$`. */
const stopGuests = (name: string): string =>
  `xl list | while read -r name id rest; do case $$name in Name|Domain-0|Xenstore|*-dm|${name}) ;; *) echo $$id ;; esac; done | xargs -r -n 1 -P 0 xl shutdown -w`;
