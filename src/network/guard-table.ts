/** The nftables tables of vifd, in nft's words (nft(8)): in each a map leads from an interface's name to a chain. Pure. */
import { createRequire } from 'node:module';

const load = createRequire(import.meta.url);

/** Rules for one interface; the chain's name must change when they do. */
export interface Guard {
  readonly chain: string;
  readonly rules: readonly string[];
}

/** Loaded when the first guard is made: most agents need none, and node:crypto takes 1.5 MB. */
export function chainName(prefix: string, rules: readonly string[]): string {
  const { createHash } = load('node:crypto') as typeof import('node:crypto');
  return `${prefix}_${createHash('sha256').update(rules.join('\n')).digest('hex').slice(0, 16)}`;
}

export interface GuardChange {
  readonly ifname: string;
  /** Undefined: none. */
  readonly guard: Guard | undefined;
}

/**
 * `bridge`: guards of bridge ports; `inet`: guards of routed vifs; `nat`: what hides guests' addresses; `bound`: what hides
 * those behind bound interfaces.
 */
export type TableName = 'bridge' | 'inet' | 'nat' | 'bound';

export interface TableForm {
  /** Family and name. */
  readonly table: string;
  readonly map: string;
  /** The chain that asks the map, and its hook. */
  readonly asks: string;
  readonly hook: string;
  /** What a vif without its chain cannot be. */
  readonly purpose: 'guarded' | 'masqueraded';
}

// The interface that a packet came in by is known there since Linux 5.7.
const NAT = {
  map: 'masqueraded',
  asks: 'from_vifs',
  hook: 'type nat hook postrouting priority srcnat',
  purpose: 'masqueraded',
} as const;

export const TABLES: Readonly<Record<TableName, TableForm>> = {
  bridge: {
    table: 'bridge vifd',
    map: 'guards',
    asks: 'from_vifs',
    hook: 'type filter hook prerouting priority filter',
    purpose: 'guarded',
  },
  // Before connection tracking: what is forged leaves no trace in it.
  inet: {
    table: 'inet vifd',
    map: 'guards',
    asks: 'from_vifs',
    hook: 'type filter hook prerouting priority raw',
    purpose: 'guarded',
  },
  nat: { table: 'inet vifd_nat', ...NAT },
  bound: { table: 'inet vifd_bind', ...NAT },
};

/** What makes the table as it is to be; any part of it may be there already. */
export const headOf = ({ table, map, asks, hook }: TableForm): readonly string[] => [
  `add table ${table}`,
  `add map ${table} ${map} { type ifname : verdict; }`,
  `add chain ${table} ${asks} { ${hook}; policy accept; }`,
  `flush chain ${table} ${asks}`,
  `add rule ${table} ${asks} iifname vmap @${map}`,
];

/** What makes one change, and notes it in `chains`. Those that are `whole` have their rules already, and are asked. */
export function linesFor(
  { table, map }: TableForm,
  { ifname, guard }: GuardChange,
  chains: Map<string, string>,
  whole: ReadonlySet<string | undefined>,
): string[] {
  const old = chains.get(ifname);
  if (guard !== undefined && guard.chain === old && whole.has(old)) return [];
  const lines: string[] = [];
  if (guard !== undefined && !whole.has(guard.chain)) {
    const { chain, rules } = guard;
    lines.push(`add chain ${table} ${chain}`, `flush chain ${table} ${chain}`);
    for (const rule of rules) lines.push(`add rule ${table} ${chain} ${rule}`);
  }
  if (old !== undefined) lines.push(`delete element ${table} ${map} { "${ifname}" : jump ${old} }`);
  if (guard !== undefined) lines.push(`add element ${table} ${map} { "${ifname}" : jump ${guard.chain} }`);
  if (guard === undefined) chains.delete(ifname);
  else chains.set(ifname, guard.chain);
  return lines;
}
