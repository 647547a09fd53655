/** Inputs out of other inputs: bytes, dictionary words, netlink attributes and JSON values changed at random. */
import { bytesOf, type Target, textOf } from './target.js';

/** Mulberry32: the same seed gives the same inputs everywhere. */
export class Dice {
  constructor(private state: number) {}
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }
  /** From 0 to `below` - 1. */
  under(below: number): number {
    return below <= 1 ? 0 : this.next() % below;
  }
  of<T>(all: readonly T[]): T {
    return all[this.under(all.length)] as T;
  }
}

export const INPUT_MAX = 64 * 1024;
const USUAL_MAX = 4096;
/** One case in so many is long, to show what takes more time or memory than it has bytes. */
const LONG_EVERY = 1000;

/** What trips readers up, whatever they read. */
const WORDS = [
  ...['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'length', 'null', 'true', 'NaN', '-0', '1e999', '0x10'],
  ...['0', '-1', '00', '1', '65535', '65536', '4294967295', '4294967296', '9007199254740993', '99999999999999999999'],
  ...['\0', '\n', '\r\n', '\t', ' ', '"', "'", '\\', '%s', '*', '\x1b[31m', '\u202e', '\ud83d\ude00', '\ufeff', '\x7f'],
  ...['/', '..', '//', ':', '::', ',', '=', '[', ']', '{', '}', '#', '@', '.', '-', '+', 'x', ';', '$(reboot)'],
].map(bytesOf);
const NUMBERS = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 20, 255, 256, 4095, 4096, 4097, 32767, 65535];
const VALUES: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1.5, 1e308, 2 ** 53, '', 'x', '\n', '\x1b[2J', 'set', 'map', 'uuid', 'connected'],
  ...[[], {}, [[]], [null], { a: null }, ['set', []], ['map', []], ['map', [[1]]], 'y'.repeat(3000)],
];

/** A new input out of one or two of the corpus. */
export function mutate(dice: Dice, corpus: readonly Uint8Array[], { kind, words = [] }: Target): Uint8Array {
  const dictionary = words.length > 0 && dice.under(2) === 0 ? words.map(bytesOf) : WORDS;
  let input = dice.of(corpus);
  for (let left = 1 + dice.under(4); left > 0; left--) input = step(dice, input, dice.of(corpus), dictionary, kind);
  if (dice.under(LONG_EVERY) === 0) return repeated(dice, input, dice.of(dictionary));
  return input.subarray(0, USUAL_MAX);
}

function step(
  dice: Dice,
  input: Uint8Array,
  other: Uint8Array,
  words: readonly Uint8Array[],
  kind: Target['kind'],
): Uint8Array {
  const structural = dice.under(2) === 0;
  if (structural && kind === 'json') return mutateJson(dice, input) ?? mutateBytes(dice, input, other, words);
  if (structural && kind === 'attributes') return mutateAttributes(dice, input);
  return mutateBytes(dice, input, other, words);
}

function mutateBytes(dice: Dice, input: Uint8Array, other: Uint8Array, words: readonly Uint8Array[]): Uint8Array {
  const at = dice.under(input.length + 1);
  const length = 1 + dice.under(Math.min(16, Math.max(1, input.length - at)));
  const piece = input.subarray(at, at + length);
  switch (dice.under(9)) {
    case 0:
      return replaced(input, at, 1, Uint8Array.of((input[at] ?? 0) ^ (1 << dice.under(8))));
    case 1:
      return replaced(input, at, 1, Uint8Array.of(dice.under(256)));
    case 2:
      return replaced(input, at, length, new Uint8Array(0));
    case 3:
      return replaced(input, at, 0, piece);
    case 4:
      return replaced(input, at, 0, dice.of(words));
    case 5:
      return replaced(input, at, length, dice.of(words));
    case 6:
      return replaced(input, at, input.length, other.subarray(dice.under(other.length)));
    case 7:
      return input.subarray(0, at);
    default:
      return replaced(input, at, 4, uint32(dice));
  }
}

const uint32 = (dice: Dice): Uint8Array =>
  new Uint8Array(new Uint32Array([dice.under(3) === 0 ? dice.next() : dice.of(NUMBERS)]).buffer);

function replaced(input: Uint8Array, at: number, length: number, by: Uint8Array): Uint8Array {
  const rest = input.subarray(at + length);
  const whole = new Uint8Array(at + by.length + rest.length);
  whole.set(input.subarray(0, at));
  whole.set(by, at);
  whole.set(rest, at + by.length);
  return whole;
}

/** Headers stand at multiples of 4: length and type of one are changed, or a piece between two is moved. */
function mutateAttributes(dice: Dice, input: Uint8Array): Uint8Array {
  const at = 4 * dice.under(Math.ceil((input.length + 1) / 4));
  const header = new Uint16Array(1);
  header[0] = dice.under(2) === 0 ? dice.of(NUMBERS) : dice.under(64);
  const number = new Uint8Array(header.buffer);
  if (dice.under(3) > 0) return replaced(input, at + 2 * dice.under(2), 2, number);
  const from = 4 * dice.under(Math.ceil((input.length + 1) / 4));
  return replaced(input, at, 4 * dice.under(2), input.subarray(from, from + 4 * (1 + dice.under(8))));
}

/** One value within is replaced, removed, doubled or exchanged for another from within. Undefined: it is no JSON. */
function mutateJson(dice: Dice, input: Uint8Array): Uint8Array | undefined {
  const lines = textOf(input).split('\n');
  const line = dice.under(lines.length);
  try {
    const root: unknown[] = [JSON.parse(lines[line] ?? '')];
    const places = placesIn(root);
    const [holder, key] = dice.of(places);
    const [other, otherKey] = dice.of(places);
    const action = dice.under(5);
    if (action === 0) delete holder[key];
    else if (action === 1) holder[key] = structuredClone(other[otherKey]);
    else if (action === 2) holder[dice.of(['__proto__', 'x', 'constructor', '0'])] = dice.of(VALUES);
    else holder[key] = dice.of(VALUES);
    lines[line] = JSON.stringify(root[0]) ?? '';
    return bytesOf(lines.join('\n'));
  } catch {
    return undefined;
  }
}

type Holder = Record<string, unknown>;

function placesIn(root: unknown, most = 500): [Holder, string][] {
  const places: [Holder, string][] = [];
  const visit = (value: unknown) => {
    if (typeof value !== 'object' || value === null) return;
    for (const key of Object.keys(value)) {
      if (places.length >= most) return;
      places.push([value as Holder, key]);
      visit((value as Holder)[key]);
    }
  };
  visit(root);
  return places;
}

/** A piece, or a word, over and over, between the two ends of the input. */
function repeated(dice: Dice, input: Uint8Array, word: Uint8Array): Uint8Array {
  const at = dice.under(input.length + 1);
  const own = input.subarray(at, at + 1 + dice.under(12));
  const piece = own.length === 0 || dice.under(2) === 0 ? word : own;
  const size = 1 << (10 + dice.under(7));
  const many = new Uint8Array(Math.min(size, INPUT_MAX - Math.min(input.length, USUAL_MAX)));
  for (let i = 0; i < many.length; i++) many[i] = piece[i % piece.length] ?? 0;
  return replaced(input.subarray(0, USUAL_MAX), Math.min(at, USUAL_MAX), 0, many).subarray(0, INPUT_MAX);
}
