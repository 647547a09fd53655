/** What a run leaves behind, as data that can be compared: without indexes, handles, counters and ages. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CrashWorld } from './crash-world.js';

export interface Seen {
  /** By interface: flags, master, MTU, queue length, addresses, offload. */
  readonly links: Record<string, unknown>;
  readonly routing: unknown;
  readonly rules: string[];
  /** By vif, as `5/0`. */
  readonly nodes: Record<string, Record<string, string | undefined>>;
  /** Of Open vSwitch. */
  readonly ports: string[];
  readonly dhcp: { readonly servers: number; readonly files: Record<string, string[]> };
}

interface IpLink {
  readonly ifname: string;
  readonly flags: string[];
  readonly stats64?: { readonly tx: { readonly carrier_changes: number } };
  readonly addr_info?: { readonly local: string; readonly prefixlen: number }[];
}

const QUESTIONS = [
  'ip -j -d link',
  'ip -j address',
  'ip -j route show table all',
  'ip -j -6 route show table all proto 118',
  'ip -j rule',
  'ip -j neighbour show proxy',
  'nft -j list ruleset',
];

export async function seenOf(world: CrashWorld): Promise<Seen> {
  const offloads = 'for i in $(ls /proc/sys/net/ipv4/conf); do case $i in vif*|wan*) ethtool -k $i;; esac; done';
  const { stdout } = await world.run('sh', ['-c', `${QUESTIONS.join('; echo @@; ')}; echo @@; ${offloads}`]);
  const answers = stdout.split('@@\n').map((text) => text.trim());
  const [links, addresses, ...routing] = answers.slice(0, 6).map((text) => JSON.parse(text || '[]'));
  return {
    links: linksOf(links, addresses, answers[7] ?? ''),
    routing: routing.map(ownRouting),
    rules: rulesOf(answers[6] ?? ''),
    nodes: await nodesOf(world),
    ports: await portsOf(world),
    dhcp: { servers: dnsmasqs(world).length, files: dhcpFiles(world) },
  };
}

const PORT = '--columns=name,tag,trunks,vlan_mode,protected';
const INTERFACE = '--columns=name,external_ids,error,mtu_request';

async function portsOf(world: CrashWorld): Promise<string[]> {
  const text = await world.vsctl('--format=json', '--', PORT, 'list', 'Port', '--', INTERFACE, 'list', 'Interface');
  const tables = text.split('\n').filter((line) => line !== '') as string[];
  return tables
    .flatMap((table) => (JSON.parse(table) as { data: unknown[] }).data.map((row) => JSON.stringify(row)))
    .sort();
}

/** All dnsmasqs of this world. */
export function dnsmasqs({ dir }: CrashWorld): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => textOf(`/proc/${pid}/cmdline`).includes(`--conf-file=${dir}/state/`)).map(Number);
}

/** Who has which address, not until when. That it listens where it should the guest's question shows. */
function dhcpFiles({ dir }: CrashWorld): Record<string, string[]> {
  const read = (name: string) =>
    textOf(join(dir, 'state', `dnsmasq.${name}`))
      .split('\n')
      .sort();
  const leases = read('leases').map((line) => line.split(' ').slice(1).join(' '));
  return { leases, hosts: read('hosts'), options: read('options') };
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // none, or one that has ended meanwhile
  }
}

/** The guests' ends of the vifs are here, too. */
const ownRouting = (entries: { dev?: string }[]): string[] =>
  entries
    .filter(({ dev }) => !/^(guest|wire)/.test(dev ?? ''))
    .map((one) => JSON.stringify(one))
    .sort();

const LINK_FACTS = ['flags', 'mtu', 'master', 'operstate', 'txqlen', 'address', 'inet6_addr_gen_mode', 'linkinfo'];

function linksOf(links: (IpLink & Record<string, unknown>)[], addresses: IpLink[], offloads: string) {
  const seen = links.map((link): [string, unknown] => {
    const { addr_info = [] } = addresses.find(({ ifname }) => ifname === link.ifname) ?? {};
    const own = LINK_FACTS.map((name) => [name, name === 'linkinfo' ? withoutClocks(link[name]) : link[name]]);
    const text = new RegExp(`^Features for ${link.ifname}:\\n((?!Features)[^\\n]*\\n?)*`, 'm').exec(offloads)?.[0];
    const offload = text?.match(/^\S.*-(checksumming|offload): .*$/gm)?.map((line) => line.trim());
    return [
      link.ifname,
      { ...Object.fromEntries(own), offload, addresses: addr_info.map((one) => `${one.local}/${one.prefixlen}`) },
    ];
  });
  return Object.fromEntries(seen.filter(([ifname]) => /^vif|^wan|^eth0|^br0/.test(ifname)).sort());
}

/** Timers and identifiers of bridge and port change by themselves. */
const withoutClocks = (linkinfo: unknown): unknown =>
  JSON.parse(
    JSON.stringify(linkinfo ?? null, (key, value) =>
      /timer|_id$|^(id|no|port_no|designated_port|.*bridge.*)$/i.test(key) ? undefined : value,
    ),
  );

/** Chains and elements that stand for one thing each, in any order; nft's numbers are left out. */
function rulesOf(text: string): string[] {
  const { nftables } = JSON.parse(text || '{"nftables":[]}') as { nftables: Record<string, unknown>[] };
  const bare = (key: string, value: unknown) =>
    key === 'handle' || key === 'packets' || key === 'bytes' ? undefined : value;
  return nftables
    .filter((one) => one.metainfo === undefined)
    .map((one) =>
      JSON.stringify(one, (key, value) =>
        key === 'elem' && Array.isArray(value) ? [...value].sort() : bare(key, value),
      ),
    )
    .sort();
}

const NODES = ['online', 'state', 'hotplug-status', 'hotplug-error'];

export async function nodesOf({ host }: CrashWorld): Promise<Seen['nodes']> {
  const list = (path: string) => host.nicdom.directory(path).catch(() => [] as string[]);
  const nodes: Seen['nodes'] = {};
  for (const domid of (await list('backend/vif')).sort())
    for (const devid of (await list(`backend/vif/${domid}`)).sort()) {
      const values = NODES.map(async (name) => [name, await host.backendNode(Number(domid), Number(devid), name)]);
      nodes[`${domid}/${devid}`] = Object.fromEntries(await Promise.all(values));
    }
  return nodes;
}

/** How often the carrier of each vif has come or gone: what its guest felt. */
export async function carrierChanges(world: CrashWorld, which: RegExp): Promise<Record<string, number>> {
  const { stdout } = await world.run('ip', ['-j', '-s', '-s', 'link']);
  const links = JSON.parse(stdout) as IpLink[];
  const own = links.filter(({ ifname }) => which.test(ifname));
  return Object.fromEntries(own.map(({ ifname, stats64 }) => [ifname, stats64?.tx.carrier_changes ?? Number.NaN]));
}
