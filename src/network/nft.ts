/**
 * EDGE: runs nft(8), a process for each transaction. One always waits for its rules (1 MB of its own): to start it takes
 * twice as long as what it does.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { VifdError } from '../errors.js';

export const NFT_MAX_MS = 5_000;
/** Nobody is to wait for the start of the next. */
const NEXT_AFTER_MS = 100;

export interface NftSays {
  /** Null: it was ended by a signal. */
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Both reject with VifdError where nft cannot be run. */
export class Nft {
  private next: NftProcess | undefined;
  private timer: NodeJS.Timeout | undefined;

  /** `words` behind `nft`. */
  run(...words: readonly string[]): Promise<NftSays> {
    return new NftProcess(words).work('');
  }

  /** All of it or nothing: nft(8), -f. */
  async transaction(lines: readonly string[]): Promise<NftSays> {
    const process = this.next?.isUsable ? this.next : new NftProcess(FROM_STDIN);
    this.next = undefined;
    const said = await process.work(`${lines.join('\n')}\n`);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.startNext(), NEXT_AFTER_MS);
    this.timer.unref();
    return said;
  }

  close(): void {
    clearTimeout(this.timer);
    this.next?.end();
  }

  private startNext(): void {
    if (this.next?.isUsable) return;
    try {
      this.next = new NftProcess(FROM_STDIN);
      this.next.setHolding(false);
    } catch {
      this.next = undefined; // no memory for it: whoever needs one is told
    }
  }
}

const FROM_STDIN = ['-f', '-'];

class NftProcess {
  /** Without pipes where it could not be started for want of descriptors. */
  private readonly child: ChildProcess;
  private readonly said = { out: '', err: '' };
  private readonly ended: Promise<NftSays>;
  isUsable = true;

  constructor(words: readonly string[]) {
    const child = spawn('nft', words);
    this.child = child;
    child.stdout?.setEncoding('utf8').on('data', (text) => {
      this.said.out += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text) => {
      this.said.err += text;
    });
    child.stdin?.on('error', () => undefined); // it ended before it read all; its exit code says why
    this.ended = new Promise((resolve, reject) => {
      child.on('error', ({ code = 'EIO' }: NodeJS.ErrnoException) => {
        this.isUsable = false;
        reject(new VifdError(code, `nft cannot be run (${code})`));
      });
      child.on('exit', () => {
        this.isUsable = false;
      });
      child.on('close', (code) => resolve({ code, ...this.said }));
    });
    this.ended.catch(() => undefined); // whoever uses it is told
  }

  work(input: string): Promise<NftSays> {
    this.setHolding(true);
    // Not spawn's own time limit, which outlives a program that could not be started.
    const timer = setTimeout(() => this.child.kill('SIGKILL'), NFT_MAX_MS);
    this.child.stdin?.end(input);
    return this.ended.finally(() => clearTimeout(timer));
  }

  /** Whether it keeps this process from ending. One that waits ends with its input. */
  setHolding(holds: boolean): void {
    for (const one of [this.child, this.child.stdin, this.child.stdout, this.child.stderr] as (Socket | null)[])
      if (holds) one?.ref();
      else one?.unref();
  }

  end(): void {
    this.child.stdin?.end();
  }
}
