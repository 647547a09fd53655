/** Settings of programs of the admin's. Pure. */
import { count, optional, setting, text } from './types.js';

const absolute = (what: string) =>
  text(`the absolute path of a ${what}`, (value) => (/^\/[ -~]{1,1023}$/.test(value) ? value : undefined));

export const SCRIPT = {
  file: optional({
    ...absolute('file'),
    example: '/etc/xen/scripts/vif-mine',
    about: 'The program in this domain. It must belong to root, and nobody else may write it or a directory above it.',
  }),
  timeout: optional({
    ...count('seconds', 1, 40),
    example: 8,
    about:
      'How long it may run before it is killed with all that it has started; 8 unless given, and 8 at most when a vif leaves,\nfor dom0 waits no more than 10.',
  }),
} as const;

export const HOOKS = {
  directory: setting({
    ...absolute('directory'),
    default: '/etc/xen/vifd.hooks.d',
    about:
      'Where they are. Each must be executable and belong to root, and nobody else may write it or a directory above it.\nIt is run with the arguments connected or left, and vif5.0, and has 10 s; VIFD_EVENT, VIFD_VIF, VIFD_IFNAME,\nVIFD_DOMID, VIFD_DEVID, VIFD_BRIDGE, VIFD_MAC, VIFD_IP and VIFD_MODE are in its environment.',
  }),
} as const;
