/** EDGE: what vifd asks of this kernel and tells it for this domain's own network: bridges, and who answers on a link. */
import type { BridgeSettings } from './bridge-settings.js';
import { ignoring, Kernel, type LinkName } from './kernel.js';
import { encodeGetNeighbours, encodeNeighbour, type NeighbourState, parseNeighbour } from './neighbours.js';
import { addressBytes, addressText } from './prefix.js';
import { RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH } from './routes.js';
import {
  encodeGetAddresses,
  encodeNewBridge,
  encodeSetBridge,
  type LinkAddress,
  parseAddress,
  RTM_GETADDR,
  RTM_NEWLINK,
} from './rtnetlink.js';

/** All reject with NetlinkError. */
export class HostKernel extends Kernel {
  /** One of this name that is there is EEXIST. */
  async createBridge(ifname: string, settings: BridgeSettings, address: string | undefined): Promise<void> {
    await this.make('make the bridge', ifname, RTM_NEWLINK, encodeNewBridge(ifname, settings, address));
  }

  async setBridge({ ifindex, ifname }: LinkName, settings: BridgeSettings): Promise<void> {
    const words = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    await this.ask(`set ${words.join(' ')} of`, ifname, RTM_NEWLINK, encodeSetBridge(ifindex, settings), 'ack');
  }

  /** Of all links. */
  async listAllAddresses(): Promise<LinkAddress[]> {
    const answers = await this.ask('list-addresses', '', RTM_GETADDR, encodeGetAddresses(), 'dump');
    return answers.flatMap((answer) => parseAddress(answer) ?? []);
  }

  /** Has the kernel ask for this neighbour anew, whatever it knows. */
  async askNeighbour({ ifindex, ifname }: LinkName, address: string): Promise<void> {
    const payload = encodeNeighbour(ifindex, address);
    await ignoring(this.ask(`forget the neighbour ${address} on`, ifname, RTM_DELNEIGH, payload, 'ack'), 'ENOENT');
    await this.make(`ask for the neighbour ${address} on`, ifname, RTM_NEWNEIGH, payload);
  }

  async getNeighbour({ ifindex }: LinkName, address: string): Promise<NeighbourState> {
    const all = await this.listOf('neighbours', RTM_GETNEIGH, encodeGetNeighbours(address));
    const spelt = addressText(addressBytes(address));
    const found = all.map(parseNeighbour).find((one) => one?.ifindex === ifindex && one.address === spelt);
    return found?.state ?? 'silent';
  }
}
