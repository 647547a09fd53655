/** Plain ASCII for terminals of 80 columns, serial consoles among them. Pure. */
import { printable } from './errors.js';

const WIDTH = 80;

/** Rows in columns as wide as their widest cell, two spaces between; no spaces at the ends of lines. */
export function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

/** A terminal's own columns. What a program reads is not broken: grep finds whole sentences. */
export const widthOf = ({ isTTY, columns }: Pick<NodeJS.WriteStream, 'isTTY' | 'columns'>): number =>
  isTTY ? columns || WIDTH : Number.POSITIVE_INFINITY;

/** Lines of at most `width` columns, the first behind `label`, the others as far in. A word that is longer stays whole. */
export function wrap(label: string, text: string, width: number): string[] {
  const lines: string[] = [];
  let line = label;
  let empty = true;
  for (const word of text.split(' ')) {
    if (!empty && line.length + 1 + word.length > width) {
      lines.push(line);
      line = ' '.repeat(label.length);
      empty = true;
    }
    line += empty ? word : ` ${word}`;
    empty = false;
  }
  return [...lines, line];
}

/** JSON that a terminal takes for nothing else: some characters above ASCII begin its commands. */
export function asciiJson(value: unknown): string {
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, escaped);
}

/** Without quotes where it is one plain word, else as printable() has it. */
export const plainWord = (value: string, limit = 16): string =>
  /^[\w.-]+$/.test(value) && value.length <= limit ? value : printable(value, limit);
