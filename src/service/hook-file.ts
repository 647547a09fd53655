/** EDGE: the record of what hooks have heard, in the directory of the running agent. A reboot of the domain ends it with the vifs. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { HookEntry, HookFacts, HookRecord } from '../vif/hooks.js';
import { ensureRunDirectory, remedyForFile } from './run-directory.js';
import { writeWhole } from './whole-file.js';

const TYPES: { readonly [name in keyof HookFacts]: 'string' | 'number' } = {
  vif: 'string',
  domid: 'number',
  devid: 'number',
  ifname: 'string',
  bridge: 'string',
  mac: 'string',
  ip: 'string',
  mode: 'string',
};

export class HookFile implements HookRecord {
  private readonly path: string;
  /** Why nothing may be written there. */
  private refusal: string | undefined;
  private isSaid = false;
  constructor(
    private readonly dir: string,
    private readonly log: Logger,
  ) {
    this.path = join(dir, 'hooks.json');
  }

  /** Never rejects; of one that cannot be used the log has why. */
  async read(): Promise<readonly HookEntry[] | undefined> {
    try {
      await ensureRunDirectory(this.dir);
      return this.parse(await readFile(this.path, 'utf8'));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT') this.refusal = message;
      return undefined;
    }
  }

  private parse(text: string): HookEntry[] | undefined {
    const entries = parseEntries(text);
    if (entries === undefined)
      this.log.warn(
        `hooks may not hear of what happened while no vifd ran: ${this.path} is not what vifd writes; it is written anew`,
      );
    return entries;
  }

  /** Never rejects: that it cannot be written is said once, until it can. */
  async write(entries: readonly HookEntry[]): Promise<void> {
    if (this.refusal !== undefined) return this.say(this.refusal);
    try {
      await writeWhole(this.path, `${JSON.stringify(entries)}\n`, 0o600);
      this.isSaid = false;
    } catch (error) {
      const { code = 'EIO' } = error as NodeJS.ErrnoException;
      this.say(`${this.path} cannot be written (${code}); ${remedyForFile(this.path, code)}`);
    }
  }

  private say(why: string): void {
    if (!this.isSaid)
      this.log.warn(`hooks may hear twice, or not at all, of what happens around the end of this vifd: ${why}`);
    this.isSaid = true;
  }
}

function parseEntries(text: string): HookEntry[] | undefined {
  try {
    const all: unknown = JSON.parse(text);
    return Array.isArray(all) && all.every(isEntry) ? all : undefined;
  } catch {
    return undefined;
  }
}

function isEntry(value: unknown): value is HookEntry {
  const { telling, ...facts } = (value ?? {}) as Record<string, unknown>;
  const isEvent = telling === undefined || telling === 'connected' || telling === 'left';
  return isEvent && Object.entries(TYPES).every(([name, type]) => typeof facts[name] === type);
}
