/** What `ip -j -s -d link show` tells and only people want to know: counters, carrier, bridge port state. Pure. */

export interface LinkStatistics {
  readonly carrier: boolean;
  /** `forwarding`, `learning` ...; undefined for one that is no port of a bridge. */
  readonly bridgePortState: string | undefined;
  /** Counted at this end: rx is what came in, for a vif from the guest. */
  readonly rx: Counters;
  readonly tx: Counters;
}

export interface Counters {
  readonly packets: number;
  readonly dropped: number;
}

/** Of whatever the program prints; only a link that has all of it counts. */
interface IpLink {
  readonly ifname?: unknown;
  readonly flags?: unknown;
  readonly linkinfo?: { readonly info_slave_data?: { readonly state?: unknown } | null } | null;
  readonly stats64?: { readonly rx?: unknown; readonly tx?: unknown } | null;
}

/** By interface name. Empty for anything that is not iproute2's JSON. */
export function parseIpLinks(json: string): Map<string, LinkStatistics> {
  const statistics = new Map<string, LinkStatistics>();
  for (const link of parseJson(json)) {
    const [rx, tx] = [countersOf(link?.stats64?.rx), countersOf(link?.stats64?.tx)];
    if (typeof link?.ifname !== 'string' || rx === undefined || tx === undefined) continue;
    const state = link.linkinfo?.info_slave_data?.state;
    statistics.set(link.ifname, {
      carrier: Array.isArray(link.flags) && link.flags.includes('LOWER_UP'),
      bridgePortState: typeof state === 'string' ? state : undefined,
      rx,
      tx,
    });
  }
  return statistics;
}

function countersOf(value: unknown): Counters | undefined {
  const { packets, dropped } = (value ?? {}) as Partial<Record<keyof Counters, unknown>>;
  return typeof packets === 'number' && typeof dropped === 'number' ? { packets, dropped } : undefined;
}

function parseJson(json: string): (IpLink | null)[] {
  try {
    const links: unknown = JSON.parse(json);
    return Array.isArray(links) ? links : [];
  } catch {
    return [];
  }
}
