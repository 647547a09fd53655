/** Words in which * stands for any number of characters. Pure. */

/** What stands for one character; `*` for as many as there are. */
export type GlobPart = '*' | ((unit: string) => boolean);

/**
 * Whether all of the text is of this kind. In time of at most the product of both lengths, where a regular expression with
 * many `.*` tries every way to divide the text.
 */
export function matchesGlob(parts: readonly GlobPart[], text: string): boolean {
  let [i, at] = [0, 0];
  let [star, resume] = [-1, 0]; // the last * and where what it stands for ends as yet
  while (at < text.length) {
    const part = parts[i];
    if (part === '*') [star, resume] = [i++, at];
    else if (part?.(text[at] as string)) [i, at] = [i + 1, at + 1];
    else if (star < 0) return false;
    else [i, at] = [star + 1, ++resume];
  }
  return parts.slice(i).every((part) => part === '*');
}
