/**
 * What vif scripts ask and are told, one line each: scripts/vif-vifd speaks it with `vifd run` over FIFOs and reads it from
 * the output of `vifd vif-script`. Pure.
 */
import type { ScriptAnswer, ScriptCommand, ScriptTask } from '../vif/script-answer.js';
import { parseDevid, parseDomid } from '../xenstore/paths.js';

export interface ScriptRequest extends ScriptTask {
  /** The script's process id; the reply goes to the FIFO `reply.<pid>`. */
  readonly pid: number;
}

/** `online 5/0 4711`; undefined for anything else: the FIFO is root's, but a line may be cut off. */
export function parseRequest(line: string): ScriptRequest | undefined {
  const [, command, domidText = '', devidText = '', pid] =
    /^(online|offline) ([0-9]{1,6})\/([0-9]{1,6}) ([1-9][0-9]{0,9})$/.exec(line) ?? [];
  const [domid, devid] = [parseDomid(domidText), parseDevid(devidText)];
  if (domid === undefined || devid === undefined) return undefined;
  return { command: command as ScriptCommand, key: { domid, devid }, pid: Number(pid) };
}

/** Without the newline. A dash stands for what is not known. */
export function formatAnswer(answer: ScriptAnswer): string {
  switch (answer.is) {
    case 'done': {
      const { ifname = '-', bridge = '-', ip = [] } = answer.place ?? {};
      return ['done', ifname, bridge, ...ip].join(' ');
    }
    case 'failed':
      return `failed ${answer.sentence}`;
    case 'unavailable':
      return 'unavailable';
    default:
      return answer satisfies never;
  }
}
