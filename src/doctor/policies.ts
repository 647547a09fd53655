/** Which chains drop what no rule accepts, by the words of nft and iptables. Pure. */
import type { DroppingChain } from './machine.js';

type NftChain = Readonly<Partial<Record<'family' | 'table' | 'name' | 'hook' | 'policy', unknown>>>;

/** The output of `nft -j list chains`. Undefined when it is not that. */
export function parseNftChains(json: string): DroppingChain[] | undefined {
  try {
    const { nftables } = JSON.parse(json) as { nftables: { chain?: NftChain }[] };
    return nftables
      .flatMap(({ chain }) => chain ?? [])
      .filter(({ hook, policy }) => hook === 'forward' && policy === 'drop')
      .map(({ family, table, name }) => ({ family: String(family), table: String(table), chain: String(name) }));
  } catch {
    return undefined;
  }
}

/** The output of `iptables -S FORWARD`: its first line is `-P FORWARD DROP` or `-P FORWARD ACCEPT`. */
export function parseIptablesPolicy(family: 'ip' | 'ip6', text: string): DroppingChain[] {
  return /^-P FORWARD DROP$/m.test(text) ? [{ family, table: 'filter', chain: 'FORWARD' }] : [];
}
