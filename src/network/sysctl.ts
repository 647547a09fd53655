/** EDGE: settings of the kernel's network below /proc/sys (sysctl(8)). The service's sandbox lets vifd read them only. */
import { readFile, writeFile } from 'node:fs/promises';
import { VifdError } from '../errors.js';

const fileOf = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`;

/** `net.ipv4.ip_forward`; undefined where there is none, as in a kernel without IPv6. */
export async function readSysctl(name: string): Promise<string | undefined> {
  return readFile(fileOf(name), 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
}

/** `net.ipv4.ip_forward`: resolves with whether it had to be changed. Rejects with code ESYSCTL. */
export async function ensureSysctl(name: string, value: string): Promise<boolean> {
  const file = fileOf(name);
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
