/** Netlink attributes (struct nlattr, linux/netlink.h). Pure. All numbers are in the host's byte order. */

export const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** An attribute about to be sent: its type, and a number (u32), a string (NUL is added), raw bytes or nested attributes. */
export type Attribute = readonly [type: number, value: number | string | Uint8Array | readonly Attribute[]];

/** Attributes as received: raw payloads by type; of several with one type the last counts. */
export type AttributeMap = ReadonlyMap<number, Uint8Array>;

const HEADER = 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const utf8 = new TextEncoder();
const utf8Decoder = new TextDecoder();

const align = (length: number): number => (length + 3) & ~3;

/** The attributes one behind another, each padded to 4 bytes. Nested ones carry NLA_F_NESTED, which ethtool and bridge insist on. */
export function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  const parts = attributes.map(([type, value]) => encodeAttribute(type, value));
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + align(part.length), 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += align(part.length);
  }
  return whole;
}

function encodeAttribute(type: number, value: Attribute[1]): Uint8Array {
  const payload = encodeValue(value);
  const nested = Array.isArray(value) ? NLA_F_NESTED : 0;
  const bytes = new Uint8Array(HEADER + payload.length);
  const header = new DataView(bytes.buffer);
  header.setUint16(0, bytes.length, LITTLE_ENDIAN);
  header.setUint16(2, type | nested, LITTLE_ENDIAN);
  bytes.set(payload, HEADER);
  return bytes;
}

function encodeValue(value: Attribute[1]): Uint8Array {
  if (typeof value === 'number') return u32Bytes(value);
  if (typeof value === 'string') return utf8.encode(`${value}\0`);
  if (value instanceof Uint8Array) return value;
  return encodeAttributes(value);
}

/**
 * Goes from attribute to attribute where they lie; ends at the first whose length is impossible. For lists so long that a view
 * of each would cost too much.
 */
export class AttributeWalk {
  /** Of the present one; `start` and `end` are its payload's. */
  type = 0;
  start = 0;
  end = 0;
  private at = 0;
  private limit = 0;
  constructor(private readonly view: DataView) {
    this.limit = view.byteLength;
  }

  /** From here on, those between. */
  within(start: number, end: number): this {
    this.at = start;
    this.limit = end;
    return this;
  }

  next(): boolean {
    const { at, limit, view } = this;
    if (at + HEADER > limit) return false;
    const length = view.getUint16(at, LITTLE_ENDIAN);
    if (length < HEADER || at + length > limit) return false;
    this.type = view.getUint16(at + 2, LITTLE_ENDIAN) & NLA_TYPE_MASK;
    this.start = at + HEADER;
    this.end = at + length;
    this.at = at + align(length);
    return true;
  }

  /** Goes on to the next of this type; false where there is none, or too short a one. */
  find(type: number, length: number): boolean {
    while (this.next()) if (this.type === type) return this.end - this.start >= length;
    return false;
  }
}

/** Whether a message is of use, of which there are many: the payload lies between `start` and `end`. */
export type Keep = (view: DataView, start: number, end: number) => boolean;

export const viewOf = ({ buffer, byteOffset, length }: Uint8Array): DataView =>
  new DataView(buffer, byteOffset, length);

/** Every attribute in order; stops at the first whose length is impossible. */
export function eachAttribute(bytes: Uint8Array, take: (type: number, payload: Uint8Array) => void): void {
  const walk = new AttributeWalk(viewOf(bytes));
  // Not subarray(): where there are many, what that does for a Buffer takes most of the time.
  while (walk.next())
    take(walk.type, new Uint8Array(bytes.buffer, bytes.byteOffset + walk.start, walk.end - walk.start));
}

export function parseAttributes(bytes: Uint8Array): AttributeMap {
  const attributes = new Map<number, Uint8Array>();
  eachAttribute(bytes, (type, payload) => attributes.set(type, payload));
  return attributes;
}

/** A u32 attribute's value, or undefined when it is absent or too short. */
export function attributeU32(attributes: AttributeMap, type: number): number | undefined {
  const bytes = attributes.get(type);
  if (bytes === undefined || bytes.length < 4) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, LITTLE_ENDIAN);
}

/** As attributeU32. */
export function attributeU16(attributes: AttributeMap, type: number): number | undefined {
  const bytes = attributes.get(type);
  if (bytes === undefined || bytes.length < 2) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset, 2).getUint16(0, LITTLE_ENDIAN);
}

/** A string attribute's value without its NUL. */
export function attributeString(attributes: AttributeMap, type: number): string | undefined {
  const bytes = attributes.get(type);
  return bytes === undefined ? undefined : bytesString(bytes);
}

export function bytesString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return utf8Decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

export function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, LITTLE_ENDIAN);
  return bytes;
}
