/** What changes of the vifs' interfaces and of the bridges that they are in. Pure. */
import { type BackendKey, parseDevid, parseDomid } from '../xenstore/paths.js';
import type { LinkEntry, LinkSeen } from './entry.js';

/** What of a link is shown; `master` is the name of the bridge, null for none. */
export interface LinkFacts {
  readonly ifname: string;
  readonly up: boolean;
  /** Null when the kernel has not said. */
  readonly carrier: boolean | null;
  readonly mtu: number;
  readonly qlen: number;
  readonly master: string | null;
  readonly address: string;
}

export interface LinkHappening {
  readonly source: 'link';
  readonly ifindex: number;
  /** Its name now. */
  readonly ifname: string;
  /** Of the vif; absent for a bridge. */
  readonly domid?: number;
  readonly devid?: number;
  readonly event: 'present' | 'made' | 'changed' | 'gone';
  /** All of them when it is new here, else those that changed. */
  readonly changes: Partial<LinkFacts>;
  readonly meaning: string;
}

export class LinkChanges {
  private readonly links = new Map<number, LinkSeen>();
  /** By index: a vif keeps being one under another name. */
  private readonly vifs = new Map<number, BackendKey>();
  private readonly bridges = new Set<number>();
  /** By name: what dom0 wants a vif to be called. */
  private readonly wanted = new Map<string, BackendKey>();

  /** The node `vifname`. */
  expect(ifname: string, key: BackendKey): void {
    this.wanted.set(ifname, key);
  }

  take({ change, link }: LinkEntry): LinkHappening[] {
    const before = this.links.get(link.ifindex);
    const key = this.keyOf(link);
    const shown = key !== undefined || this.bridges.has(link.ifindex);
    if (change === 'gone') return this.leave(link, key, shown);
    this.links.set(link.ifindex, link);
    if (!shown) return [];
    const own = before === undefined ? [this.arrived(change, link, key)] : this.changed(before, link, key);
    return key === undefined ? own : [...own, ...this.follow(link.master)];
  }

  private keyOf(link: LinkSeen): BackendKey | undefined {
    const key = this.vifs.get(link.ifindex) ?? keyIn(link) ?? this.wanted.get(link.ifname);
    if (key !== undefined) this.vifs.set(link.ifindex, key);
    return key;
  }

  private leave(link: LinkSeen, key: BackendKey | undefined, shown: boolean): LinkHappening[] {
    this.links.delete(link.ifindex);
    this.vifs.delete(link.ifindex);
    this.bridges.delete(link.ifindex);
    return shown ? [happening('gone', link, key, {}, 'gone')] : [];
  }

  private arrived(change: 'present' | 'new', link: LinkSeen, key: BackendKey | undefined): LinkHappening {
    const facts = this.facts(link);
    const word = change === 'present' ? 'is here' : 'made';
    return happening(change === 'present' ? 'present' : 'made', link, key, facts, `${word}: ${describe(facts)}`);
  }

  private changed(before: LinkSeen, link: LinkSeen, key: BackendKey | undefined): LinkHappening[] {
    const [old, now] = [this.facts(before), this.facts(link)];
    const names = (Object.keys(now) as (keyof LinkFacts)[]).filter((name) =>
      name === 'master' ? before.master !== link.master : old[name] !== now[name],
    );
    if (names.length === 0) return [];
    const words = names.map((name) => WORDS[name](old, now)).join(', ');
    return [happening('changed', link, key, Object.fromEntries(names.map((name) => [name, now[name]])), words)];
  }

  /** From now on the bridge of a vif is shown, beginning with how it is. */
  private follow(ifindex: number): LinkHappening[] {
    if (ifindex === 0 || this.bridges.has(ifindex)) return [];
    this.bridges.add(ifindex);
    const bridge = this.links.get(ifindex);
    return bridge === undefined ? [] : [this.arrived('present', bridge, undefined)];
  }

  private facts({ ifname, up, carrier, mtu, txqlen, master, address }: LinkSeen): LinkFacts {
    const name = master === 0 ? null : (this.links.get(master)?.ifname ?? `if${master}`);
    return { ifname, up, carrier: carrier ?? null, mtu, qlen: txqlen, master: name, address };
  }
}

/** Netback's own name for it, or since Linux 5.14 the device behind it, whatever it is called. */
function keyIn({ ifname, parentDev }: LinkSeen): BackendKey | undefined {
  const [, domidText = '', devidText = ''] =
    /^vif-(\d+)-(\d+)$/.exec(parentDev) ?? /^vif(\d+)\.(\d+)$/.exec(ifname) ?? [];
  const [domid, devid] = [parseDomid(domidText), parseDevid(devidText)];
  return domid === undefined || devid === undefined ? undefined : { domid, devid };
}

function happening(
  event: LinkHappening['event'],
  { ifindex, ifname }: LinkSeen,
  key: BackendKey | undefined,
  changes: Partial<LinkFacts>,
  meaning: string,
): LinkHappening {
  return { source: 'link', ...key, ifindex, ifname, event, changes, meaning };
}

const WORDS: Readonly<Record<keyof LinkFacts, (old: LinkFacts, now: LinkFacts) => string>> = {
  ifname: (old) => `renamed from ${old.ifname}`,
  up: (_, { up }) => (up ? 'up' : 'down'),
  carrier: (_, { carrier }) => (carrier ? 'carrier' : 'no carrier'),
  mtu: (old, { mtu }) => `mtu ${old.mtu} -> ${mtu}`,
  qlen: (old, { qlen }) => `qlen ${old.qlen} -> ${qlen}`,
  master: (old, { master }) => (master === null ? `left ${old.master}` : `joined ${master}`),
  address: (old, { address }) => `address ${old.address} -> ${address}`,
};

function describe({ up, carrier, mtu, qlen, master }: LinkFacts): string {
  const words = [up ? 'up' : 'down', ...(carrier === null ? [] : [carrier ? 'carrier' : 'no carrier'])];
  return [...words, `mtu ${mtu}`, `qlen ${qlen}`, ...(master === null ? [] : [`in ${master}`])].join(', ');
}
