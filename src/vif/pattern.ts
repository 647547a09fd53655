/** What a rule compares with what dom0 wrote of a vif. Pure. */
import { BlockList } from 'node:net';
import { matchesGlob } from '../glob.js';
import { parsePrefix } from '../network/prefix.js';

/** `fw-*`: letter case counts for nothing, and * stands for any number of characters. */
export function parsePattern(pattern: string): ((text: string) => boolean) | undefined {
  if (!/^[!-~]{1,256}$/.test(pattern)) return undefined;
  const parts = [...lower(pattern)].map((wanted) => (wanted === '*' ? wanted : (unit: string) => unit === wanted));
  return (text) => matchesGlob(parts, lower(text));
}

/** Of ASCII's letters only. */
const lower = (text: string): string => text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());

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
