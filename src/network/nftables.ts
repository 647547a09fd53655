/**
 * EDGE: the nftables table of vifd. A map leads from an interface's name to the chain of rules for the frames that come in by
 * it, so rules can be in force before the interface is up, or there at all.
 *
 * INVARIANTS
 * - Each run of nft is one transaction: a guard is whole, or it is not there. Rules of others are never touched.
 * - Changes that come while nft runs wait and share the next run; one that nft refuses does no harm to the others.
 */
import { spawn } from 'node:child_process';
import { AttachError, printable } from '../errors.js';
import { type Guard, type GuardChange, HEAD, linesFor, TABLE } from './guard-table.js';

const NFT_MAX_MS = 5_000;
const INSTALL = 'install nftables, or set guard = "off"';

interface Change extends GuardChange {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Nftables {
  /** The chain for each interface, as it was read or written last. */
  private chains: Promise<Map<string, string>> | undefined;
  private readAt = 0;
  private waiting: Change[] = [];
  private running = false;

  /** The chain that guards this interface, as it was at most `maxAgeMs` ago. Without nft there is none. */
  async chainOf(ifname: string, maxAgeMs: number): Promise<string | undefined> {
    return (await this.read(maxAgeMs)).get(ifname);
  }

  /** All names that are guarded. */
  async names(): Promise<string[]> {
    return [...(await this.read(Number.POSITIVE_INFINITY)).keys()];
  }

  /** Resolves when the guard is in force. Rejects with AttachError. */
  set(ifname: string, guard: Guard | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ ifname, guard, resolve, reject });
      void this.work();
    });
  }

  private async work(): Promise<void> {
    if (this.running) return;
    this.running = true;
    while (this.waiting.length > 0) await this.applyAll(this.waiting.splice(0));
    this.running = false;
  }

  /** All at once; if that fails, with what is really there each for itself. */
  private async applyAll(changes: readonly Change[]): Promise<void> {
    try {
      await this.apply(changes);
      for (const { resolve } of changes) resolve();
    } catch {
      this.chains = undefined;
      for (const change of changes) await this.apply([change]).then(change.resolve, change.reject);
    }
  }

  private async apply(changes: readonly Change[]): Promise<void> {
    const chains = await this.read(Number.POSITIVE_INFINITY);
    const after = new Map(chains);
    const lines = changes.flatMap((change) => linesFor(change, after));
    const unused = new Set([...chains.values()].filter((chain) => ![...after.values()].includes(chain)));
    if (lines.length === 0) return;
    await run(['-f', '-'], [...HEAD, ...lines, ...[...unused].map((chain) => `delete chain ${TABLE} ${chain}`)]);
    this.chains = Promise.resolve(after);
  }

  private read(maxAgeMs: number): Promise<Map<string, string>> {
    if (this.chains === undefined || performance.now() - this.readAt > maxAgeMs) {
      this.readAt = performance.now();
      this.chains = list();
    }
    return this.chains;
  }
}

async function list(): Promise<Map<string, string>> {
  const text = await run(['-j', 'list', 'map', ...TABLE.split(' '), 'guards'], []).catch(() => '{}'); // no such table, or no nft
  const { nftables = [] } = JSON.parse(text) as {
    nftables?: { map?: { elem?: [string, { jump: { target: string } }][] } }[];
  };
  const elements = nftables.flatMap(({ map }) => map?.elem ?? []);
  return new Map(elements.map(([ifname, { jump }]) => [ifname, jump.target]));
}

/** Not by execa: loaded for the whole life of the agent it costs 5 MiB. */
function run(args: readonly string[], lines: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('nft', args, { timeout: NFT_MAX_MS });
    const said = { out: '', err: '' };
    child.stdout.setEncoding('utf8').on('data', (text) => (said.out += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (said.err += text));
    child.stdin.on('error', () => undefined); // it ended before it read all; its exit code says why
    child.stdin.end(`${lines.join('\n')}\n`);
    child.on('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new AttachError('ENONFT', `the vif cannot be guarded: nft cannot be run (${cause.code})`, INSTALL, { cause }),
      ),
    );
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(said.out);
      const why = signal
        ? `it did not end within ${NFT_MAX_MS / 1000} s`
        : printable(said.err.split('\n')[0] ?? '', 200);
      reject(new AttachError('ENFT', `the vif cannot be guarded: nft refused the rules`, why));
    });
  });
}
