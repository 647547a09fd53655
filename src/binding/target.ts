/** What a binding asks before it acts: `192.168.1.1` is pinged, `tcp 10.0.0.5:2049` connected to, `arp 192.168.1.1` asked for. Pure. */
import { isIP } from 'node:net';
import { parsePrefix } from '../network/prefix.js';

export type Target =
  | { readonly by: 'ping'; readonly address: string }
  /** By ARP or ND, on the binding's interface; needs no right but CAP_NET_ADMIN. */
  | { readonly by: 'arp'; readonly address: string }
  | { readonly by: 'tcp'; readonly address: string; readonly port: number };

export const TARGET_RULE = 'an address to ping, "arp ADDRESS", or "tcp ADDRESS:PORT" with an IPv6 address in brackets';

export function parseTarget(text: string): Target | undefined {
  if (isIP(text) !== 0) return { by: 'ping', address: text };
  const neighbour = /^arp (\S+)$/.exec(text)?.[1] ?? '';
  if (parsePrefix(neighbour) !== undefined && isIP(neighbour) !== 0) return { by: 'arp', address: neighbour };
  const [, bracketed, plain, digits = ''] = /^tcp (?:\[([^\]]+)\]|([^:]+)):([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  const isGood = bracketed === undefined ? isIP(plain ?? '') === 4 : isIP(bracketed) === 6;
  return isGood && port > 0 && port < 65536 ? { by: 'tcp', address: bracketed ?? plain ?? '', port } : undefined;
}
