/** The file format of systemd and of NetworkManager, as far as the question goes whether a file is about vifs. Pure. */

import { type GlobPart, matchesGlob } from '../glob.js';

export interface Section {
  readonly name: string;
  /** In order; keys may repeat. */
  readonly entries: readonly (readonly [key: string, value: string])[];
}

export function sectionsOf(text: string): Section[] {
  const sections: { name: string; entries: [string, string][] }[] = [];
  for (const line of text.split('\n').map((each) => each.trim())) {
    const header = /^\[(.+)\]$/.exec(line);
    const entry = entryOf(line);
    if (header !== null) sections.push({ name: header[1] ?? '', entries: [] });
    else if (entry !== undefined) sections.at(-1)?.entries.push(entry);
  }
  return sections;
}

/** `Name=vif*`; NetworkManager has `+=`, too. A comment is none. */
function entryOf(line: string): [key: string, value: string] | undefined {
  const at = line.indexOf('=');
  if (at < 1 || /^[#;+]/.test(line)) return undefined;
  return [line.slice(0, line[at - 1] === '+' ? at - 1 : at).trimEnd(), line.slice(at + 1).trimStart()];
}

export const valuesOf = (entries: Section['entries'], key: string): string[] =>
  entries.filter(([name]) => name === key).map(([, value]) => value);

/**
 * Whether a .network file's [Match] would take vif5.0 (systemd.network(5)). All keys must match, a vif is of type `ether`;
 * about any other key nothing is known, and it is taken not to match.
 */
export function matchesVif(text: string): boolean {
  const entries = sectionsOf(text)
    .filter(({ name }) => name === 'Match')
    .flatMap((section) => section.entries);
  return entries.length > 0 && entries.every(([key, value]) => matchesKey(key, value.split(/\s+/)));
}

function matchesKey(key: string, words: readonly string[]): boolean {
  if (key === 'Name') return matchesWords(words, 'vif5.0');
  if (key === 'Type') return matchesWords(words, 'ether');
  return key === 'Kind' && words[0]?.startsWith('!') === true; // a vif is of no kind
}

/** A list of globs; `!` in front of the first turns it round. */
function matchesWords([first = '', ...rest]: readonly string[], name: string): boolean {
  const inverted = first.startsWith('!');
  const globs = [inverted ? first.slice(1) : first, ...rest];
  return globs.some((glob) => matchesGlob(partsOf(glob), name)) !== inverted;
}

/** glob(7): `?` is any character, `[a-z]` one of these; a bracket that is not closed stands for itself. */
const partsOf = (glob: string): GlobPart[] =>
  (glob.match(/\*|\?|\[[^\]]*\]|./gs) ?? []).map((token) => {
    if (token === '*') return token;
    if (token === '?') return () => true;
    return token.length === 1 ? (unit) => unit === token : classOf(token);
  });

function classOf(token: string): (unit: string) => boolean {
  try {
    const one = new RegExp(token.replace(/[\\^]/g, '\\$&'));
    return (unit) => one.test(unit);
  } catch {
    return () => false; // such as [z-a]
  }
}
