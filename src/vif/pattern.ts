/** What a rule compares with what dom0 wrote of a vif. Pure. */
import { BlockList, isIP } from 'node:net';

/** `fw-*`: letter case counts for nothing, and * stands for any number of characters. */
export function parsePattern(pattern: string): ((text: string) => boolean) | undefined {
  if (!/^[!-~]{1,256}$/.test(pattern)) return undefined;
  const parts = pattern.split(/\*+/).map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'));
  const expression = new RegExp(`^${parts.join('.*')}$`, 'is');
  return (text) => expression.test(text);
}

/** Whether an address or prefix lies in this address or prefix. */
export function parseAddressPattern(pattern: string): ((text: string) => boolean) | undefined {
  const outer = parsePrefix(pattern);
  if (outer === undefined) return undefined;
  const list = new BlockList();
  list.addSubnet(outer.address, outer.length, outer.family);
  return (text) => {
    const inner = parsePrefix(text);
    if (inner === undefined || inner.family !== outer.family) return false;
    return inner.length >= outer.length && list.check(inner.address, inner.family);
  };
}

interface Prefix {
  readonly family: 'ipv4' | 'ipv6';
  readonly address: string;
  readonly length: number;
}

/** A bare address is a prefix of its whole length. */
export function parsePrefix(text: string): Prefix | undefined {
  const [, address = '', digits] = /^([0-9a-f.:]+)(?:\/([0-9]{1,3}))?$/i.exec(text) ?? [];
  const version = isIP(address);
  if (version === 0) return undefined;
  const bits = version === 4 ? 32 : 128;
  const length = digits === undefined ? bits : Number(digits);
  return length > bits ? undefined : { family: version === 4 ? 'ipv4' : 'ipv6', address, length };
}
