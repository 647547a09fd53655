/** What a setting's value may be, and the words for it. Pure. */

export interface Type<T> {
  /** Completes "expected ...". */
  readonly expected: string;
  readonly accepts: (value: unknown) => value is T;
  /** What each one in an array must be; absent: no array is accepted. */
  readonly each?: Type<unknown>;
}

/** With what a setting says of itself. */
export interface Typed<T> {
  readonly type: Type<T>;
  /** Absent: the value has none. */
  readonly unit?: string;
}

export interface Setting<T = unknown> extends Typed<T> {
  /** Undefined: dom0's word counts, or what the kernel has; `example` shows what could be there. */
  readonly default: NoInfer<T> | undefined;
  readonly example?: NoInfer<T>;
  /** One sentence for the sample file and the manual. */
  readonly about: string;
}

type WithDefault<T> = Setting<T> & { readonly default: T };
export const setting = <T>(one: Typed<T> & { default: NoInfer<T>; about: string }): WithDefault<T> => one;
export const optional = <T>(
  one: Typed<T> & { example: NoInfer<T>; about: string },
): Setting<T> & { default: undefined } => ({ ...one, default: undefined });

/** A whole number of some unit. */
export function count(unit: string, min: number, max: number): Typed<number> {
  return { unit, type: wholeNumber(`a whole number of ${unit}`, min, max) };
}

export const number = (min: number, max: number): Typed<number> => ({ type: wholeNumber('a whole number', min, max) });

function wholeNumber(what: string, min: number, max: number): Type<number> {
  return {
    expected: `${what} from ${min} to ${max}`,
    accepts: (value): value is number =>
      typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max,
  };
}

export function oneOf<const T extends string>(...words: T[]): Typed<T> {
  const quoted = words.map((word) => `"${word}"`);
  return {
    type: {
      expected: quoted.length === 1 ? `${quoted[0]}` : `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`,
      accepts: (value): value is T => words.includes(value as T),
    },
  };
}

export const yesOrNo: Typed<boolean> = {
  type: { expected: 'true or false', accepts: (value): value is boolean => typeof value === 'boolean' },
};

/** A string for which `parse` gives a value. */
export function text(expected: string, parse: (value: string) => unknown): Typed<string> {
  return {
    type: {
      expected,
      accepts: (value): value is string => typeof value === 'string' && parse(value) !== undefined,
    },
  };
}

/** One of these, or several. */
export function oneOrMore<T>({ type, unit }: Typed<T>): Typed<T | readonly T[]> {
  return {
    ...(unit !== undefined && { unit }),
    type: {
      expected: `${type.expected}, or an array of such`,
      each: type,
      accepts: (value): value is T | readonly T[] =>
        Array.isArray(value) ? value.length > 0 && value.every(type.accepts) : type.accepts(value),
    },
  };
}
