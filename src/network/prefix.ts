/** IP addresses and prefixes in text. Pure. */
import { isIP } from 'node:net';

export type Family = 'ipv4' | 'ipv6';

export interface Prefix {
  readonly family: Family;
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

/** In the spelling that every program takes, and without what the prefix does not hold: `10.0.0.0/8` of `10.1.2.3/8`. */
export function formatPrefix({ family, address, length }: Prefix): string {
  const size = family === 'ipv4' ? 32 : 128;
  const rest = BigInt(size - length);
  const masked = (addressBits(address) >> rest) << rest;
  if (family === 'ipv4') return `${dotted(Number(masked))}/${length}`;
  const groups = masked.toString(16).padStart(32, '0').match(/.{4}/g) ?? [];
  return `${groups.map((group) => group.replace(/^0{1,3}/, '')).join(':')}/${length}`;
}

const dotted = (bits: number): string => [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.');

/** In network order: 4 or 16. */
export function addressBytes(address: string): Uint8Array {
  const size = address.includes(':') ? 16 : 4;
  const bits = addressBits(address);
  return Uint8Array.from({ length: size }, (_, i) => Number((bits >> BigInt(8 * (size - 1 - i))) & 0xffn));
}

/** Whether these can be an address of this family. */
export const isAddress = (bytes: Uint8Array, family: Family): boolean => bytes.length === (family === 'ipv4' ? 4 : 16);

/** One spelling for each address. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16),
  );
  const zeros = [...groups.join(':').matchAll(/\b0(?::0)+\b/g)].sort((a, b) => b[0].length - a[0].length)[0];
  if (zeros === undefined) return groups.join(':');
  const text = groups.join(':');
  const head = text.slice(0, zeros.index).replace(/:$/, '');
  const tail = text.slice(zeros.index + zeros[0].length).replace(/^:/, '');
  return `${head}::${tail}`;
}

/** An address as a number. */
export function addressBits(address: string): bigint {
  if (!address.includes(':')) return BigInt(address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0));
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  const [a = 0, b = 0, c = 0, d = 0] = dotted?.slice(2).map(Number) ?? [];
  const plain = dotted ? `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}` : address;
  const [head = '', tail] = plain.split('::');
  const groups = (text: string) => text.split(':').filter((group) => group !== '');
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return [...before, ...zeros, ...after].reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

/** The inverse of addressBits. */
export function addressOf(bits: bigint, family: Family): string {
  const size = family === 'ipv4' ? 4 : 16;
  return addressText(Uint8Array.from({ length: size }, (_, i) => Number((bits >> BigInt(8 * (size - 1 - i))) & 0xffn)));
}

/** Whether the address lies in the prefix. */
export function holds({ family, address, length }: Prefix, other: string): boolean {
  if (other.includes(':') !== (family === 'ipv6')) return false;
  const rest = BigInt((family === 'ipv4' ? 32 : 128) - length);
  return addressBits(address) >> rest === addressBits(other) >> rest;
}

export const isHost = ({ family, length }: Prefix): boolean => length === (family === 'ipv4' ? 32 : 128);

/** The host itself, or the first in a network. */
export const hostIn = (prefix: Prefix): string =>
  isHost(prefix) ? prefix.address : addressOf(addressBits(prefix.address) + 1n, prefix.family);

export const hostPrefix = (address: string): Prefix =>
  address.includes(':') ? { family: 'ipv6', address, length: 128 } : { family: 'ipv4', address, length: 32 };

/** An address with the length of its network is a host; only with no bits behind the prefix it is the network. */
export function routedPrefix(text: string): Prefix | undefined {
  const prefix = parsePrefix(text);
  if (prefix === undefined) return undefined;
  const address = addressOf(addressBits(prefix.address), prefix.family);
  const network = formatPrefix(prefix).split('/')[0] as string;
  const own = addressBits(network) === addressBits(address);
  return { family: prefix.family, address, length: own ? prefix.length : prefix.family === 'ipv4' ? 32 : 128 };
}

/** `192.0.2.7`, `2001:db8::/64`. */
export const shortPrefix = (prefix: Prefix): string =>
  isHost(prefix) ? prefix.address : `${prefix.address}/${prefix.length}`;
