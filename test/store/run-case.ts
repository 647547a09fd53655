/** Holds a xenstored to one case of cases.ts: one request at a time, whatever the connection is. */
import type { Transport } from '../../src/xenstore/transport.js';
import {
  encodePacket,
  encodeRequest,
  type Packet,
  Parser,
  parseErrorName,
  parseStrings,
  parseWatchEvent,
  XS,
} from '../../src/xenstore/wire.js';
import { type Case, type Daemon, type Reply, SCRATCH, type Step, type Who } from './cases.js';

export interface Subject {
  readonly who: Who;
  readonly daemon: Daemon;
  /** /dev/xen/xenbus, and not a socket. */
  readonly device: boolean;
  readonly domid: number;
  connect(): Promise<Transport>;
  /** How long an event may take, and how long one that must not come is waited for. */
  readonly eventMs: number;
  readonly silenceMs: number;
}

/** A request that nobody answers fails the case after this long; the lab's machines are slow. */
const REPLY_MS = 30_000;
/** An unusual one, so that a reply must really repeat it. */
const FIRST_ID = 0xfffffe00;

export const applies = ({ who, notOnDevice }: Case, subject: Subject): boolean =>
  (who === undefined || who === subject.who) && !(notOnDevice && subject.device);

/** What was wrong, or undefined. Leaves nothing behind in the store. */
export async function runCase(testCase: Case, subject: Subject): Promise<string | undefined> {
  const run = new CaseRun(subject);
  try {
    await run.clean();
    for (const [i, step] of testCase.steps.entries()) await run.step(step, i + 1);
    await run.silence();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  } finally {
    await run.end();
  }
}

class CaseRun {
  private readonly connections = new Map<'main' | 'other' | 'cleaner', Conversation>();
  private readonly transactions = new Map<string, number>();
  private events: string[] = [];
  constructor(private readonly subject: Subject) {}

  async clean(): Promise<void> {
    const cleaner = await this.connection('cleaner');
    await cleaner.ask(XS.RM, bytes(this.expand('$\0')), 0);
  }

  async step(step: Step, number: number): Promise<void> {
    const connection = await this.connection(step.on ?? 'main');
    if (step.on !== undefined) await this.connection('main');
    const type = typeof step.op === 'number' ? step.op : XS[step.op];
    const answer = await connection.ask(type, bytes(this.expand(step.payload)), this.transaction(step.tx));
    const { daemon, device } = this.subject;
    const expected =
      (device ? step.device : undefined) ?? (daemon === 'oxenstored' ? step.oxenstored : undefined) ?? step.reply;
    const problem = this.compare(answer, type, expected);
    if (problem !== undefined)
      throw new Error(`step ${number} ${step.op} ${JSON.stringify(clip(step.payload))}: ${problem}`);
    if (step.as !== undefined && answer !== 'closed')
      this.transactions.set(step.as, Number(parseStrings(answer.payload)[0]));
    const events = (daemon === 'oxenstored' ? step.oxenstoredEvents : undefined) ?? step.events ?? [];
    await this.expectEvents(
      events.map((event) => this.expand(event)),
      `step ${number} ${step.op}`,
    );
  }

  /** What comes too much comes late. */
  async silence(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, this.subject.silenceMs));
    await this.expectEvents([], 'at the end');
  }

  async end(): Promise<void> {
    await this.clean().catch(() => undefined);
    for (const connection of this.connections.values()) await connection.close().catch(() => undefined);
  }

  private async connection(name: 'main' | 'other' | 'cleaner'): Promise<Conversation> {
    const open = this.connections.get(name);
    if (open !== undefined) return open;
    const onEvent = (event: string) => {
      if (name === 'main') this.events.push(event);
    };
    const conversation = new Conversation(await this.subject.connect(), onEvent);
    this.connections.set(name, conversation);
    return conversation;
  }

  private transaction(tx: string | number | undefined): number {
    if (typeof tx !== 'string') return tx ?? 0;
    const id = this.transactions.get(tx);
    if (id === undefined) throw new Error(`the case opens no transaction ${tx}`);
    return id;
  }

  private expand(text: string): string {
    const { who, domid } = this.subject;
    const scratch = SCRATCH[who];
    const absolute = scratch.startsWith('/') ? scratch : `/local/domain/${domid}/${scratch}`;
    return text.replaceAll('$', scratch).replaceAll('^', absolute).replaceAll('%', String(domid));
  }

  private compare(answer: Packet | 'closed', type: number, expected: Reply): string | undefined {
    const seen = describe(answer, type);
    if (expected instanceof RegExp) return expected.test(seen) ? undefined : `${show(seen)} does not match ${expected}`;
    const wanted =
      typeof expected === 'string' ? this.expand(expected) : 'error' in expected ? `ERROR ${expected.error}` : 'CLOSED';
    return seen === wanted ? undefined : `${show(seen)} instead of ${show(wanted)}`;
  }

  private async expectEvents(wanted: readonly string[], when: string): Promise<void> {
    const end = performance.now() + this.subject.eventMs;
    while (this.events.length < wanted.length && performance.now() < end)
      await new Promise((resolve) => setTimeout(resolve, 2));
    const seen = this.events.splice(0);
    if (seen.join('\n') !== wanted.join('\n'))
      throw new Error(`${when}: events ${JSON.stringify(seen)} instead of ${JSON.stringify(wanted)}`);
  }
}

/** One connection, with at most one request on its way. */
class Conversation {
  private readonly parser: Parser;
  private waiting: ((answer: Packet | 'closed') => void) | undefined;
  private nextId = FIRST_ID;
  private gone = false;

  constructor(
    private readonly transport: Transport,
    private readonly onEvent: (event: string) => void,
  ) {
    this.parser = new Parser(transport.peer);
    transport.start(
      (received) => {
        for (const packet of this.parser.push(received)) this.dispatch(packet);
      },
      () => {
        this.gone = true;
        this.settle('closed');
      },
    );
  }

  /** The reply. A write that the device refuses is one too: an ERROR of that name. */
  async ask(type: number, payload: Uint8Array, txId: number): Promise<Packet | 'closed'> {
    if (this.gone) return 'closed';
    const reqId = this.nextId++;
    const answer = new Promise<Packet | 'closed'>((resolve) => {
      this.waiting = resolve;
    });
    this.transport.send(encode({ type, reqId, txId, payload })).catch((error: NodeJS.ErrnoException) => {
      this.settle({ type: XS.ERROR, reqId, txId, payload: bytes(`${error.code}\0`) });
    });
    const reply = await within(REPLY_MS, answer);
    if (reply !== 'closed' && reply.reqId !== reqId)
      throw new Error(`the reply has id ${reply.reqId}, the request ${reqId}`);
    return reply;
  }

  async close(): Promise<void> {
    if (!this.gone) await this.transport.close(encodeRequest({ op: 'READ', path: 'domid' }, this.nextId++));
  }

  private dispatch(packet: Packet): void {
    if (packet.type !== XS.WATCH_EVENT) return this.settle(packet);
    const event = parseWatchEvent(packet.payload);
    this.onEvent(event === undefined ? 'an event that is none' : `${event.path} ${event.token}`);
  }

  private settle(answer: Packet | 'closed'): void {
    this.waiting?.(answer);
    this.waiting = undefined;
  }
}

/** As encodePacket(), for payloads of any size. */
function encode(packet: Packet): Uint8Array {
  const message = Buffer.concat([encodePacket({ ...packet, payload: new Uint8Array(0) }), packet.payload]);
  new Uint32Array(message.buffer, message.byteOffset, 4)[3] = packet.payload.length;
  return message;
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no reply within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The reply as cases.ts writes it. */
function describe(answer: Packet | 'closed', type: number): string {
  if (answer === 'closed') return 'CLOSED';
  if (answer.type === XS.ERROR) return `ERROR ${parseErrorName(answer.payload)}`;
  if (answer.type !== type) return `a reply of type ${answer.type}`;
  return Buffer.from(answer.payload).toString('latin1');
}

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');
const clip = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}...` : text);
const show = (text: string): string => JSON.stringify(clip(text));
