/**
 * The `vlan` of a vif line (xl-network-configuration(5), Xen 4.20): terms between slashes, each a VLAN, a range `20-29` or a
 * series `100+10x4`; `p` marks the VLAN of untagged packets, `u` those that leave without a tag. Pure.
 */
import type { PortVlans } from '../network/bridge-vlan.js';

/** 0 and 4095 have a meaning of their own (IEEE 802.1Q). */
const VID_MAX = 4094;

/** Undefined for what is no such list, for a VLAN that is named twice, and for two that are marked `p`. */
export function parseVlans(text: string): PortVlans | undefined {
  const untagged = new Map<number, boolean>();
  let pvid: number | undefined;
  const words = text.split('/');
  for (const word of words) {
    const term = parseTerm(word);
    if (term === undefined) return undefined;
    const isPvid = term.mark === 'p' || (words.length === 1 && /^\d+$/.test(word));
    if (isPvid && pvid !== undefined) return undefined;
    if (isPvid) pvid = term.vids[0];
    for (const vid of term.vids) {
      if (vid < 1 || vid > VID_MAX || untagged.has(vid)) return undefined;
      untagged.set(vid, isPvid || term.mark === 'u');
    }
  }
  return { pvid, untagged };
}

export const VLANS_RULE = `VLANs from 1 to ${VID_MAX}, each once and at most one marked p, such as 10, 10p/20-29 or 1p/100+10x4`;

interface Term {
  readonly vids: readonly number[];
  readonly mark: string;
}

function parseTerm(word: string): Term | undefined {
  const [, first = '', last, step, more, mark = ''] =
    /^(\d{1,4})(?:-(\d{1,4})|\+(\d{1,4})x(\d{1,4}))?([pu]?)$/.exec(word) ?? [];
  const from = Number(first);
  if (first === '' || (mark === 'p' && (last ?? step) !== undefined)) return undefined;
  if (last !== undefined) return Number(last) < from ? undefined : { vids: series(from, 1, Number(last) - from), mark };
  if (step === undefined) return { vids: [from], mark };
  return Number(step) === 0 || Number(more) > VID_MAX
    ? undefined
    : { vids: series(from, Number(step), Number(more)), mark };
}

/** `more` further ones. */
const series = (from: number, step: number, more: number): number[] =>
  Array.from({ length: more + 1 }, (_, i) => from + i * step);

/** As parseVlans reads it, neighbours drawn together: `10p/20-29`. */
export function formatVlans({ pvid, untagged }: PortVlans): string {
  const words: string[] = [];
  let run: { from: number; to: number; mark: string } | undefined;
  const end = () => run && words.push(`${run.from}${run.to > run.from ? `-${run.to}` : ''}${run.mark}`);
  for (const [vid, bare] of [...untagged].sort(([a], [b]) => a - b)) {
    const mark = vid === pvid ? 'p' : bare ? 'u' : '';
    if (run !== undefined && run.mark === mark && mark !== 'p' && run.to === vid - 1) run.to = vid;
    else {
      end();
      run = { from: vid, to: vid, mark };
    }
  }
  end();
  const [word = ''] = words; // alone and without a mark it would be the PVID
  return words.length === 1 && /^\d+$/.test(word) ? `${word}-${word}` : words.join('/');
}
