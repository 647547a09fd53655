/** EDGE: asks a target whether it is there. */
import { connect } from 'node:net';
import { answers } from '../declared/gateway.js';
import type { HostKernel } from '../network/host-kernel.js';
import { runCommand } from './command.js';
import type { Target } from './target.js';

const TCP_MS = 1_000;
/** ping itself waits for one second. */
const PING_MS = 3_000;
/** The kernel asks three times, once a second. */
const ARP_MS = 3_200;

/** `ifname`: where a neighbour is. Undefined: it answers; else why not, as the end of a sentence. Never rejects. */
export function ask(
  target: Target,
  { ifname, kernel }: { ifname: string; kernel: HostKernel },
  signal: AbortSignal,
): Promise<string | undefined> {
  switch (target.by) {
    case 'ping':
      return askByPing(target.address, signal);
    case 'tcp':
      return askByTcp(target, signal);
    case 'arp':
      return answers({ ifname, gateway: target.address }, kernel, ARP_MS, signal).then((does) =>
        does ? undefined : 'no answer to ARP or ND',
      );
    default:
      return target satisfies never;
  }
}

/** ping of iputils or busybox. */
async function askByPing(address: string, signal: AbortSignal): Promise<string | undefined> {
  let said = '';
  const argv = ['ping', '-c1', '-W1', address];
  const onLine = (line: string) => {
    if (/^ping: /.test(line)) said = line;
  };
  const fault = await runCommand({ argv, env: {}, limitMs: PING_MS, onLine, signal });
  if (fault?.includes('ENOENT')) return 'ping is not there; install iputils-ping, or have probe = "tcp ADDRESS:PORT"';
  return fault === undefined ? undefined : said || 'no answer to ping';
}

function askByTcp({ address, port }: Extract<Target, { by: 'tcp' }>, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const finish = (outcome: string | undefined) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      socket.destroy();
      resolve(outcome);
    };
    const onAbort = () => finish('not asked any more');
    const timer = setTimeout(() => finish('no answer to TCP'), TCP_MS);
    signal.addEventListener('abort', onAbort);
    socket.once('connect', () => finish(undefined));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => finish(`TCP: ${code}`));
  });
}
