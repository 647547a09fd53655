/** A happening as a line for people, or for programs. Pure. */
import { printable } from '../errors.js';
import { asciiJson } from '../text.js';
import type { Happening, StoreHappening, VifdHappening } from './timeline.js';

/** One line of `--json`, version 1: fields may be added, none is removed or changes its meaning. */
export type MonitorEvent = Happening & {
  readonly version: 1;
  /** ISO 8601; when it came, however long the reading of its value took. */
  readonly time: string;
};

export const formatJson = (event: MonitorEvent): string => asciiJson(event);

/** `12:34:56.789  store   vif5.0  backend  state = 2  InitWait: ...  (+12 ms)`. */
export function formatEvent(event: MonitorEvent): string {
  const words = [event.time.slice(11, 23), event.source.padEnd(6), nameOf(event).padEnd(6), ...said(event)];
  return words
    .filter((word) => word !== '')
    .join('  ')
    .trimEnd();
}

function nameOf(event: MonitorEvent): string {
  const vif = event.domid === undefined ? undefined : `vif${event.domid}.${event.devid}`;
  if (event.source !== 'link' || vif === event.ifname) return vif ?? '-';
  return vif === undefined ? visible(event.ifname) : `${vif} (${visible(event.ifname)})`;
}

function said(event: Happening): string[] {
  switch (event.source) {
    case 'store':
      return saidInStore(event);
    case 'uevent':
      return [visible(event.action), visible(event.meaning)];
    case 'link':
      return [visible(event.meaning)];
    case 'vifd':
      return saidByAgent(event);
    default:
      return event satisfies never;
  }
}

function saidInStore({ side, node, value, meaning, sincePreviousMs }: StoreHappening): string[] {
  const name = node === '' ? '(directory)' : visible(node);
  const assignment = value === null || node === '' ? name : `${name} = ${printable(value)}`;
  const delta = sincePreviousMs === undefined || sincePreviousMs === 0 ? '' : `(+${sincePreviousMs} ms)`;
  return [side.padEnd(8), assignment, meaning, delta];
}

function saidByAgent({ level, meaning, attach }: VifdHappening): string[] {
  const sentence = level === 'info' ? meaning : `${level}: ${meaning}`;
  return [visible(sentence), attach === undefined ? '' : `[attach ${visible(attach, 20)}]`];
}

/** Words that others may have written, on one ASCII line; quotes stay as they are. */
export function visible(text: string, limit = 1000): string {
  const clipped = text.length > limit ? `${text.slice(0, limit)}...` : text;
  return clipped.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
