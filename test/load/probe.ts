/** The test's end of probe.cjs. */
import { createConnection, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';

/** For the agent's environment. */
export const probeEnvironment = (socket: string) => ({
  VIFD_LOAD_PROBE: socket,
  NODE_OPTIONS: `--require ${resolve('test/load/probe.cjs')}`,
});

export class Probe {
  private readonly answers: ((line: string) => void)[] = [];
  private constructor(private readonly socket: Socket) {
    createInterface({ input: socket }).on('line', (line) => this.answers.shift()?.(line));
  }

  static async open(path: string): Promise<Probe> {
    const socket = createConnection(path);
    await new Promise<void>((done, failed) => socket.once('connect', done).once('error', failed));
    return new Probe(socket);
  }

  /** Bytes in use after a full collection. */
  async heap(): Promise<number> {
    const line = await new Promise<string>((answer) => {
      this.answers.push(answer);
      this.socket.write('heap\n');
    });
    const { heapUsed, external } = JSON.parse(line) as NodeJS.MemoryUsage;
    return heapUsed + external;
  }

  /** The agent never lets go of so many bytes more. */
  leak(bytes: number): void {
    this.socket.write(`leak ${bytes}\n`);
  }

  close(): void {
    this.socket.destroy();
  }
}
