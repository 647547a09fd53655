/** EDGE: a guest's network: a namespace of its own, held by a process that answers every UDP datagram on port 7 (RFC 862). */
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const ECHO_PORT = 7;
const ECHO_PROGRAM = `
const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (bytes, from) => socket.send(bytes, from.port, from.address));
socket.bind(${ECHO_PORT}, () => console.log('listening'));
process.stdin.resume().on('end', () => process.exit());
`;

export class GuestNamespace {
  private constructor(private readonly child: ChildProcess) {}

  /** Resolves when the namespace is there. It ends with this process, by the pipe to its standard input. */
  static async start(): Promise<GuestNamespace> {
    const child = spawn('unshare', ['--net', process.execPath, '-e', ECHO_PROGRAM], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    return new GuestNamespace(child);
  }

  /** Names the namespace for `ip link set netns`. */
  get pid(): number {
    return this.child.pid ?? 0;
  }

  stop(): void {
    this.child.stdin?.end();
  }
}

/** A datagram to such a guest and back. */
export const Echo = {
  /** Milliseconds of the round trip; undefined when nothing came back. Sends again every 100 ms: the first may wait for ARP. */
  async roundTrip(address: string, timeoutMs: number): Promise<number | undefined> {
    const socket = createSocket('udp4');
    let sentAt = 0;
    const send = () => {
      sentAt = performance.now();
      socket.send('vifd', ECHO_PORT, address, () => undefined);
    };
    const again = setInterval(send, 100);
    send();
    const answer = once(socket, 'message').then(() => performance.now() - sentAt);
    const late = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), timeoutMs).unref());
    const ms = await Promise.race([answer, late]);
    clearInterval(again);
    socket.close();
    return ms;
  },
};
