/** EDGE: settings of the kernel's network below /proc/sys (sysctl(8)). */
import { readFile, writeFile } from 'node:fs/promises';
import { VifdError } from '../errors.js';

/** `net.ipv4.ip_forward`: resolves with whether it had to be changed. Rejects with code ESYSCTL. */
export async function ensureSysctl(name: string, value: string): Promise<boolean> {
  const file = `/proc/sys/${name.replaceAll('.', '/')}`;
  try {
    if ((await readFile(file, 'utf8')).trim() === value) return false;
    await writeFile(file, value);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new VifdError('ESYSCTL', `${name} cannot be set to ${value} (${code}); as root: sysctl -w ${name}=${value}`, {
      cause: error,
    });
  }
}
