/** Clients: making them, and reading back what became of their vifs, in xenstore and in the kernel of nicdom or dom0. */
import type { Lab } from './lab.js';

export interface ClientSpec {
  readonly name: string;
  /** Last byte of its address in 10.77.0.0/24, and part of its MACs. */
  readonly number: number;
  readonly vifs?: number;
  readonly bridge?: string;
  /** Tags on eth0 besides its untagged packets; the client has 10.<vid>.0.<number> there and pings 10.<vid>.0.1. */
  readonly vlans?: readonly number[];
  /** Instead of 10.77.0.<number>/24. */
  readonly address?: string;
  /** Further ones on eth0, with their prefix lengths. */
  readonly addresses?: readonly string[];
  /** `<destination>@<gateway>`. */
  readonly routes?: readonly string[];
  /** `<its address>><another>`: tried until there is an answer; see untilReaches. */
  readonly reach?: readonly string[];
  /** So often it tears its frontend down and up, as soon as it pings. */
  readonly flaps?: number;
  /**
   * What else the vif line says, as `script=`; without `backend=` dom0 serves the vif. One for all, or one for each vif.
   * A `+` stands for a space within a value.
   */
  readonly words?: string | readonly string[];
}

/** Where the backend is. */
export type Server = 'nicdom' | 'dom0';
const DOMID_OF = { nicdom: '$(xl domid nicdom)', dom0: '0' } as const;
const FROM_NICDOM = 'backend=nicdom';

/** What xenstore says of one vif; a missing node is undefined. */
export interface StoreVif {
  readonly state?: string;
  readonly 'hotplug-status'?: string;
  readonly 'hotplug-error'?: string;
  readonly online?: string;
  readonly [node: string]: string | undefined;
}

/** What ip says of one interface. */
export interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly master?: string;
  readonly txqlen: number;
  readonly mtu: number;
  readonly address: string;
}

const hex = (n: number) => n.toString(16).padStart(2, '0');

/** As arguments of `xl network-attach`. */
export function vifSpec(number: number, index: number, bridge = 'br0', words = FROM_NICDOM): string {
  return `mac=00:16:3e:77:${hex(number)}:${hex(index)} bridge=${bridge} ${words}`;
}

/** `xl create`; resolves with the domain id. Rejects if xl printed an error. */
export async function createClient(lab: Lab, spec: ClientSpec): Promise<number> {
  await describeClient(lab, spec);
  await xl(lab, `create /guests/${spec.name}.cfg`);
  return domidOf(lab, spec.name);
}

/** The domain's configuration, /guests/NAME.cfg. */
export async function describeClient(
  lab: Lab,
  { name, number, vifs = 1, bridge, words, vlans = [], ...more }: ClientSpec,
): Promise<void> {
  const wordsOf = (i: number) => (typeof words === 'object' ? words[i] : words);
  const list = Array.from({ length: vifs }, (_, i) =>
    vifSpec(number, i, bridge, wordsOf(i)).replaceAll(' ', ',').replaceAll('+', ' '),
  );
  const { address = `10.77.0.${number}/24`, addresses = [], routes = [], reach = [] } = more;
  const lists = { vlans, addresses, routes, reach };
  const asked = Object.entries(lists).map(([what, words]) => `lab_${what}=${words.join(',')}`);
  if (more.flaps) asked.push(`lab_flap=${more.flaps}`);
  await lab.putFile(
    `/guests/${name}.cfg`,
    [
      `name = "${name}"`,
      'type = "pv"',
      'kernel = "/guests/vmlinuz"',
      'ramdisk = "/guests/client.cpio"',
      // 16 netfronts with their buffers do not fit into 96 MB.
      `memory = ${vifs > 4 ? 256 : 96}`,
      'vcpus = 1',
      `extra = "console=hvc0 rdinit=/init quiet lab_ip=${address} ${asked.join(' ')}"`,
      `vif = [ ${list.map((one) => `'${one}'`).join(', ')} ]`,
      '',
    ].join('\n'),
  );
}

export async function domidOf(lab: Lab, name: string): Promise<number> {
  return Number(await lab.must(`xl domid ${name}`));
}

/** An xl command that has to work without a word of complaint. Resolves with milliseconds, by dom0's clock. */
export async function xl(lab: Lab, words: string, timeoutMs = 120_000): Promise<number> {
  const out = await lab.must(
    `a=$(date +%s%N); xl ${words} || exit; echo "took $((($(date +%s%N) - a) / 1000000))"`,
    timeoutMs,
  );
  if (/error/i.test(out)) throw new Error(`xl ${words} complained:\n${out}`);
  return Number(/took (\d+)/.exec(out)?.[1]);
}

/** The vifs of one guest by devid; empty when there is none. */
export async function storeVifs(lab: Lab, domid: number, server: Server = 'nicdom'): Promise<Map<number, StoreVif>> {
  const base = `/local/domain/${DOMID_OF[server]}/backend/vif/${domid}`;
  const { out } = await lab.dom0(`xenstore-ls -f ${base}`);
  const vifs = new Map<number, Record<string, string>>();
  for (const [, devid, node, value] of out.matchAll(
    new RegExp(`^\\S*/vif/${domid}/(\\d+)/([\\w-]+) = "(.*)"$`, 'gm'),
  )) {
    const vif = vifs.get(Number(devid)) ?? {};
    vif[node ?? ''] = value ?? '';
    vifs.set(Number(devid), vif);
  }
  return vifs;
}

/** Waits until the guest has exactly these devids and all are `connected` in state 4. */
export async function untilConnected(
  lab: Lab,
  domid: number,
  devids: readonly number[],
  timeoutMs = 60_000,
  server: Server = 'nicdom',
): Promise<void> {
  await lab.until(
    `vifs ${devids} of domain ${domid} connected`,
    async () => {
      const vifs = await storeVifs(lab, domid, server);
      return vifs.size === devids.length && devids.every((id) => isConnected(vifs.get(id)));
    },
    timeoutMs,
  );
}

export function isConnected(vif: StoreVif | undefined): boolean {
  return vif?.['hotplug-status'] === 'connected' && vif.state === '4';
}

/** No directory, not even an empty one, is left of the guest's vif. */
export async function untilGone(
  lab: Lab,
  domid: number,
  devid: number,
  timeoutMs = 30_000,
  server: Server = 'nicdom',
): Promise<void> {
  const path = `/local/domain/${DOMID_OF[server]}/backend/vif/${domid}/${devid}`;
  await lab.until(`${path} is gone`, async () => (await lab.dom0(`xenstore-exists ${path}`)).code === 1, timeoutMs);
}

/** All interfaces there by name. */
export async function links(lab: Lab, server: Server = 'nicdom'): Promise<Map<string, Link>> {
  const all = JSON.parse(await must(lab, server, 'ip -j link show')) as Link[];
  return new Map(all.map((link) => [link.ifname, link]));
}

/** One line of `ethtool -k`: 'on' or 'off'. */
export async function feature(lab: Lab, ifname: string, name: string, server: Server = 'nicdom'): Promise<string> {
  const out = await must(lab, server, `ethtool -k ${ifname}`);
  return new RegExp(`${name}: (\\S+)`).exec(out)?.[1] ?? `not in: ${out}`;
}

/** A command that has to work, there. Resolves with its output, trimmed. */
export function must(lab: Lab, server: Server, command: string): Promise<string> {
  return server === 'dom0' ? lab.must(command) : lab.mustNicdom(command);
}

/** Waits until the guest's console shows its nth successful start of pings. */
export async function untilPings(lab: Lab, name: string, times = 1, timeoutMs = 90_000): Promise<void> {
  await lab.until(
    `${name} pings 10.77.0.1`,
    async () => (await lab.guestLog(name)).split('LAB ping ok').length > times,
    timeoutMs,
  );
}

/** Whether the guest has got an answer over this pair of its `reach`. */
export async function reaches(lab: Lab, name: string, pair: string): Promise<boolean> {
  return (await lab.guestLog(name)).includes(`LAB reach ${pair} ok`);
}

export async function untilReaches(lab: Lab, name: string, pair: string, timeoutMs = 60_000): Promise<void> {
  await lab.until(`${name} reaches ${pair}`, () => reaches(lab, name, pair), timeoutMs);
}

/** The sequence numbers that came back in the client's running ping, since its last start. */
export async function pingSequence(lab: Lab, name: string): Promise<number[]> {
  const run = (await lab.guestLog(name)).split('LAB ping ok').at(-1) ?? '';
  return [...run.matchAll(/seq=(\d+) /g)].map((match) => Number(match[1]));
}
