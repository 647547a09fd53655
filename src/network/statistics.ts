/** EDGE: asks iproute2 for the statistics of all interfaces. Not sysfs, which may show another network namespace. */
import { execa } from 'execa';
import { type LinkStatistics, parseIpLinks } from './ip-link.js';

/** By interface name; empty when there is no `ip`, or one without JSON. */
export async function readStatistics(): Promise<Map<string, LinkStatistics>> {
  const { failed, stdout } = await execa('ip', ['-j', '-s', '-d', 'link', 'show'], { reject: false, stdin: 'ignore' });
  return failed ? new Map() : parseIpLinks(stdout);
}
