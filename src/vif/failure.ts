/** Turns an error into what people are told. Pure. */
import { AttachError, hasCode, NetlinkError, NodeError, printable, VifdError, XenstoreError } from '../errors.js';

export interface Failure {
  /** Stable word for programs. */
  readonly code: string;
  /** A sentence that the guest may read as well. */
  readonly message: string;
  /** What else the log says: this domain's circumstances, the remedy. Empty when the message says it all. */
  readonly hint: string;
}

export const QUOTA_HINT =
  'the xenstore quota of this driver domain is used up: each vif takes 23 or 24 of the 1000 nodes it may own, so about 40 fit. ' +
  'Raise it in dom0: xenstore-control quota set nodes 10000 (from Xen 4.17 on, at once); for good: xenstored -E 10000, or quota-maxentity in oxenstored.conf';

export const WATCH_QUOTA_HINT =
  'the xenstore watches of this driver domain are used up: netback takes 3 of 128 for each connected vif, and one more while it connects, so 39 fit. ' +
  'Raise it in dom0: xenstore-control quota set watches 1000 (from Xen 4.17 on, at once); for good: xenstored -W 1000, or quota-maxwatch in oxenstored.conf';

/** What the kernel left in the vif's error node, `<errno> <text>` (xenbus_va_dev_error), with the remedy where there is one. */
export function explainKernelError(text: string): string {
  const remedy = isOutOfWatches(text) ? WATCH_QUOTA_HINT : errnoOf(text) === '28' ? QUOTA_HINT : undefined; // ENOSPC
  return `the kernel says: ${printable(text)}${remedy === undefined ? '' : `; ${remedy}`}`;
}

/** E2BIG, which xenstored answers to a watch too many. */
export const isOutOfWatches = (text: string): boolean => errnoOf(text) === '7';

const errnoOf = (text: string): string | undefined => text.split(' ')[0];

export function explainFailure(error: unknown): Failure {
  if (hasCode(error, 'ENOSPC') && !(error instanceof XenstoreError && error.op === 'TRANSACTION_START'))
    return { code: 'EQUOTA', message: 'xenstore has no room for this vif (quota)', hint: QUOTA_HINT };
  if (error instanceof AttachError) return { code: error.code, message: error.message, hint: error.hint };
  if (error instanceof NodeError)
    return {
      code: error.code,
      message: error.message,
      hint: "correct the guest's vif line in dom0 and attach it again",
    };
  if (error instanceof NetlinkError)
    return { code: error.code, message: error.message, hint: 'vifd tries again by itself' };
  if (error instanceof XenstoreError)
    return { code: error.code, message: 'xenstore refused a request', hint: error.message };
  if (error instanceof VifdError) return { code: error.code, message: error.message, hint: '' };
  return {
    code: 'EUNEXPECTED',
    message: 'unexpected error in vifd',
    hint: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}
