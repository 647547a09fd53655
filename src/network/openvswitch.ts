/**
 * EDGE: ports of Open vSwitch, by ovs-vsctl.
 *
 * INVARIANTS
 * - Each change is one transaction of the database, and has ended when ovs-vswitchd has carried it out.
 * - Ports of others are never touched.
 */

import { Child, Children, type Ended, remedyForProgram } from '../child.js';
import { AttachError, hasCode, printable, type VifdError } from '../errors.js';
import { Lanes } from '../lanes.js';
import {
  OVS_MARK,
  type OvsPort,
  type OvsState,
  parseOvsState,
  READ_ARGS,
  removePortArgs,
  setPortArgs,
} from './ovs-port.js';

/** What vifs ask of Open vSwitch. All reject with AttachError. */
export interface OvsSwitch {
  /** As it was a moment ago. */
  read(): Promise<OvsState>;
  /**
   * `anew`: what was there under this name goes first, in a transaction of its own: ovs-vswitchd, told of both at once, keeps
   * the interface that it has opened, which may be gone.
   */
  setPort(ifname: string, port: OvsPort, anew: boolean): Promise<void>;
  /** One that is gone, or not vifd's, is no error and stays. */
  removePort(ifname: string): Promise<void>;
  /** The names of all ports of vifd's. None where there is no Open vSwitch. */
  ownPorts(): Promise<string[]>;
}

const OVS_MAX_S = 5;
/** Many vifs are looked at at once. Below the time after which a connected vif is looked at for an event (SETTLE_MS). */
const READ_AGAIN_MS = 100;
/** ovs-vswitchd takes one after the other anyway. */
const AT_ONCE = 4;

export class OpenVSwitch implements OvsSwitch {
  private state: { readonly promise: Promise<OvsState>; readonly readAt: number } | undefined;
  private readonly own = new Set<string>();
  private knowsOwn = false;
  /** The last change of each port: one after the other, as they were asked for. */
  private readonly last = new Map<string, Promise<void>>();
  private readonly lanes = new Lanes(AT_ONCE);
  constructor(private readonly children = new Children()) {}

  read(): Promise<OvsState> {
    if (this.state !== undefined && performance.now() - this.state.readAt < READ_AGAIN_MS) return this.state.promise;
    const promise = this.run(['--format=json', ...READ_ARGS]).then(parseOvsState);
    const state = { promise, readAt: performance.now() };
    this.state = state;
    promise.catch(() => this.forget(state));
    return promise;
  }

  setPort(ifname: string, port: OvsPort, anew: boolean): Promise<void> {
    return this.inOrder(ifname, async () => {
      if (anew) await this.change(removePortArgs(ifname));
      this.own.add(ifname); // it may be there although the answer says that something went wrong
      await this.change(setPortArgs(ifname, port));
    });
  }

  removePort(ifname: string): Promise<void> {
    return this.inOrder(ifname, async () => {
      const { ports } = await this.read();
      if (ports.get(ifname)?.ids[OVS_MARK] !== undefined) await this.change(removePortArgs(ifname));
      this.own.delete(ifname);
    });
  }

  async ownPorts(): Promise<string[]> {
    if (!this.knowsOwn) await this.readOwn();
    return [...this.own];
  }

  /** It is asked again while it cannot be known: Open vSwitch may not have been started yet. */
  private async readOwn(): Promise<void> {
    try {
      const { ports } = await this.read();
      for (const [name, { ids }] of ports) if (ids[OVS_MARK] !== undefined) this.own.add(name);
      this.knowsOwn = true;
    } catch (error) {
      this.knowsOwn = hasCode(error, 'ENOOVS');
    }
  }

  private async inOrder(ifname: string, work: () => Promise<void>): Promise<void> {
    const before = this.last.get(ifname) ?? Promise.resolve();
    const done = before.catch(() => undefined).then(work);
    this.last.set(ifname, done);
    await done.finally(() => {
      if (this.last.get(ifname) === done) this.last.delete(ifname);
    });
  }

  private change(args: readonly string[]): Promise<void> {
    return this.lanes.run(async () => {
      try {
        await this.run(args);
      } finally {
        this.forget(this.state); // also what was read meanwhile
      }
    });
  }

  private forget(state: typeof this.state): void {
    if (this.state === state) this.state = undefined;
  }

  /** Resolves with what it prints. */
  private async run(args: readonly string[]): Promise<string> {
    const child = new Child('ovs-vsctl', [`--timeout=${OVS_MAX_S}`, ...args]);
    const ended = await this.children.work(child, '', 1000 * (OVS_MAX_S + 1)).catch(cannotAsk);
    const fault = explain(ended);
    if (fault !== undefined) throw fault;
    return ended.out;
  }
}

function cannotAsk(cause: VifdError): never {
  if (cause.code === 'ECANCELED') throw cause;
  const what = `Open vSwitch cannot be asked: ${cause.message}`;
  const remedy = remedyForProgram(cause, 'install openvswitch-switch, or give the vif another script or mode');
  if (cause.code !== 'ENOENT') throw new AttachError('EOVS', what, remedy, { cause }); // it may be there
  throw new AttachError('ENOOVS', what, remedy, { cause });
}

/** It ends well although ovs-vswitchd could not open the interface. */
function explain({ code, signal, isLate, err }: Ended): AttachError | undefined {
  if (isLate || signal === 'SIGALRM')
    // its own limit
    return new AttachError(
      'EOVSTIME',
      `Open vSwitch has not done it within ${OVS_MAX_S} s`,
      'see whether ovs-vswitchd runs: systemctl status ovs-vswitchd',
    );
  if (code === null) return new AttachError('EOVS', 'Open vSwitch has not done it', `ovs-vsctl was ended by ${signal}`);
  const line = (err.split('\n').find((one) => one !== '') ?? '').replace(/^ovs-vsctl: /, '');
  const unusable = /Error detected while setting up '([^']*)'/.test(err);
  if (unusable) return new AttachError('EOVSPORT', 'Open vSwitch cannot use the interface', printable(line, 200));
  if (code === 0) return undefined;
  const [, reason] = /database connection failed \((.*)\)/.exec(err) ?? [];
  if (reason === undefined) return new AttachError('EOVS', 'Open vSwitch has refused it', printable(line, 200));
  return new AttachError(
    'EOVSDB',
    `the database of Open vSwitch cannot be reached (${reason})`,
    reason === 'Permission denied'
      ? 'vifd runs as a user that may not: see "Open vSwitch" in the README'
      : 'start it: systemctl start openvswitch-switch',
  );
}
