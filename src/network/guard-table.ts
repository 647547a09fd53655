/** The nftables table in which guards stand, in nft's words (nft(8)). Pure. */

/** Rules for one interface; the chain's name must change when they do. */
export interface Guard {
  readonly chain: string;
  readonly rules: readonly string[];
}

export interface GuardChange {
  readonly ifname: string;
  /** Undefined: none. */
  readonly guard: Guard | undefined;
}

export const TABLE = 'bridge vifd';

/** What each transaction begins with; all of it may be there already. */
export const HEAD: readonly string[] = [
  `add table ${TABLE}`,
  `add map ${TABLE} guards { type ifname : verdict; }`,
  `add chain ${TABLE} from_vifs { type filter hook prerouting priority filter; policy accept; }`,
  `flush chain ${TABLE} from_vifs`,
  `add rule ${TABLE} from_vifs iifname vmap @guards`,
];

/** What makes one change, and notes it in `chains`. */
export function linesFor({ ifname, guard }: GuardChange, chains: Map<string, string>): string[] {
  const old = chains.get(ifname);
  const lines: string[] = [];
  if (guard !== undefined) {
    const { chain, rules } = guard;
    lines.push(`add chain ${TABLE} ${chain}`, `flush chain ${TABLE} ${chain}`);
    for (const rule of rules) lines.push(`add rule ${TABLE} ${chain} ${rule}`);
  }
  if (old !== undefined) lines.push(`delete element ${TABLE} guards { "${ifname}" : jump ${old} }`);
  if (guard !== undefined) lines.push(`add element ${TABLE} guards { "${ifname}" : jump ${guard.chain} }`);
  if (guard === undefined) chains.delete(ifname);
  else chains.set(ifname, guard.chain);
  return lines;
}
