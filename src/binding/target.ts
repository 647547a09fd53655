/** What a binding asks before it acts: `192.168.1.1` is pinged, `tcp 10.0.0.5:2049` connected to. Pure. */
import { isIP } from 'node:net';

export type Target =
  | { readonly by: 'ping'; readonly address: string }
  | { readonly by: 'tcp'; readonly address: string; readonly port: number };

export const TARGET_RULE = 'an address to ping, or "tcp ADDRESS:PORT" with an IPv6 address in brackets';

export function parseTarget(text: string): Target | undefined {
  if (isIP(text) !== 0) return { by: 'ping', address: text };
  const [, bracketed, plain, digits = ''] = /^tcp (?:\[([^\]]+)\]|([^:]+)):([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  const isGood = bracketed === undefined ? isIP(plain ?? '') === 4 : isIP(bracketed) === 6;
  return isGood && port > 0 && port < 65536 ? { by: 'tcp', address: bracketed ?? plain ?? '', port } : undefined;
}
