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

interface IpLink {
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly linkinfo?: { readonly info_slave_data?: { readonly state?: string } };
  readonly stats64?: { readonly rx: Counters; readonly tx: Counters };
}

/** By interface name. Empty for anything that is not iproute2's JSON. */
export function parseIpLinks(json: string): Map<string, LinkStatistics> {
  const statistics = new Map<string, LinkStatistics>();
  for (const { ifname, flags, linkinfo, stats64 } of parseJson(json)) {
    if (stats64 === undefined) continue;
    const { rx, tx } = stats64;
    statistics.set(ifname, {
      carrier: flags.includes('LOWER_UP'),
      bridgePortState: linkinfo?.info_slave_data?.state,
      rx: { packets: rx.packets, dropped: rx.dropped },
      tx: { packets: tx.packets, dropped: tx.dropped },
    });
  }
  return statistics;
}

function parseJson(json: string): IpLink[] {
  try {
    return JSON.parse(json) as IpLink[];
  } catch {
    return [];
  }
}
