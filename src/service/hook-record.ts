/**
 * EDGE: what hooks have heard of, in the directory of the running agent, for the vifd that comes after this one. It is gone with
 * the domain, as the vifs are.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { HookFacts } from '../vif/hooks.js';
import { ensureRunDirectory, remedyForFile } from './run-directory.js';
import { writeWhole } from './whole-file.js';

const NUMBERS = ['domid', 'devid'];
const TEXTS = ['vif', 'ifname', 'bridge', 'mac', 'ip', 'mode'];

export class HookRecord {
  private readonly file: string;
  private isRefused = false;
  private isSaid = false;
  constructor(
    private readonly dir: string,
    private readonly log: Logger,
  ) {
    this.file = join(dir, 'hooks.json');
  }

  /** Undefined: none has been written since the domain's start, or none that can be used, which the log has then. */
  async read(): Promise<readonly HookFacts[] | undefined> {
    try {
      await ensureRunDirectory(this.dir);
    } catch (error) {
      this.isRefused = true;
      this.log.warn(`hooks do not hear of what happens while no vifd runs: ${(error as Error).message}`);
      return undefined;
    }
    const text = await readFile(this.file, 'utf8').catch(() => undefined);
    if (text === undefined) return undefined;
    const facts = parseFacts(text);
    if (facts === undefined)
      this.log.warn(
        `hooks may not hear of what happened while no vifd ran: ${this.file} is not what vifd writes; it is written anew`,
      );
    return facts;
  }

  /** Never rejects: that it cannot be written is said once, until it can. */
  async write(facts: readonly HookFacts[]): Promise<void> {
    if (this.isRefused) return;
    try {
      await writeWhole(this.file, `${JSON.stringify(facts)}\n`, 0o600);
      this.isSaid = false;
    } catch (error) {
      const { code = 'EIO' } = error as NodeJS.ErrnoException;
      const sentence = `hooks may hear twice, or not at all, of what happens around the end of this vifd: ${this.file} cannot be written (${code}); ${remedyForFile(this.file, code)}`;
      if (!this.isSaid) this.log.warn(sentence);
      this.isSaid = true;
    }
  }
}

function parseFacts(text: string): HookFacts[] | undefined {
  try {
    const all: unknown = JSON.parse(text);
    return Array.isArray(all) && all.every(isFacts) ? all : undefined;
  } catch {
    return undefined;
  }
}

function isFacts(value: unknown): value is HookFacts {
  const facts = new Map(Object.entries(value ?? {}));
  const are = (names: readonly string[], type: string) => names.every((name) => typeof facts.get(name) === type);
  return are(NUMBERS, 'number') && are(TEXTS, 'string');
}
