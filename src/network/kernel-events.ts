/**
 * EDGE: the kernel's uevents of Xen's backends, and every change of every link. By a child, for node-netlink takes its
 * process down when events come faster than they are read: then they are lost, and the child begins anew.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { eachMessage, listen, NETLINK_KOBJECT_UEVENT, NETLINK_ROUTE, NLMSG_DONE } from './netlink.js';
import { encodeGetLink, type Link, parseLink, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK } from './rtnetlink.js';
import { parseUevent, type Uevent } from './uevent.js';

export type KernelSource = 'link' | 'uevent';

export interface KernelListener {
  /** `present`: it was there when the child began to listen. */
  onLink(change: 'present' | 'new' | 'gone', link: Link): void;
  onUevent(event: Uevent): void;
  /** From here on nothing is missed. */
  onListening(source: KernelSource): void;
  /** The reason is a sentence's end: `EPERM`, or how the child ended. */
  onMissing(sources: readonly KernelSource[], why: string): void;
}

const RESTART_MS = 1_000;
/** For the child: what to listen to. */
export const RELAY = 'VIFD_RELAY_KERNEL_EVENTS';

/** `start` is the command that becomes the child; it calls relayKernelEvents() where RELAY is set. */
export class KernelEvents {
  private child: ChildProcess | undefined;
  private restart: NodeJS.Timeout | undefined;
  private stopped = false;
  private readonly listening = new Set<KernelSource>();
  constructor(
    private readonly sources: readonly KernelSource[],
    private readonly command: readonly [string, ...string[]],
    private readonly listener: KernelListener,
  ) {}

  start(): void {
    const [program, ...args] = this.command;
    const env = { ...process.env, [RELAY]: this.sources.join() };
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'], env });
    this.child = child;
    this.listening.clear();
    let failure: string | undefined;
    child.on('error', (error) => {
      failure = error.message;
    });
    child.stdin?.on('error', () => undefined); // it has ended; 'close' says so
    createInterface({ input: child.stdout }).on('line', (line) => this.onLine(line.split(' ')));
    child.once('close', (code, signal) => this.ended(failure ?? whyEnded(code, signal)));
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.restart);
    this.child?.stdin?.end();
  }

  private onLine([word, what = '', base64 = '']: string[]): void {
    if (this.stopped) return;
    if (word === 'failed') return this.listener.onMissing([what as KernelSource], base64);
    if (word === 'listening') {
      this.listening.add(what as KernelSource);
      return this.listener.onListening(what as KernelSource);
    }
    const bytes = Buffer.from(base64, 'base64');
    if (word === 'uevent') return this.onUevent(parseUevent(bytes));
    this.onLink(Number(what), parseLink(bytes));
  }

  private onUevent(event: Uevent | undefined): void {
    if (event !== undefined) this.listener.onUevent(event);
  }

  private onLink(type: number, link: Link | undefined): void {
    if (link === undefined) return;
    const change = type === RTM_DELLINK ? 'gone' : this.listening.has('link') ? 'new' : 'present';
    this.listener.onLink(change, link);
  }

  private ended(why: string): void {
    if (this.stopped) return;
    this.listener.onMissing(this.sources, why);
    this.restart = setTimeout(() => this.start(), RESTART_MS);
  }
}

const whyEnded = (code: number | null, signal: string | null): string =>
  signal === 'SIGABRT' ? 'they came faster than they could be read' : `their reader ended: ${signal ?? `code ${code}`}`;

/** The child: a line for each event, until the parent is gone. */
export function relayKernelEvents(sources: string): void {
  process.stdin.resume().on('end', () => process.exit());
  process.on('SIGINT', () => undefined); // a terminal sends it to the child as well
  const failed = (source: KernelSource) => (code: string) => say('failed', source, code);
  const uevents = { onBytes: relayUevent, onError: failed('uevent') };
  if (sources.includes('uevent') && listen(NETLINK_KOBJECT_UEVENT, uevents)) say('listening', 'uevent');
  const list = { op: 'list-links', ifname: '', type: RTM_GETLINK, payload: encodeGetLink(), expect: 'dump' } as const;
  if (sources.includes('link')) listen(NETLINK_ROUTE, { onBytes: relayLinks, onError: failed('link') }, list);
}

function relayUevent(bytes: Uint8Array): void {
  if (Buffer.from(bytes).includes('\0SUBSYSTEM=xen-backend\0')) say('uevent', '-', base64(bytes));
}

function relayLinks(bytes: Uint8Array): void {
  for (const { type, payload } of eachMessage(bytes)) {
    if (type === NLMSG_DONE) say('listening', 'link');
    const isLink = type === RTM_NEWLINK || type === RTM_DELLINK;
    // A family but AF_UNSPEC speaks of a port: a bridge's RTM_DELLINK is one that has left it.
    if (isLink && payload[0] === 0) say('link', String(type), base64(payload));
  }
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const say = (...words: string[]): void => console.log(words.join(' '));
