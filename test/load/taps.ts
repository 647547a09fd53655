/** Real interfaces for many guests: tap devices, made and removed by one `ip` that stays, for a process each would be most of the load. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { type LinkFactory, NETBACK_MAC } from '../../src/simulator/links.js';

const GONE = 99;
const GROUP_MS = 50;

export class Taps implements LinkFactory {
  private readonly ip: ChildProcessByStdio<Writable, Readable, Readable>;
  private readonly waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  private refusal = '';
  private timer: NodeJS.Timeout | undefined;

  constructor() {
    this.ip = spawn('ip', ['-force', '-o', '-batch', '-'], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.ip.stderr.setEncoding('utf8').on('data', (text) => {
      this.refusal += text;
    });
    createInterface({ input: this.ip.stdout }).on('line', () => this.answered());
  }

  create(ifname: string): Promise<void> {
    return this.run(`tuntap add dev ${ifname} mode tap`, `link set dev ${ifname} address ${NETBACK_MAC}`);
  }

  /** At once it goes down and into a group; the group goes a moment later: each removal has the kernel wait for 15 ms. */
  async remove(ifname: string): Promise<void> {
    this.timer ??= setTimeout(() => void this.removeGroup(), GROUP_MS);
    await this.run(`link set dev ${ifname} down group ${GONE}`).catch((error: Error) => {
      if (!/Cannot find device/.test(error.message)) throw error; // somebody else removed it
    });
  }

  async close(): Promise<void> {
    if (this.timer !== undefined) await this.removeGroup();
    this.ip.stdin.end();
  }

  private async removeGroup(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    await this.run(`link delete group ${GONE}`);
  }

  /** The last line's answer comes when all before it are done. */
  private run(...commands: string[]): Promise<void> {
    this.ip.stdin.write(`${[...commands, 'link show dev lo'].join('\n')}\n`);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  private answered(): void {
    const { refusal } = this;
    this.refusal = '';
    const one = this.waiting.shift();
    if (refusal === '') one?.resolve();
    else one?.reject(new Error(refusal.trim()));
  }
}
