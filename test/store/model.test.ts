/**
 * Random operations against a store so naive that it is plainly right: a map of paths. A transaction is judged by what it
 * promises: if it commits, its requests gave what they would have given at that moment, all at once.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SimulatedStore } from '../../src/simulator/store.js';
import { type Packet, Parser, parseErrorName, parseStrings, strings, XS } from '../../src/xenstore/wire.js';

const DOMIDS = [0, 1, 5];
const PATHS = ['/t', '/t/a', '/t/a/b', '/t/a/b/c', '/t/d', '/t/d/e', '/local/domain/1', '/local/domain/1/x', '/none/x'];

type Entry = { value: string; perms: string[] };
type Op = {
  op: 'READ' | 'DIRECTORY' | 'GET_PERMS' | 'MKDIR' | 'RM' | 'WRITE' | 'SET_PERMS';
  path: string;
  args: string[];
};
type Action =
  | { do: 'request'; domid: number; op: Op }
  | {
      do: 'transaction';
      domid: number;
      ops: Op[];
      meanwhile: { at: number; domid: number; op: Op }[];
      commit: boolean;
    };

/** The answer as text: `ok`, the value, the sorted children, or an errno's name. */
class Model {
  constructor(readonly nodes: Map<string, Entry>) {}

  clone(): Model {
    return new Model(new Map([...this.nodes].map(([path, { value, perms }]) => [path, { value, perms: [...perms] }])));
  }

  perform(domid: number, { op, path, args }: Op): string {
    const writes = !['READ', 'DIRECTORY', 'GET_PERMS'].includes(op);
    const node = this.nodes.get(path);
    if (node === undefined) return this.performOnMissing(domid, { op, path, args }, writes);
    if (!may(node, domid, writes ? 'w' : 'r')) return 'EACCES';
    if (op === 'READ') return `=${node.value}`;
    if (op === 'DIRECTORY') return `=${this.children(path).sort().join(',')}`;
    if (op === 'GET_PERMS') return `=${node.perms.join(',')}`;
    if (op === 'WRITE') node.value = args[0] as string;
    if (op === 'RM')
      for (const other of [...this.nodes.keys()]) if (`${other}/`.startsWith(`${path}/`)) this.nodes.delete(other);
    if (op === 'SET_PERMS') return this.setPerms(domid, node, args);
    return 'ok';
  }

  private setPerms(domid: number, node: Entry, perms: string[]): string {
    if (domid !== 0 && ownerOf(node) !== domid) return 'EACCES';
    if (domid !== 0 && Number(perms[0]?.slice(1)) !== domid) return 'EPERM';
    node.perms = perms;
    return 'ok';
  }

  private performOnMissing(domid: number, { op, path, args }: Op, writes: boolean): string {
    let above = parent(path);
    while (!this.nodes.has(above)) above = parent(above);
    if (!may(this.nodes.get(above) as Entry, domid, writes ? 'w' : 'r')) return 'EACCES';
    if (op === 'RM') return this.nodes.has(parent(path)) ? 'ok' : 'ENOENT';
    if (op !== 'WRITE' && op !== 'MKDIR') return 'ENOENT';
    for (const made of missing(path, above)) this.make(made, domid);
    (this.nodes.get(path) as Entry).value = args[0] ?? '';
    return 'ok';
  }

  private make(path: string, domid: number): void {
    const [first = '', ...others] = this.nodes.get(parent(path))?.perms ?? [];
    this.nodes.set(path, { value: '', perms: [domid === 0 ? first : `${first[0]}${domid}`, ...others] });
  }

  private children(path: string): string[] {
    return [...this.nodes.keys()]
      .filter((other) => other !== '/' && parent(other) === path)
      .map((other) => other.slice(other.lastIndexOf('/') + 1));
  }
}

const parent = (path: string) => path.slice(0, path.lastIndexOf('/')) || '/';
const missing = (path: string, above: string): string[] =>
  path === above ? [] : [...missing(parent(path), above), path];
const ownerOf = ({ perms }: Entry) => Number(perms[0]?.slice(1));

function may(node: Entry, domid: number, right: 'r' | 'w'): boolean {
  if (domid === 0 || ownerOf(node) === domid) return true;
  const entry = node.perms.slice(1).find((perm) => Number(perm.slice(1)) === domid) ?? (node.perms[0] as string);
  return entry[0] === right || entry[0] === 'b';
}

/** The store under test, with a connection for each domain. */
class Subject {
  private readonly store = new SimulatedStore();
  private last: Packet | undefined;
  private readonly connections = new Map(
    DOMIDS.map((domid) => {
      const parser = new Parser('store');
      const receive = (bytes: Uint8Array) => {
        for (const packet of parser.push(bytes)) this.last = packet;
      };
      return [domid, this.store.connect(domid, receive)] as const;
    }),
  );

  ask(domid: number, type: number, payload: Uint8Array, txId = 0): Packet {
    this.connections.get(domid)?.handle({ type, reqId: 1, txId, payload });
    return this.last as Packet;
  }

  perform(domid: number, { op, path, args }: Op, txId = 0): string {
    const payload = op === 'WRITE' ? Buffer.from(`${path}\0${args[0]}`) : strings(path, ...args);
    const reply = this.ask(domid, XS[op], payload, txId);
    if (reply.type === XS.ERROR) return parseErrorName(reply.payload);
    if (op === 'READ') return `=${Buffer.from(reply.payload)}`;
    if (op === 'DIRECTORY') return `=${parseStrings(reply.payload).sort().join(',')}`;
    if (op === 'GET_PERMS') return `=${parseStrings(reply.payload).join(',')}`;
    return Buffer.from(reply.payload).toString() === 'OK\0' ? 'ok' : 'not OK';
  }

  /** How many nodes each domain has been counted for. */
  owned(): number[] {
    return DOMIDS.map((domid) => this.store.ownedNodes(domid));
  }

  /** The whole tree, as dom0 sees it. */
  dump(path = '/'): [string, Entry][] {
    const read = (op: Op['op']) => this.perform(0, { op, path, args: [] }).slice(1);
    const names = read('DIRECTORY')
      .split(',')
      .filter((name) => name !== '');
    const entry = { value: read('READ'), perms: read('GET_PERMS').split(',') };
    return [[path, entry], ...names.flatMap((name) => this.dump(path === '/' ? `/${name}` : `${path}/${name}`))];
  }
}

function begin(): { subject: Subject; model: Model } {
  const subject = new Subject();
  for (const op of [
    { op: 'SET_PERMS', path: '/', args: ['r0'] },
    { op: 'WRITE', path: '/t', args: ['top'] },
    { op: 'SET_PERMS', path: '/t', args: ['b0', 'b1', 'r5'] },
    { op: 'MKDIR', path: '/local/domain/1', args: [] },
    { op: 'SET_PERMS', path: '/local/domain/1', args: ['n1', 'r5'] },
  ] as Op[])
    expect(subject.perform(0, op)).toBe('ok');
  return { subject, model: new Model(new Map(subject.dump())) };
}

function runAction(action: Action, subject: Subject, model: Model): void {
  if (action.do === 'request') {
    expect(subject.perform(action.domid, action.op)).toBe(model.perform(action.domid, action.op));
  } else runTransaction(action, subject, model);
}

function runTransaction(action: Action & { do: 'transaction' }, subject: Subject, model: Model): void {
  const { domid, ops, meanwhile, commit } = action;
  const tx = Number(parseStrings(subject.ask(domid, XS.TRANSACTION_START, strings('')).payload)[0]);
  const answers: string[] = [];
  const alone = model.clone();
  let disturbed = false;
  for (const [i, op] of ops.entries()) {
    answers.push(subject.perform(domid, op, tx));
    // As long as nobody else did anything, a transaction sees the store and its own changes.
    if (!disturbed) expect(answers[i]).toBe(alone.perform(domid, op));
    for (const other of meanwhile.filter(({ at }) => at === i)) {
      expect(subject.perform(other.domid, other.op)).toBe(model.perform(other.domid, other.op));
      disturbed = true;
    }
  }
  const end = subject.ask(domid, XS.TRANSACTION_END, strings(commit ? 'T' : 'F'), tx);
  if (end.type === XS.ERROR) {
    expect(parseErrorName(end.payload)).toBe('EAGAIN');
    expect(commit && disturbed).toBe(true);
  } else if (commit) expect(ops.map((op) => model.perform(domid, op))).toEqual(answers);
}

/** What the tree says, and that nobody is counted for more or less than it has. */
function compare(subject: Subject, model: Model): void {
  const dump = subject.dump();
  expect(new Map(dump)).toEqual(model.nodes);
  expect(subject.owned()).toEqual(DOMIDS.map((domid) => dump.filter(([, entry]) => ownerOf(entry) === domid).length));
}

const domid = fc.constantFrom(...DOMIDS);
const perm = fc.tuple(fc.constantFrom('n', 'r', 'w', 'b'), domid).map(([letter, id]) => `${letter}${id}`);
const op: fc.Arbitrary<Op> = fc.constantFrom(...PATHS).chain((path) =>
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc
        .constantFrom('READ' as const, 'DIRECTORY' as const, 'GET_PERMS' as const)
        .map((name) => ({ op: name, path, args: [] as string[] })),
    },
    {
      weight: 3,
      arbitrary: fc.string({ maxLength: 3 }).map((value) => ({ op: 'WRITE' as const, path, args: [value] })),
    },
    { weight: 2, arbitrary: fc.constant({ op: 'MKDIR' as const, path, args: [] as string[] }) },
    { weight: 1, arbitrary: fc.constant({ op: 'RM' as const, path, args: [] as string[] }) },
    {
      weight: 2,
      arbitrary: fc
        .array(perm, { minLength: 1, maxLength: 4 })
        .map((args) => ({ op: 'SET_PERMS' as const, path, args })),
    },
  ),
);
const request = fc.record({ do: fc.constant('request' as const), domid, op });
const transaction = fc.record({
  do: fc.constant('transaction' as const),
  domid,
  ops: fc.array(op, { minLength: 1, maxLength: 5 }),
  meanwhile: fc.array(fc.record({ at: fc.nat(4), domid, op }), { maxLength: 2 }),
  commit: fc.boolean(),
});

describe('random operations', () => {
  test('values, children, permissions, ownership and transactions are those of the model', () => {
    const actions = fc.array(fc.oneof({ weight: 3, arbitrary: request }, { weight: 2, arbitrary: transaction }), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(actions, (list) => {
        const { subject, model } = begin();
        for (const action of list) runAction(action, subject, model);
        compare(subject, model);
      }),
      { numRuns: 500 },
    );
  });
});
