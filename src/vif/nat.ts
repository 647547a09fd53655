/** The addresses of guests behind those of this domain, and what hides them. Pure. */
import { AttachError } from '../errors.js';
import { chainName, type Guard } from '../network/guard-table.js';
import { addressBits, addressOf, formatPrefix, type Prefix, parsePrefix } from '../network/prefix.js';
import { keyText } from '../xenstore/paths.js';
import type { VifBackend } from './backend.js';

/** A network in which each guest and each of its vifs has a place of its own. */
export function parseNatNetwork(text: string): Prefix | undefined {
  const prefix = parsePrefix(text);
  return prefix !== undefined && prefix.length <= (prefix.family === 'ipv4' ? 16 : 96) ? prefix : undefined;
}

/** The last number of a guest's address; vif-nat's gateway has 127 more. */
const GATEWAY_OFFSET = 127;

/** vif-nat's 10.(domid/256).(domid%256).(handle+1) in 10.0.0.0/8. Throws AttachError for one that does not fit. */
export function natAddress(network: Prefix, { key, handle }: VifBackend): Prefix {
  const bits = network.family === 'ipv4' ? 32 : 128;
  const [shift, most] = network.family === 'ipv4' ? [8n, GATEWAY_OFFSET] : [16n, 0xffff];
  const host = (BigInt(key.domid) << shift) | BigInt(handle + 1);
  if (host >> BigInt(bits - network.length) !== 0n || handle >= most) {
    const text = `${network.address}/${network.length}`;
    throw new AttachError(
      'ENATNETWORK',
      `network ${text} has no address for vif ${keyText(key)}`,
      "give the vif an address by ip=, or set nat_network to a larger one, such as 10.0.0.0/8; it takes a guest's first 127 vifs",
    );
  }
  const base = addressBits(formatPrefix(network).split('/')[0] as string);
  return { family: network.family, address: addressOf(base | host, network.family), length: bits };
}

/** vif-nat's; below the guest's where there is none above. */
export function natGateway(address: string): string {
  const last = Number(address.slice(address.lastIndexOf('.') + 1));
  const gateway = last + GATEWAY_OFFSET > 254 ? last - GATEWAY_OFFSET : last + GATEWAY_OFFSET;
  return `${address.slice(0, address.lastIndexOf('.') + 1)}${gateway}`;
}

/** Only the guest's own addresses: what else it passes on keeps its sender. */
export function masqueradeOf(addresses: readonly Prefix[]): Guard {
  const rules = addresses.map(
    (prefix) => `${prefix.family === 'ipv4' ? 'ip' : 'ip6'} saddr ${formatPrefix(prefix)} masquerade`,
  );
  return { chain: chainName('masquerade', rules), rules };
}
