/** What can be asked of a node, inside or outside of a transaction. How it gets to xenstored is the client's matter. */
import { hasCode } from '../errors.js';
import { parseDirectoryPart, parseStrings, type Request } from './wire.js';

const utf8 = new TextEncoder();
const utf8Decoder = new TextDecoder();

/** Sends a request and resolves with the reply's payload; rejects with XenstoreError. */
export type Send = (request: Request) => Promise<Uint8Array>;

/** The operations that work both inside and outside of a transaction. Each rejects with XenstoreError. */
export class StoreOperations {
  constructor(
    protected readonly send: Send,
    private readonly tx: number,
  ) {}

  /** The value as text. ENOENT when the node is missing; an empty node gives ''. */
  async read(path: string): Promise<string> {
    return utf8Decoder.decode(await this.readBytes(path));
  }

  readBytes(path: string): Promise<Uint8Array> {
    return this.send({ op: 'READ', path, tx: this.tx });
  }

  /** Like read(), with undefined for a node that is missing (ENOENT) or that may not be read (EACCES). */
  async readOptional(path: string): Promise<string | undefined> {
    return this.read(path).catch((error) => {
      if (hasCode(error, 'ENOENT', 'EACCES')) return undefined;
      throw error;
    });
  }

  /** The names of the node's children. Falls back to DIRECTORY_PART when they exceed one message. */
  async directory(path: string): Promise<string[]> {
    try {
      return parseStrings(await this.send({ op: 'DIRECTORY', path, tx: this.tx }));
    } catch (error) {
      if (!hasCode(error, 'E2BIG')) throw error;
      return this.directoryInParts(path);
    }
  }

  private async directoryInParts(path: string): Promise<string[]> {
    let children: string[] = [];
    let generation: string | undefined;
    for (let offset = 0; ; ) {
      const part = parseDirectoryPart(await this.send({ op: 'DIRECTORY_PART', path, offset, tx: this.tx }));
      if (generation !== undefined && part.generation !== generation) {
        [children, generation, offset] = [[], undefined, 0]; // changed meanwhile: start over
        continue;
      }
      generation = part.generation;
      children = children.concat(part.children);
      if (part.last) return children;
      offset += part.children.reduce((sum, name) => sum + utf8.encode(name).length + 1, 0);
    }
  }

  /** Creates the node and its missing parents as needed. */
  async write(path: string, value: string | Uint8Array): Promise<void> {
    await this.send({ op: 'WRITE', path, value: typeof value === 'string' ? utf8.encode(value) : value, tx: this.tx });
  }

  async mkdir(path: string): Promise<void> {
    await this.send({ op: 'MKDIR', path, tx: this.tx });
  }

  /** Removes the node and all below it. A missing node is no error where the caller could have seen it. */
  async rm(path: string): Promise<void> {
    await this.send({ op: 'RM', path, tx: this.tx });
  }

  /** Permissions such as `n0`, `r5`; the first names the owner. */
  async getPerms(path: string): Promise<string[]> {
    return parseStrings(await this.send({ op: 'GET_PERMS', path, tx: this.tx }));
  }

  async setPerms(path: string, perms: readonly string[]): Promise<void> {
    await this.send({ op: 'SET_PERMS', path, perms, tx: this.tx });
  }
}
