/**
 * EDGE: the directory in which others find the running agent: vif scripts its FIFO, `vifd status` and `monitor` its socket;
 * and the one for what outlives it.
 */
import type { Stats } from 'node:fs';
import { chmod, lstat, mkdir, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { printable, VifdError } from '../errors.js';
import { faultOnWay } from '../trusted-way.js';

const OPEN_TO_OTHERS = 0o077;
const WRITABLE_BY_OTHERS = 0o022;

/** `$VIFD_RUN_DIR`, which scripts/vif-vifd obeys, too. Undefined where that is empty: nobody can ask. */
export function runDirectory(): string | undefined {
  const dir = process.env.VIFD_RUN_DIR ?? '/run/vifd';
  return dir === '' ? undefined : dir;
}

/** What to do where this file cannot be written. */
export function remedyForFile(file: string, code: string): string {
  if (code === 'ENOSPC' || code === 'EDQUOT') return 'there is no room on its disk: free some';
  return `${dirname(file)} must be there and vifd's to write`;
}

/** Made if need be. Rejects when others could put something into it, or have. */
export async function ensureRunDirectory(dir: string): Promise<void> {
  await make(dir, 0o700).catch((error: NodeJS.ErrnoException) => {
    const remedy =
      'make it, mode 0700, for the user that runs vifd (the systemd unit does), or name another in VIFD_RUN_DIR';
    throw new VifdError(error.code ?? 'EIO', `${dir} cannot be made (${error.code}); ${remedy}`);
  });
  const stats = await lstat(dir);
  refuseOther(dir, stats, 'VIFD_RUN_DIR');
  if (stats.uid !== process.geteuid?.())
    throw new VifdError(
      'EINSECURE',
      `${dir} belongs to user ${stats.uid}, not to the one that runs vifd: run vifd as that one, or name another in VIFD_RUN_DIR`,
    );
  if (!isOurs(stats))
    throw new VifdError(
      'EINSECURE',
      `${dir} is open to others; it must belong to the user that runs vifd: chmod 0700 ${dir}`,
    );
  await refuseStrangeWay(dir);
  for (const name of await readdir(dir)) await refusePlanted(join(dir, name));
}

/** A link's own mode tells nothing, and its end may be missing: chmod would be no remedy. */
function refuseOther(dir: string, stats: Stats, variable: string): void {
  if (stats.isDirectory()) return;
  const what = stats.isSymbolicLink() ? 'a symbolic link, not a directory' : 'no directory';
  throw new VifdError('EINSECURE', `${dir} is ${what}; remove it, or name another in ${variable}`);
}

/** It was open to others once: nobody knows what a file of theirs is for. */
async function refusePlanted(path: string): Promise<void> {
  const uid = (await lstat(path).catch(() => undefined))?.uid; // a script's reply comes and goes
  if (uid !== undefined && uid !== process.geteuid?.())
    throw new VifdError(
      'EINSECURE',
      `${printable(path)} belongs to user ${uid}, not to the one that runs vifd; remove it`,
    );
}

async function refuseStrangeWay(dir: string): Promise<void> {
  const fault = await faultOnWay(dir);
  if (fault === undefined) return;
  const { path, what, remedy } = fault;
  throw new VifdError('EINSECURE', `${path} ${what}, who could put another directory in place of ${dir}: ${remedy}`);
}

/**
 * With all above it; resolves with the first that was not there. mkdir() of Node.js never ends where none can be made, as
 * in /proc.
 */
async function make(dir: string, mode?: number): Promise<string | undefined> {
  const made = () => mkdir(dir, mode).then(() => true, notThere);
  const here = await made();
  if (here !== undefined) return here ? dir : undefined;
  const first = await make(dirname(dir), mode);
  if ((await made()) === undefined) throw Object.assign(new Error(dir), { code: 'ENOENT' });
  return first ?? dir;
}

/** False: it is there already; undefined: what it would be in is not. */
function notThere(error: NodeJS.ErrnoException): false | undefined {
  if (error.code === 'EEXIST') return false;
  if (error.code === 'ENOENT') return undefined;
  throw error;
}

export const isOurs = ({ uid, mode }: Stats): boolean => uid === process.geteuid?.() && (mode & OPEN_TO_OTHERS) === 0;

/** `$VIFD_STATE_DIR`, or what systemd made. */
export function stateDirectory(): string {
  return process.env.VIFD_STATE_DIR || process.env.STATE_DIRECTORY || '/var/lib/vifd';
}

/** Made if need be, for others to read. Rejects when they could put something into it. */
export async function ensureStateDirectory(dir: string): Promise<void> {
  if (!/^\/[\w./@+-]*$/.test(dir))
    throw new VifdError('EINVAL', `VIFD_STATE_DIR is ${printable(dir)}; it must be an absolute path of plain letters`);
  const made = await make(dir).catch(({ code = 'EIO' }: NodeJS.ErrnoException) => {
    const remedy =
      'make it for the user that runs vifd (the drop-in vifd-dhcp.conf does), or name another in VIFD_STATE_DIR';
    throw new VifdError(code, `${dir} cannot be made (${code}): ${remedy}`);
  });
  if (made !== undefined) await chmod(dir, 0o755);
  const stats = await lstat(dir);
  refuseOther(dir, stats, 'VIFD_STATE_DIR');
  if (stats.uid !== process.geteuid?.() || (stats.mode & WRITABLE_BY_OTHERS) !== 0)
    throw new VifdError('EINSECURE', `${dir} must belong to the user that runs vifd, and nobody else may write there`);
  await refuseStrangeWay(dir);
}
