/**
 * EDGE: the directory in which others find the running agent: vif scripts its FIFO, `vifd status` and `monitor` its socket;
 * and the one for what outlives it.
 */
import type { Stats } from 'node:fs';
import { chmod, lstat, mkdir } from 'node:fs/promises';
import { printable, VifdError } from '../errors.js';

const OPEN_TO_OTHERS = 0o077;
const WRITABLE_BY_OTHERS = 0o022;

/** `$VIFD_RUN_DIR`, which scripts/vif-vifd obeys, too. Undefined where that is empty: nobody can ask. */
export function runDirectory(): string | undefined {
  const dir = process.env.VIFD_RUN_DIR ?? '/run/vifd';
  return dir === '' ? undefined : dir;
}

/** Made if need be. Rejects when others could put something into it. */
export async function ensureRunDirectory(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    const remedy =
      'make it, mode 0700, for the user that runs vifd (the systemd unit does), or name another in VIFD_RUN_DIR';
    throw new VifdError(error.code ?? 'EIO', `${dir} cannot be made (${error.code}); ${remedy}`);
  });
  const stats = await lstat(dir);
  if (!stats.isDirectory() || !isOurs(stats))
    throw new VifdError(
      'EINSECURE',
      `${dir} is open to others; it must belong to the user that runs vifd: chmod 0700 ${dir}`,
    );
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
  const made = await mkdir(dir, { recursive: true }).catch(({ code = 'EIO' }: NodeJS.ErrnoException) => {
    const remedy =
      'make it for the user that runs vifd (the drop-in vifd-dhcp.conf does), or name another in VIFD_STATE_DIR';
    throw new VifdError(code, `${dir} cannot be made (${code}): ${remedy}`);
  });
  if (made !== undefined) await chmod(dir, 0o755);
  const { uid, mode } = await lstat(dir);
  if (uid !== process.geteuid?.() || (mode & WRITABLE_BY_OTHERS) !== 0)
    throw new VifdError('EINSECURE', `${dir} must belong to the user that runs vifd, and nobody else may write there`);
}
