/** EDGE: the directory in which others find the running agent: vif scripts its FIFO, `vifd status` and `monitor` its socket. */
import type { Stats } from 'node:fs';
import { lstat, mkdir } from 'node:fs/promises';
import { VifdError } from '../errors.js';

const OPEN_TO_OTHERS = 0o077;

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
