/** Settings of programs of the admin's. Pure. */
import { count, optional, setting, text } from './types.js';

const absolute = text('the absolute path of a file', (value) => (/^\/[ -~]{1,1023}$/.test(value) ? value : undefined));

export const SCRIPT = {
  file: optional({
    ...absolute,
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
    ...absolute,
    default: '/etc/xen/vifd.hooks.d',
    about: 'Where they are. Each must belong to root, and nobody else may write it or a directory above it.',
  }),
} as const;
