/** EDGE: whether bridged packets meet iptables or nftables. Asks only what is loaded: asking would load it. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { execa } from 'execa';
import type { BridgeFilter, DroppingChain } from './machine.js';
import { parseIptablesPolicy, parseNftChains } from './policies.js';

export async function readBridgeFilter(): Promise<BridgeFilter> {
  const [iptables, ip6tables, answers] = await Promise.all([
    readSwitch('iptables'),
    readSwitch('ip6tables'),
    Promise.all([askNft(), askLegacy('ip', 'iptables'), askLegacy('ip6', 'ip6tables')]),
  ]);
  const dropping = answers.some((answer) => answer === undefined)
    ? undefined
    : answers.flatMap((answer) => answer ?? []);
  return { iptables, ip6tables, dropping };
}

async function readSwitch(what: string): Promise<boolean | undefined> {
  const text = await readText(`/proc/sys/net/bridge/bridge-nf-call-${what}`);
  return text === undefined ? undefined : text.trim() === '1';
}

/** Undefined: nftables is there, and cannot be asked. */
async function askNft(): Promise<DroppingChain[] | undefined> {
  if (!existsSync('/sys/module/nf_tables')) return [];
  const { failed, stdout } = await execa('nft', ['-j', 'list', 'chains'], { reject: false, stdin: 'ignore' });
  return failed ? undefined : parseNftChains(stdout);
}

/** Undefined: there is such a table, and it cannot be asked. */
async function askLegacy(family: 'ip' | 'ip6', program: string): Promise<DroppingChain[] | undefined> {
  const tables = await readFile(`/proc/net/${family}_tables_names`, 'utf8').catch(({ code }) =>
    code === 'ENOENT' ? '' : undefined,
  );
  if (tables === undefined) return undefined; // for root only
  if (!tables.split('\n').includes('filter')) return [];
  for (const name of [`${program}-legacy`, program]) {
    const { failed, stdout } = await execa(name, ['-S', 'FORWARD'], { reject: false, stdin: 'ignore' });
    if (!failed) return parseIptablesPolicy(family, stdout);
  }
  return undefined;
}

const readText = (path: string): Promise<string | undefined> => readFile(path, 'utf8').catch(() => undefined);
