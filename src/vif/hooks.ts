/**
 * EDGE: the admin's programs that are run after a vif has been connected or has left. Nobody waits for them.
 *
 * INVARIANTS
 * - Those of one vif run one after the other, in the order of events and of their names.
 * - One that fails or hangs keeps none from running.
 * - Whatever vifd's ends cut short: they hear of each vif that stays, and of the end of each that they have heard of.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { hasCode, printable } from '../errors.js';
import type { Programs } from '../network/hotplug-script.js';
import { type BackendKey, type KeyText, keyText } from '../xenstore/paths.js';
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

/** What hooks have heard of, and what they were hearing when vifd ended. */
export interface HookEntry extends HookFacts {
  readonly telling?: HookEvent;
}
export type HookEvent = 'connected' | 'left';

/** For the vifd that comes after this one. */
export interface HookRecord {
  /** Undefined: there is none. */
  read(): Promise<readonly HookEntry[] | undefined>;
  write(entries: readonly HookEntry[]): Promise<void>;
}

export class Hooks {
  /** What was connected last in each place. It outlives the connection to xenstore, during which a vif may be replaced. */
  private readonly present = new Map<KeyText, HookFacts>();
  /** As in the record. */
  private readonly heard = new Map<KeyText, HookEntry>();
  /** What an earlier vifd was telling when it ended. */
  private readonly cut = new Map<KeyText, HookEvent>();
  /** Of what is not in the record nobody has heard. */
  private knowsAll = false;
  private isRecorded = false;
  private writing: Promise<void> = Promise.resolve();
  /** The last event of each vif that has not been told yet. */
  private readonly telling = new Map<string, Promise<void>>();
  constructor(
    private readonly programs: Programs,
    private readonly log: Logger,
    private readonly dir: () => string,
    private readonly record?: HookRecord,
  ) {}

  /** Before the first vif: takes over what an earlier vifd has told. Resolves with whether some of it was cut short. */
  async begin(): Promise<boolean> {
    const entries = await this.record?.read();
    for (const entry of entries ?? []) {
      const { telling, ...facts } = entry;
      const key = keyText(facts);
      this.present.set(key, facts);
      this.heard.set(key, entry);
      if (telling !== undefined) this.cut.set(key, telling);
    }
    this.knowsAll = entries !== undefined;
    this.isRecorded = this.knowsAll || ((await this.list()) ?? []).length > 0;
    if (this.isRecorded && !this.knowsAll) await this.save(); // before the first vif: the next vifd knows all
    return this.cut.size > 0;
  }

  /** `fresh`: its status did not say so, but it may have been connected before, as a vif that had an error meanwhile. */
  connected(facts: HookFacts, fresh: boolean): void {
    const key = keyText(facts);
    const cut = this.cut.get(key);
    if (cut === 'left' || this.present.get(key)?.mac !== facts.mac) this.left(facts); // replaced while no vifd ran
    if (!this.present.has(key) || cut === 'connected') {
      if (fresh || this.knowsAll) this.tell('connected', facts);
      else this.toldBefore(facts);
    }
    this.cut.delete(key);
    this.present.set(key, facts);
  }

  /** One that was connected, before the connection to xenstore was lost as well. */
  left({ domid, devid }: BackendKey): void {
    const key = keyText({ domid, devid });
    const facts = this.present.get(key);
    this.cut.delete(key);
    if (this.present.delete(key) && facts !== undefined) this.tell('left', facts);
  }

  /** After a scan. Others left while nobody heard of it; and what comes from now on no earlier vifd has told. */
  keep(mayBeThere: (key: BackendKey) => boolean): void {
    for (const facts of this.present.values()) if (!mayBeThere(facts)) this.left(facts);
    this.knowsAll = true;
  }

  /** By an earlier vifd that left no record. */
  private toldBefore(facts: HookFacts): void {
    this.heard.set(keyText(facts), facts);
    if (this.isRecorded) void this.save();
  }

  private tell(event: HookEvent, facts: HookFacts): void {
    const told = (this.telling.get(facts.vif) ?? Promise.resolve()).then(() => this.runAll(event, facts));
    this.telling.set(facts.vif, told);
    void told.finally(() => {
      if (this.telling.get(facts.vif) === told) this.telling.delete(facts.vif);
    });
  }

  private async runAll(event: HookEvent, facts: HookFacts): Promise<void> {
    const names = await this.list();
    if (names === undefined) return;
    const key = keyText(facts);
    if (names.length > 0) {
      this.isRecorded = true;
      this.heard.set(key, { ...facts, telling: event });
      await this.save();
    }
    for (const name of names) if (!(await this.runOne(name, event, facts))) return;
    if (event === 'connected') this.heard.set(key, facts);
    else this.heard.delete(key);
    if (this.isRecorded) await this.save();
  }

  private save(): Promise<void> {
    this.writing = this.writing.then(() => this.record?.write([...this.heard.values()]));
    return this.writing;
  }

  /** Undefined: they cannot be seen, as the log has it. */
  private async list(): Promise<string[] | undefined> {
    try {
      return (await readdir(this.dir())).filter((name) => !/^\.|~$|\.(dpkg|ucf)-/.test(name)).sort();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return [];
      this.log.warn(
        `hooks are not run: ${this.dir()} cannot be read (${code}); it must be a directory that vifd may read`,
      );
      return undefined;
    }
  }

  /** Resolves with whether it had its say: the end of vifd ends it as well. */
  private async runOne(hook: string, event: HookEvent, facts: HookFacts): Promise<boolean> {
    const log = this.log.child({ domid: facts.domid, devid: facts.devid, ifname: facts.ifname });
    const name = `hook ${printable(hook)}`;
    const env = Object.fromEntries(
      Object.entries({ event, ...facts }).map(([key, value]) => [`VIFD_${key.toUpperCase()}`, String(value)]),
    );
    const program = { name, file: join(this.dir(), hook), args: [event, facts.vif], env, timeoutMs: HOOK_MAX_MS };
    const { ended } = this.programs.run(program, (line) => log.info(`${facts.vif}: ${name}: ${line}`));
    return ended.then(
      () => true,
      (error) => {
        if (hasCode(error, 'ECANCELED')) return false;
        log.warn(`${facts.vif} ${event}: ${error.message}; ${error.hint}`);
        return true;
      },
    );
  }
}
