/**
 * EDGE: the interfaces that the simulated netback registers, in the current network namespace by the `ip` program, or in
 * memory only. They look as xen-netback's do (drivers/net/xen-netback/interface.c, xenvif_alloc): MAC
 * fe:ff:ff:ff:ff:ff, MTU 1500, down.
 */
import { execa } from 'execa';

/** The MAC that xenvif_alloc gives every interface, so that a bridge never takes its own from it. */
export const NETBACK_MAC = 'fe:ff:ff:ff:ff:ff';
/** XENVIF_QUEUE_LENGTH, which netback set before about Linux 4.5. Newer ones leave Ethernet's 1000. */
export const OLD_TXQUEUELEN = 32;

/** What netback knows of an interface that it creates. */
export interface LinkOptions {
  readonly domid: number;
  readonly handle: number;
  /** The guest's MAC, from the backend's node `mac`; undefined when that is missing. */
  readonly mac: string | undefined;
}

/** register_netdev and unregister_netdev. `ifname` stays the name at creation, however the interface is called later. */
export interface LinkFactory {
  /** Rejects when the name is taken. */
  create(ifname: string, options: LinkOptions): Promise<void>;
  remove(ifname: string): Promise<void>;
}

/** Where the guest's end of a veth pair lives. */
export interface GuestEnd {
  /** Its name; `eth0` in a namespace, `guest5.0` beside the others in this one unless told. */
  readonly ifname?: string;
  /** A namespace's name (`ip netns`) or the id of a process in it. Absent: this one. */
  readonly netns?: string | number;
  /** An address with its prefix length, such as 10.0.0.5/24. */
  readonly address?: string;
}

export interface VethOptions {
  readonly txqueuelen?: number;
  /** Asked for each interface. */
  readonly guestEnd?: (ifname: string, options: LinkOptions) => GuestEnd;
}

/** Veth pairs: `vif5.0` here and its other end in the guest's part, set up. The kind for demos and benches: it carries traffic. */
export function vethLinks({ txqueuelen, guestEnd = () => ({}) }: VethOptions = {}): LinkFactory {
  return new IpLinks(async (ifname, options) => {
    const end = guestEnd(ifname, options);
    const peer = end.ifname ?? (end.netns === undefined ? `guest${options.domid}.${options.handle}` : 'eth0');
    const netns = end.netns === undefined ? '' : ` netns ${end.netns}`;
    const address = options.mac === undefined ? '' : ` address ${options.mac}`;
    const index = nextIndex++;
    const add = `link add ${ifname} index ${index} ${properties(txqueuelen)} type veth peer name ${peer}${address}${netns}`;
    if (end.netns === undefined) await ip([add, ...guestEndCommands(peer, end)]);
    else {
      await ip([add]);
      await ip(guestEndCommands(peer, end), end.netns);
    }
    return index;
  });
}

/** Chosen here, as the agent may rename an interface before anybody could ask for its index. Far above the kernel's own. */
let nextIndex = 1_000_000;

/** Tap devices: without a program at the other end they have no carrier, like a vif whose guest has not connected. */
export function tapLinks({ txqueuelen }: { txqueuelen?: number } = {}): LinkFactory {
  return new IpLinks((ifname) =>
    addLink(ifname, [`tuntap add dev ${ifname} mode tap`, `link set dev ${ifname} ${properties(txqueuelen)}`]),
  );
}

/** No interfaces at all: the names only. For tests that need no kernel. */
export class MemoryLinks implements LinkFactory {
  readonly ifnames = new Set<string>();

  async create(ifname: string): Promise<void> {
    if (this.ifnames.has(ifname)) throw new Error(`${ifname}: File exists`);
    this.ifnames.add(ifname);
  }

  async remove(ifname: string): Promise<void> {
    this.ifnames.delete(ifname);
  }
}

/**
 * INVARIANTS
 * - An interface is known by its index: the agent may have renamed it (node `vifname`).
 * - Removing one that somebody else removed is no error.
 */
class IpLinks implements LinkFactory {
  private readonly indexes = new Map<string, number>();
  constructor(private readonly add: (ifname: string, options: LinkOptions) => Promise<number>) {}

  async create(ifname: string, options: LinkOptions): Promise<void> {
    this.indexes.set(ifname, await this.add(ifname, options));
  }

  async remove(ifname: string): Promise<void> {
    const index = this.indexes.get(ifname);
    if (index === undefined) return;
    this.indexes.delete(ifname);
    // iproute2 takes `if<index>` for the name of an interface that is not called that (ll_name_to_index).
    await execa('ip', ['link', 'delete', 'dev', `if${index}`]).catch((error: Error) => {
      if (!/Cannot find device|No such device/.test(error.message)) throw error;
    });
  }
}

const properties = (txqueuelen: number | undefined): string =>
  `address ${NETBACK_MAC} mtu 1500${txqueuelen === undefined ? '' : ` txqueuelen ${txqueuelen}`}`;

/** Runs the commands and asks for the new interface's index, all in one process: it may be renamed right after. */
async function addLink(ifname: string, commands: string[]): Promise<number> {
  const [link] = JSON.parse(await ip([...commands, `link show dev ${ifname}`])) as { ifindex: number }[];
  if (link === undefined) throw new Error(`ip shows no ${ifname}`);
  return link.ifindex;
}

function guestEndCommands(peer: string, { address }: GuestEnd): string[] {
  const up = `link set dev ${peer} up`;
  return address === undefined ? [up] : [up, `address add ${address} dev ${peer}`];
}

/** `ip -batch` in this namespace or another one. Rejects at the first command that fails, with ip's words. */
async function ip(commands: string[], netns?: string | number): Promise<string> {
  const batch = ['-j', '-batch', '-'];
  const [program, args] =
    typeof netns === 'number'
      ? ['nsenter', [`--net=/proc/${netns}/ns/net`, 'ip', ...batch]]
      : ['ip', netns === undefined ? batch : ['-n', netns, ...batch]];
  const { stdout } = await execa(program, args, { input: `${commands.join('\n')}\n` });
  return stdout;
}
