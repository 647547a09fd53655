/** systemd units with which dom0's xendomains starts driver domains first and stops them last. Pure. */
import { printable, VifdError } from '../errors.js';

/** What a unit's name, xl and a shell take without quotes alike. */
const PLAIN_NAME = /^[A-Za-z0-9][\w.-]*$/;
const PLAIN_PATH = /^(\/[\w.@+-]+)+$/;

/**
 * A file for each driver domain and two for all of them, each below a comment with its name. xendomains would save or shut down
 * driver domains among the others, in the order of their numbers (Debian's at once, Xen's with `xl shutdown --all`): so the
 * guests are shut down before. `config`: for one that is alone.
 */
export function driverDomainUnits(names: readonly string[], config?: string): string {
  if (config !== undefined && names.length > 1)
    throw new VifdError(
      'EUSAGE',
      '--config is for one driver domain; each of several has its own in /etc/xen/NAME.cfg',
    );
  const domains = [...new Set(names)].map((name) => ({ name, config: config ?? `/etc/xen/${name}.cfg` }));
  for (const domain of domains) demandPlain(domain);
  const units = domains.map(({ name }) => unitOf(name)).join(' ');
  return [
    comment(domains, units),
    ...domains.map((domain) => file(unitOf(domain.name), driverDomain(domain))),
    file('xendomains.service.d/vifd.conf', ['[Unit]', `Wants=${units}`, `After=${units}`]),
    file('vifd-guests.service', guests(domains, units)),
  ].join('\n');
}

interface DriverDomain {
  readonly name: string;
  readonly config: string;
}

const unitOf = (name: string): string => `vifd-driver-domain-${name}.service`;

function demandPlain({ name, config }: DriverDomain): void {
  if (!PLAIN_NAME.test(name) || /^\d+$/.test(name))
    throw new VifdError(
      'EUSAGE',
      `${printable(name)} cannot be part of a unit's name; give the domain a name of letters, digits, ".", "_" and "-"`,
    );
  if (!PLAIN_PATH.test(config))
    throw new VifdError('EUSAGE', `${printable(config)} cannot stand in a unit; give an absolute path without spaces`);
}

const UNIT_DIR = '/etc/systemd/system';
/** xenstored's own units differ: Xen's, and Debian's one script for all of it. */
const XEN = 'proc-xen.mount xenstored.service xenconsoled.service xen-init-dom0.service xen.service';

const file = (path: string, lines: readonly string[]): string => [`# ${UNIT_DIR}/${path}`, ...lines, ''].join('\n');

const all = (domains: readonly DriverDomain[], what: keyof DriverDomain): string =>
  domains.map((domain) => domain[what]).join(', ');

const comment = (domains: readonly DriverDomain[], units: string): string =>
  `# Write each part into the file that its first line names, and then:
#   systemctl daemon-reload
#   systemctl enable ${units} vifd-guests.service xendomains.service
# ${all(domains, 'config')} must not be in /etc/xen/auto, too. The guests there start when vifd serves in ${all(domains, 'name')}.
# At the end vifd-guests shuts the guests down, then xendomains has only ${all(domains, 'name')} left, to go last. None may be
# saved to a file: XENDOMAINS_SAVE="" in /etc/default/xendomains (elsewhere /etc/sysconfig/xendomains).
# For another driver domain print them all anew, with all the names: two of the files are for all.
`;

const driverDomain = ({ name, config }: DriverDomain): string[] => [
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

const guests = (domains: readonly DriverDomain[], units: string): string[] => [
  '[Unit]',
  `Description=Shut down the Xen guests before their driver domains (${all(domains, 'name')})`,
  'Documentation=man:vifd(8)',
  'ConditionPathExists=/proc/xen/capabilities',
  '# What starts after xendomains is stopped before it.',
  `After=xendomains.service ${units} ${XEN}`,
  '',
  '[Service]',
  'Type=oneshot',
  'RemainAfterExit=yes',
  'ExecStart=/bin/true',
  `ExecStop=-/bin/sh -c '${stopGuests(domains)}'`,
  'TimeoutStopSec=300',
  '',
  '[Install]',
  'WantedBy=multi-user.target',
];

/** All at once, each waited for; device models (-dm) end with their guests. `$$` is systemd's `$`. */
const stopGuests = (domains: readonly DriverDomain[]): string =>
  `xl list | while read -r name id rest; do case $$name in Name|Domain-0|Xenstore|*-dm|${domains.map(({ name }) => name).join('|')}) ;; *) echo $$id ;; esac; done | xargs -r -n 1 -P 0 xl shutdown -w`;
