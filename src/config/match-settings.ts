/** How a file says which vifs and interfaces are meant, in rules and in bindings. Pure. */
import { parseIfname } from '../vif/backend.js';
import { parseAddressPattern, parsePattern } from '../vif/pattern.js';
import { number, oneOf, oneOrMore, optional, text } from './types.js';

export const ifname = text('an interface name of at most 15 characters', parseIfname);
/** What no MAC address or name can be would match nothing, and nobody would be told. */
const MAC_PATTERN = /^(([0-9a-f]{2}:){5}[0-9a-f]{2}|(?=.*\*)[0-9a-f:*]{1,17})$/i;
export const NAME_PATTERN = /^[^/]+$/;
export const pattern = (what: string, possible: RegExp) =>
  oneOrMore(
    text(`${what}, in which * stands for anything`, (value) =>
      possible.test(value) ? parsePattern(value) : undefined,
    ),
  );

/** Written by dom0, so they say which vif it is. */
export const MATCH = {
  'match.bridge': optional({ ...pattern('a bridge', NAME_PATTERN), example: 'br_dmz', about: 'As dom0 named it.' }),
  'match.mac': optional({ ...pattern('a MAC address', MAC_PATTERN), example: '00:16:3e:aa:*', about: "The guest's." }),
  'match.ip': optional({
    ...oneOrMore(text('an address or prefix', parseAddressPattern)),
    example: '192.0.2.0/24',
    about: 'One that holds an address of the vif.',
  }),
  'match.script': optional({
    ...pattern("a script's name without its directory", NAME_PATTERN),
    example: 'vif-bridge',
    about: 'As dom0 named it.',
  }),
  'match.vifname': optional({
    ...pattern('an interface name of at most 15 characters', NAME_PATTERN),
    example: 'fw-*',
    about: 'As dom0 named it.',
  }),
  'match.type': optional({
    ...oneOf('vif', 'vif_ioemu'),
    example: 'vif',
    about: '"vif_ioemu" has an emulated card beside it.',
  }),
  'match.domid': optional({
    ...oneOrMore(number(0, 32751)),
    example: 5,
    about: 'Another one at every start of a guest.',
  }),
  'match.devid': optional({ ...oneOrMore(number(0, 65535)), example: 0, about: "The guest's first vif is 0." }),
} as const;

/** The same of a binding: `when.vif = { mac = "00:16:3e:*" }`. */
export const WHEN_VIF = Object.fromEntries(
  Object.entries(MATCH).map(([name, one]) => [name.replace('match.', 'when.vif.'), one]),
) as {
  readonly [K in keyof typeof MATCH as K extends `match.${infer N}` ? `when.vif.${N}` : never]: (typeof MATCH)[K];
};
