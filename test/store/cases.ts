/**
 * What a xenstored answers, as data (docs/misc/xenstore.txt; shared/contract.md 4.6 and 5): held against the simulator by
 * simulator.test.ts, and against the real daemons by conformance.ts. Where they differ the case says what each answers.
 */
import { XS } from '../../src/xenstore/wire.js';

export type Who = 'dom0' | 'driver-domain';
export type Daemon = 'xenstored' | 'oxenstored';

/** A payload, byte for byte; one that matches; an errno's name; or a connection that is closed instead. */
export type Reply = string | RegExp | { readonly error: string } | { readonly closed: true };

export interface Step {
  readonly op: keyof typeof XS | number;
  /** One byte a character. `$` is the scratch directory, as this domain writes it; `^` its absolute path. */
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

export const SCRATCH: Record<Who, string> = { dom0: '/tool/vifd-conformance', 'driver-domain': 'data/vifd-conformance' };

const OK = 'OK\0';
const error = (name: string): Reply => ({ error: name });
type More = Omit<Step, 'op' | 'payload' | 'reply'>;
const step = (op: Step['op'], payload: string, reply: Reply, more: More = {}): Step => ({ op, payload, reply, ...more });
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
const ABSOLUTE = `${'/n'.repeat(1)}`;
