/** Ethernet frames of one's own making: sent by an interface, and heard at another. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { execaSync } from 'execa';
import { onTestFinished } from 'vitest';
import { eventually } from '../agent/agent-process.js';

const SEND = `import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for frame in sys.argv[2:]: s.send(bytes.fromhex(frame))`;

/** A tag is taken off on the way in and told beside the frame (PACKET_AUXDATA); here it is put back. */
const HEAR = `import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(263, 8, 1)
s.bind((sys.argv[1], 3))
print("hearing", flush=True)
while True:
  frame, aux, _, _ = s.recvmsg(65536, 64)
  for level, kind, data in aux:
    status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
    if status & 16: frame = frame[:12] + struct.pack("!HH", tpid if status & 64 else 0x8100, tci) + frame[12:]
  print(frame.hex(), flush=True)`;

export const send = (ifname: string, ...frames: string[]): void =>
  void execaSync('python3', ['-c', SEND, ifname, ...frames]);

/** All frames that come to this interface from now on, as hexadecimal digits. */
export async function hear(ifname: string): Promise<readonly string[]> {
  const child = spawn('python3', ['-c', HEAR, ifname], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  await eventually(() => lines.length > 0);
  return lines;
}

const hex = (value: number, bytes: number): string => value.toString(16).padStart(2 * bytes, '0');
const mac = (text: string): string => text.replaceAll(':', '');
const v4 = (text: string): string =>
  text
    .split('.')
    .map((part) => hex(Number(part), 1))
    .join('');
/** Eight groups, written in full. */
const v6 = (text: string): string =>
  text
    .split(':')
    .map((part) => part.padStart(4, '0'))
    .join('');

export const EVERYBODY = 'ff:ff:ff:ff:ff:ff';

export const ethernet = (from: string, type: number, payload: string, to = EVERYBODY): string =>
  mac(to) + mac(from) + hex(type, 2) + payload; // without padding, which br_netfilter takes off again

export const tagged = (frame: string, vid: number): string =>
  `${frame.slice(0, 24)}8100${hex(vid, 2)}${frame.slice(24)}`;

export const arp = (from: string, sender: { mac: string; ip: string }): string =>
  ethernet(from, 0x0806, `0001080006040001${mac(sender.mac)}${v4(sender.ip)}000000000000${v4('192.0.2.254')}`);

/** Only the header's checksum is right: br_netfilter looks at that one. */
export function udp(from: string, source: string, sport: number, dport: number, note = ''): string {
  const body = `${hex(sport, 2)}${hex(dport, 2)}${hex(8 + note.length / 2, 2)}0000${note}`;
  const header = (sum: number) =>
    `4500${hex(20 + body.length / 2, 2)}000000004011${hex(sum, 2)}${v4(source)}${v4('192.0.2.254')}`;
  return ethernet(from, 0x0800, header(checksum(header(0))) + body);
}

function checksum(header: string): number {
  const sum = (header.match(/.{4}/g) ?? []).reduce((total, word) => total + Number.parseInt(word, 16), 0);
  return ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
}

function ipv6(from: string, source: string, next: number, body: string): string {
  return ethernet(
    from,
    0x86dd,
    `60000000${hex(body.length / 2, 2)}${hex(next, 1)}ff${v6(source)}${v6('ff02:0:0:0:0:0:0:1')}${body}`,
  );
}

export const icmp6 = (from: string, source: string, type: number, rest = ''): string =>
  ipv6(from, source, 58, `${hex(type, 1)}000000${rest.padEnd(8, '0')}`);

export const advertisement = (from: string, source: string, target: string): string =>
  icmp6(from, source, 136, `20000000${v6(target)}`);

export const udp6 = (from: string, source: string, sport: number, dport: number): string =>
  ipv6(from, source, 17, `${hex(sport, 2)}${hex(dport, 2)}00080000`);
