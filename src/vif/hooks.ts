/**
 * EDGE: the admin's programs that are run after a vif has been connected or has left. Nobody waits for them.
 *
 * INVARIANTS
 * - Those of one vif run one after the other, in the order of events and of their names.
 * - One that fails or hangs keeps none from running.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { hasCode, printable } from '../errors.js';
import type { Programs } from '../network/hotplug-script.js';
import { type BackendKey, keyText } from '../xenstore/paths.js';
import type { Attachment } from './attachment.js';
import { kernelName, type VifBackend } from './backend.js';

const HOOK_MAX_MS = 10_000;

/** In the environment of a hook, as VIFD_DOMID and so on. */
export interface HookFacts {
  /** `vif5.0`, whatever it is called now. */
  readonly vif: string;
  readonly domid: number;
  readonly devid: number;
  readonly ifname: string;
  /** Empty where there is none, as the two below. */
  readonly bridge: string;
  readonly mac: string;
  /** Separated by spaces. */
  readonly ip: string;
  readonly mode: string;
}

export function factsOf(backend: VifBackend, want: Attachment | undefined, bridge = ''): HookFacts {
  const { key, mac = '', ip } = backend;
  const vif = kernelName(backend);
  return { vif, ...key, ifname: want?.ifname ?? vif, bridge, mac, ip: ip.join(' '), mode: want?.mode ?? '' };
}

export class Hooks {
  /** What was connected last in each place. It outlives the connection to xenstore, during which a vif may be replaced. */
  private readonly present = new Map<string, HookFacts>();
  /** The last event of each vif that has not been told yet. */
  private readonly telling = new Map<string, Promise<void>>();
  constructor(
    private readonly programs: Programs,
    private readonly log: Logger,
    private readonly dir: () => string,
  ) {}

  /** `fresh`: its status did not say so, but it may have been connected before, as a vif that had an error meanwhile. */
  connected(facts: HookFacts, fresh: boolean): void {
    const key = keyText(facts);
    if (fresh && !this.present.has(key)) this.tell('connected', facts);
    this.present.set(key, facts);
  }

  /** One that was connected, before the connection to xenstore was lost as well. */
  left({ domid, devid }: BackendKey): void {
    const key = keyText({ domid, devid });
    const facts = this.present.get(key);
    if (this.present.delete(key) && facts !== undefined) this.tell('left', facts);
  }

  /** Others left while nobody heard of it. */
  keep(mayBeThere: (key: BackendKey) => boolean): void {
    for (const facts of this.present.values()) if (!mayBeThere(facts)) this.left(facts);
  }

  private tell(event: 'connected' | 'left', facts: HookFacts): void {
    const told = (this.telling.get(facts.vif) ?? Promise.resolve()).then(() => this.runAll(event, facts));
    this.telling.set(facts.vif, told);
    void told.finally(() => {
      if (this.telling.get(facts.vif) === told) this.telling.delete(facts.vif);
    });
  }

  private async runAll(event: string, facts: HookFacts): Promise<void> {
    for (const name of await this.list()) await this.runOne(name, event, facts);
  }

  private async list(): Promise<string[]> {
    try {
      return (await readdir(this.dir())).filter((name) => !/^\.|~$|\.(dpkg|ucf)-/.test(name)).sort();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT') this.log.warn(`hooks are not run: ${this.dir()} cannot be read (${code})`);
      return [];
    }
  }

  private async runOne(hook: string, event: string, facts: HookFacts): Promise<void> {
    const log = this.log.child({ domid: facts.domid, devid: facts.devid, ifname: facts.ifname });
    const name = `hook ${printable(hook)}`;
    const env = Object.fromEntries(
      Object.entries({ event, ...facts }).map(([key, value]) => [`VIFD_${key.toUpperCase()}`, String(value)]),
    );
    const program = { name, file: join(this.dir(), hook), args: [], env, timeoutMs: HOOK_MAX_MS };
    const { ended } = this.programs.run(program, (line) => log.info(`${facts.vif}: ${name}: ${line}`));
    await ended.catch((error) => {
      if (!hasCode(error, 'ECANCELED')) log.warn(`${facts.vif} ${event}: ${error.message}; ${error.hint}`);
    });
  }
}
