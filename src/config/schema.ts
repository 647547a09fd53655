/**
 * Every setting there is: its type, unit, default and meaning. The one source of the typed Config, of validation, of
 * `vifd config show` and of the sample file. Pure.
 */

/** What a setting may hold. */
export interface Type<T> {
  /** Completes "expected ...". */
  readonly expected: string;
  readonly accepts: (value: unknown) => value is T;
}

export interface Setting<T = unknown> {
  readonly type: Type<T>;
  /** Absent: the value has none. */
  readonly unit?: string;
  readonly default: NoInfer<T>;
  /** One sentence for the sample file and the manual. */
  readonly about: string;
}

export interface Table {
  readonly about: string;
  readonly settings: Readonly<Record<string, Setting>>;
}

/** A whole number of some unit. */
function count(unit: string, min: number, max: number): { type: Type<number>; unit: string } {
  return {
    unit,
    type: {
      expected: `a whole number of ${unit} from ${min} to ${max}`,
      accepts: (value): value is number =>
        typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max,
    },
  };
}

function oneOf<const T extends string>(...words: T[]): { type: Type<T> } {
  return {
    type: {
      expected: words.map((word) => `"${word}"`).join(' or '),
      accepts: (value): value is T => words.includes(value as T),
    },
  };
}

const setting = <T>(one: Setting<T>): Setting<T> => one;

export const TABLES = {
  vif: {
    about: 'Every vif. A change is brought to those that are connected, too.',
    settings: {
      qlen: setting({
        ...count('packets', 1, 1_000_000),
        default: 1000,
        about: 'Transmit queue length of the host end of the vif.',
      }),
      tx_checksum: setting({
        ...oneOf('off', 'keep'),
        default: 'off',
        about:
          'Checksum offload towards the guest: "off" clears it, as pf firewalls (OPNsense, pfSense) need;\n"keep" leaves it as it is, so what was cleared stays so until the vif is plugged again.',
      }),
    },
  },
} as const satisfies Record<string, Table>;

/** TOML says tx_checksum where the code says txChecksum. */
type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : S;
type Values<S> = { readonly [K in keyof S & string as Camel<K>]: S[K] extends Setting<infer T> ? T : never };

/** What the agent works by; all of it is checked. */
export type Config = { readonly [T in keyof typeof TABLES]: Values<(typeof TABLES)[T]['settings']> };

/** A setting with its full name, as a dotted key in TOML: `vif.qlen`. */
export interface NamedSetting extends Setting {
  readonly key: string;
  readonly table: string;
  readonly name: string;
}

export const SETTINGS: readonly NamedSetting[] = Object.entries<Table>(TABLES).flatMap(([table, { settings }]) =>
  Object.entries(settings).map(([name, one]) => ({ ...one, key: `${table}.${name}`, table, name })),
);

/** The configuration that these values, by key, make of the defaults. They must have been checked. */
export function configOf(values: ReadonlyMap<string, unknown>): Config {
  const config: Record<string, Record<string, unknown>> = {};
  for (const { key, table, name, default: value } of SETTINGS) {
    config[table] ??= {};
    config[table][camel(name)] = values.has(key) ? values.get(key) : value;
  }
  return config as Config;
}

const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** Without any file: 1000 packets, and no checksum offload. */
export const DEFAULTS: Config = configOf(new Map());
