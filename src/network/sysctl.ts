/** EDGE: reads the kernel's settings of this network namespace. vifd writes none of them: the service sees them read-only. */
import { readFile } from 'node:fs/promises';

/** Below /proc/sys/net, such as `ipv4/ip_forward`; undefined where there is none, as in a kernel without IPv6. */
export async function readSysctl(name: string): Promise<string | undefined> {
  return readFile(`/proc/sys/net/${name}`, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
}
