/** The file format of systemd and of NetworkManager, as far as the question goes whether a file is about vifs. Pure. */

export interface Section {
  readonly name: string;
  /** In order; keys may repeat. */
  readonly entries: readonly (readonly [key: string, value: string])[];
}

export function sectionsOf(text: string): Section[] {
  const sections: { name: string; entries: [string, string][] }[] = [];
  for (const line of text.split('\n').map((each) => each.trim())) {
    const header = /^\[(.+)\]$/.exec(line);
    const entry = /^([^#;=+\s][^=]*?)\s*\+?=\s*(.*)$/.exec(line);
    if (header !== null) sections.push({ name: header[1] ?? '', entries: [] });
    else if (entry !== null) sections.at(-1)?.entries.push([entry[1] ?? '', entry[2] ?? '']);
  }
  return sections;
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
  return globs.some((glob) => globPattern(glob).test(name)) !== inverted;
}

function globPattern(glob: string): RegExp {
  const escaped = glob
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  try {
    return new RegExp(`^${escaped}$`);
  } catch {
    return /^$/; // an open bracket
  }
}
