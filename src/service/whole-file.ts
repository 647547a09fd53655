/** EDGE: a file that others may read at any time: it is whole or not there. */
import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

/** Made by this process or not at all, so no link is written through; of this mode, whatever our umask. */
export async function writeWhole(path: string, text: string, mode: number): Promise<void> {
  const fresh = `${path}.new`; // one name: that of an agent that was killed is used again
  await rm(fresh, { force: true });
  try {
    const file = await open(fresh, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600);
    try {
      await file.chmod(mode);
      await file.writeFile(text);
    } finally {
      await file.close();
    }
    await rename(fresh, path);
  } catch (error) {
    await rm(fresh, { force: true }).catch(() => undefined);
    throw error;
  }
}
