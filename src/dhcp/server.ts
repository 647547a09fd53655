/**
 * EDGE: gives guests their addresses by DHCP, with one dnsmasq for all vifs.
 *
 * INVARIANTS
 * - No vif waits for it, and none fails with it.
 * - At most one dnsmasq: one that a killed vifd has left ends before another starts.
 * - It is started anew only for a vif that it does not listen on, or a lease that stands in the way.
 */
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import { Said } from '../declared/said.js';
import { KeyedLoop } from '../keyed-loop.js';
import type { Prefix } from '../network/prefix.js';
import { Restarts } from '../restarts.js';
import { ensureStateDirectory } from '../service/run-directory.js';
import { writeWhole } from '../service/whole-file.js';
import type { Attachment } from '../vif/attachment.js';
import { offerOf } from '../vif/dhcp.js';
import { type BackendKey, type KeyText, keyText, parseKeyText } from '../xenstore/paths.js';
import { Dnsmasq, endLeftBehind } from './dnsmasq.js';
import {
  configText,
  type Files,
  filesIn,
  hostsText,
  keptLeases,
  type Offer,
  optionsText,
  twinsIn,
} from './dnsmasq-text.js';

/** Vifs come and go in bunches, and a guest takes longer to ask. */
const SETTLE_MS = 100;

export class DhcpServer {
  private readonly offers = new Map<KeyText, Offer>();
  private readonly loop = new KeyedLoop<'dnsmasq'>(() => this.run());
  private readonly files: Files;
  private readonly dnsmasq: Dnsmasq;
  private readonly said: Said;
  private prepared = false;
  private isScanned = false;
  /** Those that the dnsmasq that runs listens on. */
  private listening = new Set<string>();
  private written = '';
  private readonly restarts = new Restarts();
  private readonly stopping = new AbortController();
  constructor(
    private readonly dir: string,
    private readonly log: Logger,
  ) {
    this.files = filesIn(dir);
    this.said = new Said(log);
    this.dnsmasq = new Dnsmasq(this.files.config, {
      onLine: (line) => log.debug(line),
      onEnd: (why) => this.ended(why),
    });
  }

  /** What this vif's guest is to get now, or that it is to get nothing. */
  serve(key: BackendKey, want: Attachment, gateways: readonly Prefix[]): void {
    const offer = offerOf(want, gateways);
    const known = this.offers.get(keyText(key));
    if (JSON.stringify(known) === JSON.stringify(offer)) return;
    this.offers.delete(keyText(key));
    if (offer !== undefined) this.offers.set(keyText(key), offer);
    this.loop.kickLater('dnsmasq', SETTLE_MS);
  }

  leave(key: BackendKey): void {
    if (this.offers.delete(keyText(key))) this.loop.kickLater('dnsmasq', SETTLE_MS);
  }

  /** After a scan. Others left while nobody heard of it, and before the first so may have all that an earlier vifd served. */
  keep(mayBeThere: (key: BackendKey) => boolean): void {
    const gone = [...this.offers.keys()].filter((text) => !mayBeThere(parseKeyText(text)));
    for (const text of gone) this.offers.delete(text);
    if (gone.length > 0 || !this.isScanned) this.loop.kickLater('dnsmasq', SETTLE_MS);
    this.isScanned = true;
  }

  /** Leaves the leases. */
  async stop(): Promise<void> {
    this.stopping.abort();
    const stopped = this.loop.stop();
    await this.dnsmasq.end(); // also ends a run that waits for it to start
    await stopped;
    await this.dnsmasq.end();
    this.clean();
  }

  private async run(): Promise<number> {
    try {
      await this.bringUp();
      this.said.warn('DHCP', twinsIn(this.current()));
    } catch (error) {
      if (this.stopping.signal.aborted) return 0;
      this.said.warn('DHCP', [`guests get no address: ${(error as Error).message}`]);
      this.retry();
    }
    return 0;
  }

  private async bringUp(): Promise<void> {
    const offers = this.current();
    if (offers.length === 0) return this.rest();
    await this.prepare();
    const { files } = this;
    const leases = await readFile(files.leases, 'utf8').catch(() => '');
    const kept = keptLeases(leases, offers);
    const goesOn = this.dnsmasq.runs && kept === leases && offers.every(({ ifname }) => this.listening.has(ifname));
    const texts = [hostsText(offers), optionsText(offers)] as const;
    if (goesOn && this.written === texts.join('\n')) return;
    if (!goesOn) await this.dnsmasq.end();
    await Promise.all([write(files.hosts, texts[0]), write(files.options, texts[1])]);
    this.written = texts.join('\n');
    if (goesOn) return this.dnsmasq.reload();
    await write(files.leases, kept); // anew, so dnsmasq as root follows no link there
    await this.start(offers.map(({ ifname }) => ifname));
  }

  /** Of two for one address, or on one interface, the later: the other's vif is gone, and its leaving was not heard of. */
  private current(): Offer[] {
    const all = [...this.offers.values()];
    return all.filter(
      (one, i) => !all.slice(i + 1).some((later) => later.address === one.address || later.ifname === one.ifname),
    );
  }

  private async start(ifnames: readonly string[]): Promise<void> {
    this.listening = new Set(ifnames);
    await write(this.files.config, configText(this.files, ifnames, await staysRoot()));
    this.restarts.started();
    if (this.stopping.signal.aborted) return;
    await this.dnsmasq.start();
    this.log.info(`dnsmasq answers DHCP on ${ifnames.join(', ')}`);
  }

  private async prepare(): Promise<void> {
    if (this.prepared) return;
    await ensureStateDirectory(this.dir);
    await endLeftBehind(this.files, this.stopping.signal);
    this.prepared = !this.stopping.signal.aborted;
  }

  /** Nobody wants it. */
  private async rest(): Promise<void> {
    if (!this.prepared)
      this.prepared = (await endLeftBehind(this.files, this.stopping.signal)) && !this.stopping.signal.aborted;
    await this.dnsmasq.end();
    this.clean();
  }

  private ended(why: string): void {
    const sentence = `dnsmasq has ended (${why}); it is started again`;
    if (this.retry()) this.log.warn(sentence);
    else this.log.debug(sentence);
  }

  /** Whether it is the first time in a row. */
  private retry(): boolean {
    const { afterMs, isFirst } = this.restarts.next();
    this.loop.kickLater('dnsmasq', afterMs);
    return isFirst;
  }

  private clean(): void {
    if (!this.prepared) return; // what is there is an earlier vifd's, for the next one to find
    const { leases: _, ...others } = this.files;
    for (const file of Object.values(others)) rmSync(file, { force: true });
  }
}

/** dnsmasq reads it as another user. */
const write = (file: string, text: string): Promise<void> => writeWhole(file, text, 0o644);

const CAP_KILL_SETGID_SETUID = 0b1110_0000n;

/** A root without the right to become another user, or to end what has; or in a user namespace that knows no other. */
async function staysRoot(): Promise<boolean> {
  if (process.geteuid?.() !== 0) return false;
  const read = (name: string) => readFile(`/proc/self/${name}`, 'utf8').catch(() => '');
  const [status, users] = await Promise.all([read('status'), read('uid_map')]);
  const rights = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return (rights & CAP_KILL_SETGID_SETUID) !== CAP_KILL_SETGID_SETUID || /^\s*\d+\s+\d+\s+1$/m.test(users);
}
