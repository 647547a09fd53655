/**
 * dom0 with guests, a driver domain that can be ended and made anew, and an `xl` in a directory for $PATH that does to the
 * simulator's store what xl does.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { Netback } from '../../src/simulator/netback.js';
import { Netfront } from '../../src/simulator/netfront.js';
import { frontendDir, libxlDir, type Vif } from '../../src/simulator/nic.js';
import { SimulatedStore } from '../../src/simulator/store.js';
import { Toolstack, type ToolstackOptions } from '../../src/simulator/toolstack.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { openSocket } from '../../src/xenstore/transport.js';
import { temporaryDirectory } from './support.js';

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What `xl list -l` says of a vif. */
export interface Recorded {
  readonly devid: number;
  readonly backend_domname?: string;
  readonly trusted?: string;
}

/** Answers one xl command. */
type Answer = { code: number; stdout: string; stderr: string };

export class Dom0World {
  readonly calls: string[][] = [];
  readonly recorded = new Map<number, Recorded[]>();
  /** The bridges in the driver domain. */
  readonly bridges = new Set(['br0']);
  private readonly guests = new Map<number, { client: XenstoreClient; netfronts: Map<number, Netfront> }>();
  private readonly letGo = new Map<string, number>();
  /** How long a guest's kernel needs to let go of a vif whose directory has gone (xenbus_dev_remove). */
  letGoMs = 300;
  /** Instead of a $PATH that has the simulated xl in front. */
  path: string | undefined;
  /** The last one that was started. */
  process: ChildProcess | undefined;
  /** Resolves the answer instead of the simulated toolstack; undefined: it does its work. */
  onXl: (argv: readonly string[]) => Answer | undefined = () => undefined;
  private nicdom: { domid: number; end: () => Promise<void> } | undefined;
  private constructor(
    readonly dom0: XenstoreClient,
    readonly toolstack: Toolstack,
    private readonly store: SimulatedStore,
    private readonly directory: string,
  ) {}

  static async start(options: ToolstackOptions = { initTimeoutMs: 500, destroyTimeoutMs: 500 }): Promise<Dom0World> {
    const [store, directory] = [new SimulatedStore(), temporaryDirectory()];
    await store.listen(0, join(directory, '0.sock'));
    const dom0 = new XenstoreClient(await openSocket(join(directory, '0.sock')));
    const toolstack = new Toolstack(dom0, options);
    const world = new Dom0World(dom0, toolstack, store, directory);
    onTestFinished(() => world.close());
    await toolstack.initDom0();
    await world.serveXl();
    return world;
  }

  socketOf(domid: number): string {
    return join(this.directory, `${domid}.sock`);
  }

  /** `xl create nicdom.cfg`: netback, and an agent that knows bridges only by their names. */
  async startNicdom(domid: number, { serving = true, agent = true } = {}): Promise<void> {
    await this.toolstack.createDomain({ domid, name: 'nicdom', driverDomain: true });
    const kernel = await this.connect(domid);
    const netback = await Netback.start(kernel, { links: { create: async () => {}, remove: async () => {} } });
    const own = await this.connect(domid);
    if (agent) await own.watch('backend/vif', ({ path }) => void this.serve(own, path).catch(() => undefined));
    if (serving) await own.write('data/vifd', 'ready');
    const end = async () => {
      await netback.stop();
      await Promise.all([own.close(), kernel.close()]);
      await this.store.unlisten(domid);
    };
    this.nicdom = { domid, end };
  }

  private async serve(own: XenstoreClient, path: string): Promise<void> {
    if (!path.endsWith('/state')) return;
    const dir = path.slice(0, -'/state'.length);
    if ((await own.readOptional(path)) !== '2') return;
    const bridge = await own.read(`${dir}/bridge`);
    const known = this.bridges.has(bridge);
    if (!known) await own.write(`${dir}/hotplug-error`, `bridge "${bridge}" does not exist`);
    await own.write(`${dir}/hotplug-status`, known ? 'connected' : 'error');
  }

  /** `xl destroy nicdom`: its guests keep what points at it. */
  async destroyNicdom(): Promise<void> {
    const { domid, end } = this.nicdom ?? { domid: 0, end: async () => {} };
    this.nicdom = undefined;
    await end();
    await this.toolstack.destroyDomain(domid);
  }

  /** `xl create` of a guest, `guest<domid>`, whose vif lines say backend=nicdom. */
  async startGuest(domid: number, vifs: readonly Partial<Vif>[], { connects = true } = {}): Promise<void> {
    const full = vifs.map((vif, devid) => ({
      domid,
      devid,
      backendDomid: this.nicdom?.domid ?? 0,
      bridge: 'br0',
      ...vif,
    }));
    const { errors } = await this.toolstack.createGuest({ domid, name: `guest${domid}` }, full);
    if (errors.length > 0) throw new Error(errors.join('\n'));
    this.recorded.set(
      domid,
      full.map(({ devid }) => ({ devid, backend_domname: 'nicdom' })),
    );
    this.guests.set(domid, { client: await this.connect(domid), netfronts: new Map() });
    for (const { devid } of full) await this.startNetfront(domid, devid, connects);
  }

  private async startNetfront(domid: number, devid: number, connects = true): Promise<void> {
    const guest = this.guests.get(domid);
    if (guest === undefined) return;
    await guest.netfronts.get(devid)?.stop();
    const netfront = new Netfront(guest.client, devid, { connects });
    guest.netfronts.set(devid, netfront);
    await netfront.start();
  }

  /** Of libxl's copy, without what names the driver domain. */
  async nodes(domid: number, devid: number): Promise<Record<string, string>> {
    const dir = libxlDir({ domid, devid, backendDomid: 0 });
    const names = (await this.dom0.directory(dir)).filter((name) => name !== 'backend').sort();
    return Object.fromEntries(
      await Promise.all(names.map(async (name) => [name, await this.dom0.read(`${dir}/${name}`)])),
    );
  }

  frontendState(domid: number, devid: number): Promise<string | undefined> {
    return this.dom0.readOptional(`${frontendDir({ domid, devid, backendDomid: 0 })}/state`);
  }

  /** `vifd dom0 ...` as a process, with the simulated xl. */
  vifd(...words: string[]): Promise<Ended> {
    return this.vifdAt(0, ...words);
  }

  vifdAt(domid: number, ...words: string[]): Promise<Ended> {
    const env = {
      ...process.env,
      PATH: this.path ?? `${this.directory}${delimiter}${process.env.PATH}`,
      XENSTORED_PATH: this.socketOf(domid),
      VIFD_RUN_DIR: this.directory,
    };
    const child = spawn(process.execPath, ['dist/main.js', 'dom0', ...words], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process = child;
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (bytes) => (stdout += bytes));
    child.stderr.on('data', (bytes) => (stderr += bytes));
    return new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
  }

  async connect(domid: number): Promise<XenstoreClient> {
    await this.store.listen(domid, this.socketOf(domid)).catch((error) => {
      if (error.code !== 'EADDRINUSE') throw error;
    });
    return new XenstoreClient(await openSocket(this.socketOf(domid)));
  }

  private async serveXl(): Promise<void> {
    const socket = join(this.directory, 'xl.sock');
    const server = createServer({ allowHalfOpen: true }, (peer) => {
      let text = '';
      peer.on('data', (bytes) => (text += bytes));
      peer.on('end', async () => {
        const answer = await this.xl(JSON.parse(text) as string[]);
        peer.end(JSON.stringify(answer));
      });
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    onTestFinished(() => void server.close());
    const script = `#!${process.execPath}
const peer = require('node:net').connect(${JSON.stringify(socket)});
let text = '';
peer.on('data', (bytes) => (text += bytes));
peer.on('end', () => {
  const { code, stdout, stderr } = JSON.parse(text);
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  process.exitCode = code;
});
peer.end(JSON.stringify(process.argv.slice(2)));
`;
    writeFileSync(join(this.directory, 'xl'), script);
    chmodSync(join(this.directory, 'xl'), 0o755);
  }

  /** The real thing does the same through libxl. */
  private async xl(argv: string[]): Promise<Answer> {
    this.calls.push(argv);
    const told = this.onXl(argv);
    if (told !== undefined) return told;
    const [command, first = '', ...words] = argv;
    if (command === 'list') return this.list(Number(words[0]));
    const errors =
      command === 'network-detach'
        ? await this.detach(Number(first), Number(words[0]))
        : await this.attach(Number(first), words);
    return { code: errors.length > 0 ? 1 : 0, stdout: '', stderr: errors.map((line) => `${line}\n`).join('') };
  }

  private list(domid: number): Answer {
    const nics = this.recorded.get(domid);
    if (nics === undefined)
      return { code: 1, stdout: '', stderr: `Domain ${domid}:Fail to get domain configuration\n` };
    return { code: 0, stdout: JSON.stringify([{ domid, config: { c_info: {}, nics } }]), stderr: '' };
  }

  private async detach(domid: number, devid: number): Promise<readonly string[]> {
    const backend = await this.dom0.read(`${libxlDir({ domid, devid, backendDomid: 0 })}/backend`);
    const vif = { domid, devid, backendDomid: Number(backend.split('/')[3]) };
    const { errors } = await this.toolstack.detachVif(vif);
    this.letGo.set(`${domid}/${devid}`, performance.now() + this.letGoMs);
    return errors;
  }

  private async attach(domid: number, words: readonly string[]): Promise<readonly string[]> {
    const vif = parseWords(domid, words, this.nicdom?.domid ?? 0);
    const { errors } = await this.toolstack.attachVif(vif);
    // The kernel that is not done with the old one writes 6 into the new one's state, and knows of no other.
    const late = performance.now() < (this.letGo.get(`${domid}/${vif.devid}`) ?? 0);
    if (late) await this.dom0.write(`${frontendDir(vif)}/state`, '6');
    else await this.startNetfront(domid, vif.devid);
    return errors;
  }

  private async close(): Promise<void> {
    for (const { client, netfronts } of this.guests.values()) {
      for (const netfront of netfronts.values()) await netfront.stop();
      await client.close();
    }
    await this.nicdom?.end();
    await this.dom0.close();
    await this.store.close();
  }
}

/** parse_nic_config: only what it knows. */
function parseWords(domid: number, words: readonly string[], nicdom: number): Vif {
  const vif: Record<string, unknown> = { domid, backendDomid: 0 };
  for (const word of words) {
    const [, key = word, value = ''] = /^(\w+)=(.*)$/.exec(word) ?? [];
    if (['mac', 'bridge', 'script', 'vifname', 'ip', 'gatewaydev', 'vlan'].includes(key)) vif[key] = value;
    else if (key === 'devid' || key === 'mtu') vif[key] = Number(value);
    else if (key === 'type') vif.type = value === 'ioemu' ? 'vif_ioemu' : 'vif';
    else if (key === 'untrusted') vif.trusted = false;
    else if (key === 'backend') vif.backendDomid = value === 'nicdom' ? nicdom : Number(value);
    else if (key === 'rate') {
      const [, second = '', usec = ''] = /^(\d+)B\/s@(\d+)us$/.exec(value) ?? [];
      vif.rate = `${(BigInt(second) * BigInt(usec)) / 1_000_000n},${usec}`;
    } else if (key !== 'model') throw new Error(`unrecognized argument \`${word}'`);
  }
  return vif as unknown as Vif;
}
