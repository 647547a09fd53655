/**
 * The one family of errors that an operator can meet. `code` is what programs test; `message` is a sentence that
 * names the value at fault and the remedy.
 */
export class VifdError extends Error {
  override name = 'VifdError';
  constructor(
    readonly code: string,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** A request that xenstored (or the kernel's xenbus device) answered with an error; `code` is the errno's name. */
export class XenstoreError extends VifdError {
  override name = 'XenstoreError';
  constructor(
    code: string,
    readonly op: string,
    readonly path: string,
    { detail = '', cause }: { detail?: string; cause?: unknown } = {},
  ) {
    super(code, `xenstore ${op} ${printable(path)}: ${code}${detail === '' ? '' : ` (${detail})`}`, { cause });
  }
}

/** No connection to xenstore, or it was lost; everything that waited on it is rejected with this. */
export class ConnectionError extends VifdError {
  override name = 'ConnectionError';
  constructor(
    code: string,
    readonly peer: string,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(code, `${peer}: ${message}`, options);
  }
}

/** Bytes that are not the protocol. `offset` counts from the first byte ever received from this peer. */
export class ProtocolError extends VifdError {
  override name = 'ProtocolError';
  constructor(
    readonly peer: string,
    readonly offset: number,
    message: string,
  ) {
    super('EPROTO', `${peer}: ${message} (at byte ${offset})`);
  }
}

/** The kernel refused a netlink request; `code` is the errno's name, `errno` its positive number. */
export class NetlinkError extends VifdError {
  override name = 'NetlinkError';
  constructor(
    code: string,
    readonly op: string,
    readonly ifname: string,
    readonly errno: number,
    options?: { cause?: unknown },
  ) {
    super(code, `the kernel refused to ${op}${ifname === '' ? '' : ` ${ifname}`}: ${code}${meaning(code)}`, options);
  }
}

const STRANGE_GATEWAY =
  'the gateway is in no network that the interface has an address of; correct the gateway, or the length in addresses';

const MEANINGS: Record<string, string> = {
  EPERM: 'vifd needs CAP_NET_ADMIN',
  ENODEV: 'the interface is gone',
  EBUSY: 'busy',
  EEXIST: 'the name is taken',
  EINVAL: 'the device does not accept the value',
  ELOOP: 'it would make a loop of bridges',
  ENOTSUP: 'this kernel or device cannot do it',
  ETIMEDOUT: 'no answer over netlink',
  ENETUNREACH: STRANGE_GATEWAY,
  EHOSTUNREACH: STRANGE_GATEWAY,
};

const meaning = (code: string): string => (MEANINGS[code] === undefined ? '' : ` (${MEANINGS[code]})`);

/** A configuration that cannot be used. `line` counts from 1; 0 when the fault has no place. */
export class ConfigError extends VifdError {
  override name = 'ConfigError';
  constructor(
    readonly file: string,
    readonly line: number,
    readonly key: string,
    /** As JSON; without a key, the whole complaint. */
    readonly value: string,
    readonly expected: string,
  ) {
    const place = line > 0 ? `${file}:${line}` : file;
    const what = key === '' ? value : `${key} is ${value}`;
    super('ECONFIG', `${place}: ${what}; expected ${expected}`);
  }
}

/**
 * A vif cannot be connected as things stand. `message` may be shown to the guest (hotplug-error); `hint` is for the
 * log only: what else there is in this domain, and what to do.
 */
export class AttachError extends VifdError {
  override name = 'AttachError';
  constructor(
    code: string,
    message: string,
    readonly hint: string,
    options?: { cause?: unknown },
  ) {
    super(code, message, options);
  }
}

/** A value dom0 wrote that cannot be accepted. Names the node, its value and what would be accepted. */
export class NodeError extends VifdError {
  override name = 'NodeError';
  constructor(
    readonly node: string,
    readonly value: string | undefined,
    readonly expected: string,
  ) {
    super('EBADNODE', `node "${node}" is ${value === undefined ? 'missing' : printable(value)}; expected ${expected}`);
  }
}

/** True for a VifdError with one of these codes: the only test that code makes on errors. */
export function hasCode(error: unknown, ...codes: string[]): error is VifdError {
  return error instanceof VifdError && codes.includes(error.code);
}

/** A value as one quoted, clipped, ASCII line: values come from other domains and end up on terminals. */
export function printable(value: string, limit = 80): string {
  const clipped = value.length > limit ? `${value.slice(0, limit)}...` : value;
  return JSON.stringify(clipped).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
