/**
 * EDGE: whether somebody else could put another file in a file's place. Who may write a directory on the way can exchange all
 * that is below it, between any look at it and its use.
 */
import type { Stats } from 'node:fs';
import { lstat, readlink, realpath } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

const WRITABLE_BY_ALL = 0o002;
/** In such a directory only its owner may exchange a file (inode(7)). */
const STICKY = 0o1000;

export interface WayFault {
  readonly path: string;
  /** `belongs to user 1000`. */
  readonly what: string;
  readonly remedy: string;
}

/**
 * The first of the file, the links to it and the directories on the way that is another user's than root's and ours, or that
 * everybody may write. A group that may write is the admin's choice. Undefined also for what is not there.
 */
export async function faultOnWay(path: string): Promise<WayFault | undefined> {
  const trusted = [0, process.geteuid?.(), (await lstat('/')).uid]; // root, as a user namespace may know it
  return lookAt(resolve(path), trusted).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined; // its user says so, and better
    throw error;
  });
}

async function lookAt(path: string, trusted: readonly (number | undefined)[]): Promise<WayFault | undefined> {
  const above = dirname(path);
  const fault = above === path ? undefined : await lookAt(above, trusted);
  if (fault !== undefined) return fault;
  const status = await lstat(path);
  if (!trusted.includes(status.uid))
    return { path, what: `belongs to user ${status.uid}`, remedy: remedyFor(path, status) };
  if (status.isSymbolicLink()) {
    await realpath(path); // rejects where links go round in a circle
    return lookAt(resolve(await realpath(above), await readlink(path)), trusted);
  }
  if ((status.mode & WRITABLE_BY_ALL) === 0 || (status.isDirectory() && (status.mode & STICKY) !== 0)) return undefined;
  return { path, what: 'may be written by everybody', remedy: `chmod o-w ${path}` };
}

/** A directory may be somebody's home. */
const remedyFor = (path: string, status: Stats): string =>
  status.isDirectory() ? 'put it where root alone may write' : `chown root ${path}`;
