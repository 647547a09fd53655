/**
 * What a xenstored answers, as data (docs/misc/xenstore.txt; shared/contract.md 4.6 and 5): held against the simulator by
 * simulator.test.ts, and against the real daemons by conformance.ts. Where they differ the case says what each answers.
 */
import type { XS } from '../../src/xenstore/wire.js';

export type Who = 'dom0' | 'driver-domain';
export type Daemon = 'xenstored' | 'oxenstored';

/** A payload, byte for byte; one that matches; an errno's name; or a connection that is closed instead. */
export type Reply = string | RegExp | { readonly error: string } | { readonly closed: true };

export interface Step {
  readonly op: keyof typeof XS | number;
  /** One byte a character. `$` is the scratch directory, as this domain writes it, `^` its absolute path, `%` the own domid. */
  readonly payload: string;
  /** A transaction that an earlier step of this case opened `as` this name; a number is sent as it is. */
  readonly tx?: string | number;
  /** The reply names a new transaction, and later steps use it under this name. */
  readonly as?: string;
  /** A second connection of the same domain. */
  readonly on?: 'other';
  /** What the C daemon answers. */
  readonly reply: Reply;
  /** Where oxenstored differs, and where the kernel's device does. */
  readonly oxenstored?: Reply;
  readonly device?: Reply;
  /** `path token` of every event that this step causes on the first connection, in order. */
  readonly events?: readonly string[];
  readonly oxenstoredEvents?: readonly string[];
}

export interface Case {
  readonly name: string;
  /** Whom it is for; default: both. */
  readonly who?: Who;
  /** Not through the device: what it would do there is the kernel's, and tested in device.test.ts, or would harm others. */
  readonly notOnDevice?: true;
  readonly steps: readonly Step[];
}

export const SCRATCH: Record<Who, string> = {
  dom0: '/tool/vifd-conformance',
  'driver-domain': 'data/vifd-conformance',
};

const OK = 'OK\0';
const error = (name: string): Reply => ({ error: name });
type More = Omit<Step, 'op' | 'payload' | 'reply'>;
const step = (op: Step['op'], payload: string, reply: Reply, more: More = {}): Step => ({
  op,
  payload,
  reply,
  ...more,
});
const read = (path: string, reply: Reply, more?: More) => step('READ', `${path}\0`, reply, more);
const write = (path: string, value: string, more?: More) => step('WRITE', `${path}\0${value}`, OK, more);
const mkdir = (path: string, more?: More) => step('MKDIR', `${path}\0`, OK, more);
const rm = (path: string, reply: Reply = OK, more?: More) => step('RM', `${path}\0`, reply, more);
const list = (path: string, reply: Reply, more?: More) => step('DIRECTORY', `${path}\0`, reply, more);
const getPerms = (path: string, reply: Reply, more?: More) => step('GET_PERMS', `${path}\0`, reply, more);
const setPerms = (path: string, perms: string, reply: Reply = OK, more?: More) =>
  step('SET_PERMS', `${path}\0${perms}\0`, reply, more);
const watch = (path: string, token: string, more?: More) =>
  step('WATCH', `${path}\0${token}\0`, OK, { events: [`${path} ${token}`], ...more });
const start = (as: string, more?: More) => step('TRANSACTION_START', '\0', /^[1-9][0-9]*\0$/, { as, ...more });
const end = (tx: string, reply: Reply = OK, more?: More) => step('TRANSACTION_END', 'T\0', reply, { tx, ...more });
const abort = (tx: string) => step('TRANSACTION_END', 'F\0', OK, { tx });

const VALUES: Case[] = [
  {
    name: 'READ gives the bytes of WRITE, with no NUL',
    steps: [write('$', ''), write('$/a', 'value'), read('$/a', 'value')],
  },
  { name: 'a value is any bytes', steps: [write('$/a', 'a\0b\n\xff\0'), read('$/a', 'a\0b\n\xff\0')] },
  {
    name: 'an empty value is not a missing node',
    steps: [write('$/a', ''), read('$/a', ''), read('$/b', error('ENOENT'))],
  },
  { name: 'WRITE replaces', steps: [write('$/a', 'long value'), write('$/a', 'v'), read('$/a', 'v')] },
  {
    name: 'WRITE makes the parents, empty',
    steps: [write('$/a/b/c', 'v'), read('$/a/b/c', 'v'), read('$/a/b', ''), list('$/a', 'b\0'), list('$', 'a\0')],
  },
  {
    name: 'MKDIR makes the parents, and leaves what exists as it is',
    steps: [mkdir('$/a/b'), read('$/a/b', ''), write('$/a', 'v'), mkdir('$/a'), read('$/a', 'v'), list('$/a', 'b\0')],
  },
  {
    name: 'DIRECTORY of a node without children is empty, of a missing one ENOENT',
    steps: [write('$/a', 'v'), list('$/a', ''), list('$/b', error('ENOENT')), list('$/b/c', error('ENOENT'))],
  },
  {
    name: 'DIRECTORY names each child once',
    steps: [mkdir('$/a'), mkdir('$/b'), mkdir('$/a'), list('$', /^(a\0b|b\0a)\0$/)],
  },
  {
    name: 'a relative and an absolute path name the same node',
    steps: [write('$/a', 'v'), read('^/a', 'v'), write('^/b', 'w'), read('$/b', 'w')],
  },
];

const REMOVAL: Case[] = [
  {
    name: 'RM removes what is below',
    steps: [write('$/a/b/c', 'v'), write('$/d', 'w'), rm('$/a'), read('$/a/b/c', error('ENOENT')), list('$', 'd\0')],
  },
  { name: 'RM of a missing node with a parent is OK', steps: [mkdir('$'), rm('$/a'), rm('$/a')] },
  { name: 'RM of a missing node without a parent', steps: [mkdir('$'), rm('$/a/b', error('ENOENT'))] },
  { name: 'a node made again is new', steps: [write('$/a/b', 'v'), rm('$/a'), mkdir('$/a'), list('$/a', '')] },
];

const BAD_REQUESTS: Case[] = [
  ...['$//a', '$/a/', '', '$/a b', '$/a\n', '$/\xe4', '$/a:b', '$/a.b'].map(
    (path): Case => ({
      name: `a path that is none: ${JSON.stringify(path)}`,
      steps: [
        mkdir('$'),
        read(path, error('EINVAL')),
        step('WRITE', `${path}\0v`, error('EINVAL')),
        rm(path, error('EINVAL')),
      ],
    }),
  ),
  { name: 'a path of all characters that may be', steps: [write('$/aZ09-_@', 'v'), read('$/aZ09-_@', 'v')] },
  { name: 'a path that is too long', steps: [mkdir('$'), read(`$/${'a'.repeat(3080)}`, error('EINVAL'))] },
  // Never a single path without its one final NUL: after an RM it aborts the C daemon of 4.17 (malformed.test.ts).
  { name: 'WRITE without a NUL', steps: [mkdir('$'), step('WRITE', '$/a', error('EINVAL'))] },
  { name: 'an operation that does not exist', steps: [step(99, '$\0', error('ENOSYS'))] },
  {
    name: 'a path with a transaction that does not exist',
    // On the device the kernel knows the transactions of each file and answers itself.
    steps: [read('$', error('ENOENT'), { tx: 0xfffffff0, oxenstored: error('EIO'), device: error('ENOENT') })],
  },
  {
    name: 'more than 4096 bytes',
    who: 'dom0',
    notOnDevice: true,
    steps: [
      step('WRITE', `$/a\0${'v'.repeat(4097)}`, { closed: true }, { oxenstored: /^(CLOSED|ERROR (E2BIG|EINVAL))$/ }),
    ],
  },
];

const TRANSACTIONS: Case[] = [
  {
    name: 'a transaction is seen from outside when it is committed',
    steps: [
      mkdir('$'),
      start('t'),
      write('$/a', 'v', { tx: 't' }),
      read('$/a', 'v', { tx: 't' }),
      read('$/a', error('ENOENT')),
      end('t'),
      read('$/a', 'v'),
    ],
  },
  {
    name: 'a transaction that is aborted leaves nothing',
    steps: [mkdir('$'), start('t'), write('$/a', 'v', { tx: 't' }), abort('t'), read('$/a', error('ENOENT'))],
  },
  {
    name: 'EAGAIN when what was read has changed, and the transaction is gone',
    steps: [
      write('$/a', '1'),
      start('t'),
      read('$/a', '1', { tx: 't' }),
      write('$/a', '2'),
      write('$/b', 'v', { tx: 't' }),
      end('t', error('EAGAIN')),
      read('$/b', error('ENOENT')),
      read('$/a', error('ENOENT'), { tx: 't', oxenstored: error('EIO'), device: error('ENOENT') }),
    ],
  },
  {
    name: 'EAGAIN when another connection changed it',
    steps: [
      write('$/a', '1'),
      start('t'),
      read('$/a', '1', { tx: 't' }),
      write('$/a', '2', { on: 'other' }),
      write('$/a', '3', { tx: 't' }),
      end('t', error('EAGAIN')),
      read('$/a', '2'),
    ],
  },
  {
    name: 'changes of other nodes are no conflict',
    steps: [
      write('$/a/x', '1'),
      write('$/b/x', '1'),
      start('t'),
      read('$/a/x', '1', { tx: 't' }),
      write('$/b/x', '2'),
      write('$/a/x', '2', { tx: 't' }),
      end('t'),
      read('$/a/x', '2'),
    ],
  },
  {
    name: 'a node removed in a transaction and changed outside',
    steps: [
      write('$/a/x', '1'),
      start('t'),
      rm('$/a', OK, { tx: 't' }),
      write('$/a/x', '2'),
      end('t', error('EAGAIN'), { oxenstored: OK }), // plays the removal again, on what is there now
    ],
  },
  {
    name: 'a transaction that only reads',
    steps: [write('$/a', '1'), start('t'), read('$/a', '1', { tx: 't' }), end('t')],
  },
  {
    name: 'a transaction in a transaction',
    steps: [start('t'), step('TRANSACTION_START', '\0', error('EBUSY'), { tx: 't' }), abort('t')],
  },
  {
    name: 'TRANSACTION_END that says neither',
    steps: [start('t'), step('TRANSACTION_END', 'X\0', error('EINVAL'), { tx: 't' }), abort('t')],
  },
  // Linux warns (xs_request_exit, xenbus_dev_queue_reply), and passes no reply on.
  { name: 'TRANSACTION_END of none', notOnDevice: true, steps: [step('TRANSACTION_END', 'T\0', error('ENOENT'))] },
  {
    name: 'a transaction belongs to its connection',
    steps: [
      mkdir('$'),
      start('t'),
      read('$', error('ENOENT'), { tx: 't', on: 'other', oxenstored: error('EIO'), device: error('ENOENT') }),
      abort('t'),
    ],
  },
  {
    name: 'the events of a transaction come with its commit',
    steps: [
      mkdir('$'),
      watch('$', 't'),
      start('x'),
      write('$/a', '1', { tx: 'x' }),
      write('$/b', '1', { tx: 'x' }),
      end('x', OK, { events: ['$/a t', '$/b t'] }),
    ],
  },
  {
    name: 'no events of a transaction that is aborted, or fails',
    steps: [
      write('$/a', '1'),
      watch('$', 't'),
      start('x'),
      write('$/a', '2', { tx: 'x' }),
      abort('x'),
      start('y'),
      read('$/a', '1', { tx: 'y' }),
      write('$/a', '3', { events: ['$/a t'] }),
      write('$/b', '1', { tx: 'y' }),
      end('y', error('EAGAIN')),
    ],
  },
];

const WATCHES: Case[] = [
  {
    name: 'a watch: one event at the start, then one for each change',
    steps: [
      mkdir('$'),
      watch('$', 't'),
      write('$/a', '1', { events: ['$/a t'] }),
      write('$/a', '1', { events: ['$/a t'] }),
      setPerms('$/a', 'n%', OK, { events: ['$/a t'] }),
      mkdir('$/b', { events: ['$/b t'] }),
      rm('$/a', OK, { events: ['$/a t'] }),
      write('$', 'v', { events: ['$ t'] }),
    ],
  },
  {
    name: 'a watch of a node that is not there yet',
    steps: [mkdir('$'), watch('$/a', 't'), write('$/b', '1'), write('$/a', '1', { events: ['$/a t'] })],
  },
  {
    name: 'no event where nothing is done',
    steps: [mkdir('$/a'), watch('$', 't'), mkdir('$/a'), rm('$/b'), read('$/a', ''), rm('$/b/c', error('ENOENT'))],
  },
  {
    name: 'parents that are made on the way: one event, for the node itself',
    steps: [mkdir('$'), watch('$', 't'), write('$/a/b/c', '1', { events: ['$/a/b/c t'] })],
  },
  {
    name: 'a tree that is removed: one event, for its root',
    steps: [write('$/a/b', '1'), write('$/a/c', '1'), watch('$', 't'), rm('$/a', OK, { events: ['$/a t'] })],
  },
  {
    name: 'a parent that is removed: the event names the watched node',
    steps: [write('$/a/b/c', '1'), watch('$/a/b/c', 't'), rm('$/a', OK, { events: ['$/a/b/c t'] })],
  },
  {
    name: 'relative or absolute as the watch is',
    steps: [mkdir('$'), watch('^', 't'), write('$/a', '1', { events: ['^/a t'] })],
  },
  {
    name: 'changes by another connection',
    steps: [mkdir('$'), watch('$', 't'), write('$/a', '1', { on: 'other', events: ['$/a t'] })],
  },
  {
    name: 'UNWATCH ends the events',
    steps: [mkdir('$'), watch('$', 't'), step('UNWATCH', '$\0t\0', OK), write('$/a', '1')],
  },
  {
    name: 'two tokens on one path: an event for each',
    steps: [
      mkdir('$'),
      watch('$', 't'),
      watch('$', 'u'),
      write('$/a', '1', { events: ['$/a t', '$/a u'], oxenstoredEvents: ['$/a u', '$/a t'] }),
    ],
  },
  {
    name: 'the same path and token again',
    steps: [mkdir('$'), watch('$', 't'), step('WATCH', '$\0t\0', error('EEXIST'))],
    notOnDevice: true,
  },
  { name: 'UNWATCH of nothing', steps: [step('UNWATCH', '$\0t\0', error('ENOENT'), { device: OK })] },
  { name: 'a token may be empty', steps: [mkdir('$'), watch('$', '')] },
  { name: 'WATCH of a path that is none', steps: [step('WATCH', '$//a\0t\0', error('EINVAL'))] },
  { name: 'WATCH with a path only', steps: [step('WATCH', '$\0', error('EINVAL'))] },
  { name: 'a depth is for newer daemons', notOnDevice: true, steps: [step('WATCH', '$\0t\x001\0', error('EINVAL'))] },
  { name: 'the special nodes may be watched', steps: [watch('@introduceDomain', 't'), watch('@releaseDomain', 'u')] },
  {
    name: 'what may not be read may be watched, in silence',
    who: 'driver-domain',
    steps: [watch('/tool', 't')],
  },
];

const PERMISSIONS: Case[] = [
  { name: 'a new node has the permissions of its parent', steps: [mkdir('$/a'), getPerms('$/a', 'n%\0')] },
  {
    name: 'and all of them',
    steps: [mkdir('$/a'), setPerms('$/a', 'n%\0r0'), write('$/a/b/c', '1'), getPerms('$/a/b/c', 'n%\0r0\0')],
  },
  { name: 'SET_PERMS and back', steps: [mkdir('$/a'), setPerms('$/a', 'b%\0w0'), getPerms('$/a', 'b%\0w0\0')] },
  { name: 'SET_PERMS of a missing node', steps: [mkdir('$'), setPerms('$/a', 'n%', error('ENOENT'))] },
  { name: 'SET_PERMS without any', steps: [mkdir('$/a'), step('SET_PERMS', '$/a\0', error('EINVAL'))] },
  { name: 'SET_PERMS that is none', steps: [mkdir('$/a'), setPerms('$/a', 'x%', error('EINVAL'))] },
  { name: 'GET_PERMS of a missing node', steps: [mkdir('$'), getPerms('$/a', error('ENOENT'))] },
  {
    name: 'an unprivileged domain cannot give a node away',
    who: 'driver-domain',
    steps: [mkdir('$/a'), setPerms('$/a', 'n0', error('EPERM'), { oxenstored: error('EACCES') })],
  },
  {
    name: 'an unprivileged domain may not see what is not shown to it',
    who: 'driver-domain',
    steps: [
      read('/tool', error('EACCES')),
      list('/tool', error('EACCES')),
      getPerms('/tool', error('EACCES')),
      read('/tool/none/none', error('EACCES'), { oxenstored: error('ENOENT') }),
      read('/local/domain/0/name', error('EACCES')),
    ],
  },
  {
    name: 'missing where one may read is ENOENT, where one may not write EACCES',
    who: 'driver-domain',
    steps: [
      read('vifd-none', error('ENOENT')),
      read('vifd-none/none', error('ENOENT')),
      step('WRITE', 'vifd-none\0v', error('EACCES')),
      step('MKDIR', 'vifd-none\0', error('EACCES')),
      rm('vifd-none', error('EACCES'), { oxenstored: OK }),
      rm('domid', error('EACCES')),
      step('WRITE', 'domid\0v', error('EACCES')),
      setPerms('domid', 'n%', error('EACCES')),
    ],
  },
  {
    name: 'a value that is too large for an unprivileged domain',
    who: 'driver-domain',
    steps: [
      mkdir('$'),
      write('$/a', 'v'.repeat(1900)),
      step('WRITE', `$/b\0${'v'.repeat(2049)}`, error('ENOSPC'), { oxenstored: error('E2BIG') }),
      read('$/b', error('ENOENT')),
      step('WRITE', `$/a\0${'v'.repeat(2049)}`, error('ENOSPC'), { oxenstored: error('E2BIG') }),
      read('$/a', 'v'.repeat(1900)),
    ],
  },
  {
    name: 'dom0 may write large values',
    who: 'dom0',
    steps: [
      write('$/a', 'v'.repeat(4000), { oxenstored: error('E2BIG') }),
      read('$/a', 'v'.repeat(4000), { oxenstored: error('ENOENT') }),
    ],
  },
];

const DOMAINS: Case[] = [
  { name: 'GET_DOMAIN_PATH', steps: [step('GET_DOMAIN_PATH', '7\0', '/local/domain/7\0')] },
  { name: 'IS_DOMAIN_INTRODUCED', who: 'dom0', steps: [step('IS_DOMAIN_INTRODUCED', '32000\0', 'F\0')] },
  ...(['CONTROL', 'INTRODUCE', 'RELEASE', 'RESUME', 'SET_TARGET', 'IS_DOMAIN_INTRODUCED'] as const).map(
    (op): Case => ({
      name: `${op} is not for an unprivileged domain`,
      who: 'driver-domain',
      // Arguments that would do nothing even if they were taken.
      steps: [
        step(
          op,
          op === 'INTRODUCE' ? '32000\x001\x001\0' : op === 'SET_TARGET' ? '32000\0%\0' : '32000\0',
          error('EACCES'),
          op === 'CONTROL' ? { oxenstored: OK } : {}, // it says OK and does nothing
        ),
      ],
    }),
  ),
];

const PARTS: Case[] = [
  {
    // Optional; DIRECTORY of so many children is E2BIG for a daemon without it.
    name: 'DIRECTORY_PART: a number, the children, and one more NUL at the end',
    steps: [
      mkdir('$/abc'),
      step('DIRECTORY_PART', '$\x000\0', /^[0-9]+\0abc\0\0$/, { oxenstored: error('ENOSYS') }),
      step('DIRECTORY_PART', '$\x004\0', /^[0-9]+\0\0$/, { oxenstored: error('ENOSYS') }),
      step('DIRECTORY_PART', '$/none\x000\0', error('ENOENT'), { oxenstored: error('ENOSYS') }),
    ],
  },
];

export const CASES: readonly Case[] = [
  ...VALUES,
  ...REMOVAL,
  ...BAD_REQUESTS,
  ...TRANSACTIONS,
  ...WATCHES,
  ...PERMISSIONS,
  ...DOMAINS,
  ...PARTS,
];
