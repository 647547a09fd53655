/** What a fuzz target is: a reader of src/, what it is fed with, and what it promises whatever that is. */
import { isDeepStrictEqual } from 'node:util';
import type fc from 'fast-check';
import { VifdError } from '../../src/errors.js';

export interface Target {
  readonly name: string;
  /** The functions of src/ that it feeds, by file; fuzz.test.ts sees by coverage that they are really run. */
  readonly reads: Readonly<Record<string, readonly string[]>>;
  /** Beyond what holds for all: no exception but a VifdError, no more time than LIMIT_MS. */
  readonly promises: string;
  /** What the input is made of, so that a mutation keeps it nearly right. */
  readonly kind: 'text' | 'json' | 'attributes' | 'bytes';
  readonly seeds: fc.Arbitrary<string | Uint8Array>;
  /** Put in anywhere, beside WORDS. */
  readonly words?: readonly string[];
  /** Cases beside those of another target: fewer where one takes long, fewest with a file, a socket or a process behind it. */
  readonly share?: number;
  readonly run: (input: Uint8Array) => void | Promise<void>;
}

/** What a target's `run` throws where a promise is broken. */
export class Broken extends Error {
  override name = 'Broken';
}

export const textOf = (input: Uint8Array): string =>
  Buffer.from(input.buffer, input.byteOffset, input.length).toString('utf8');
export const bytesOf = (input: string | Uint8Array): Uint8Array =>
  typeof input === 'string' ? Buffer.from(input) : input;

export function promise(holds: boolean, what: string, value?: unknown): void {
  if (!holds) throw new Broken(`${what}${value === undefined ? '' : `: ${JSON.stringify(value)?.slice(0, 500)}`}`);
}

export function same(a: unknown, b: unknown, what: string): void {
  if (!isDeepStrictEqual(a, b)) promise(false, what, [a, b]);
}

/** The longest that a person is told in one go: printable() of 400 characters, each of them escaped, and words around. */
const SENTENCE_MAX = 2600;

/** What operators, guests and terminals are shown: one line, printable ASCII, clipped. */
export function sentence(text: string): void {
  promise(typeof text === 'string', 'a sentence is a string', text);
  promise(/^[\x20-\x7e]*$/.test(text), 'a sentence is one printable line', text);
  promise(text.length <= SENTENCE_MAX, `a sentence has at most ${SENTENCE_MAX} characters`, text.length);
}

/** The result, or the typed error whose message was looked at. Anything else is thrown on. */
export function typed<T>(read: () => T): T | VifdError {
  try {
    return read();
  } catch (error) {
    return expected(error);
  }
}

export async function typedLater<T>(read: () => Promise<T>): Promise<T | VifdError> {
  try {
    return await read();
  } catch (error) {
    return expected(error);
  }
}

function expected(error: unknown): VifdError {
  if (!(error instanceof VifdError)) throw error;
  sentence(error.message);
  if ('hint' in error) sentence(String(error.hint));
  return error;
}
