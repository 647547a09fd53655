/** A host on the other end of a card: a namespace of its own, kept by a process that only sleeps. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { execaSync } from 'execa';
import { ip } from './namespace.js';

const children: ChildProcess[] = [];

export interface Peer {
  /** Runs `ip` there. */
  ip(...args: string[]): string;
  /** Whether this address answers it. */
  ping(address: string): boolean;
}

/** Makes the card `ifname`, up; the other end is called `up0` and has these addresses. */
export function addPeer(ifname: string, ...addresses: string[]): Peer {
  const child = spawn('unshare', ['--net', 'sleep', '1000'], { stdio: 'ignore' });
  children.push(child);
  const pid = String(child.pid);
  const own = readlinkSync('/proc/self/ns/net');
  while (readlinkSync(`/proc/${pid}/ns/net`) === own); // unshare is quick
  ip('link', 'add', ifname, 'type', 'veth', 'peer', 'name', 'up0', 'netns', pid);
  ip('link', 'set', ifname, 'up');
  const enter = ['--net', '-t', pid];
  const there = (...args: string[]) => execaSync('nsenter', [...enter, 'ip', ...args]).stdout;
  const ping = (address: string) =>
    !execaSync('nsenter', [...enter, 'ping', '-c1', '-W1', address], { reject: false }).failed;
  there('link', 'set', 'lo', 'up');
  for (const address of addresses)
    there('addr', 'add', address, 'dev', 'up0', ...(address.includes(':') ? ['nodad'] : []));
  there('link', 'set', 'up0', 'up');
  return { ip: there, ping };
}

export function removePeers(): void {
  for (const child of children.splice(0)) child.kill('SIGKILL');
}
