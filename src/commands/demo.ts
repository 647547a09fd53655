/** `vifd demo`: the main job without Xen. A simulated host, real interfaces in a private namespace, the real agent. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { VifdError } from '../errors.js';
import { Echo, GuestNamespace } from '../simulator/guest-namespace.js';
import { type GuestVif, SimulatedHost } from '../simulator/host.js';
import { vethLinks } from '../simulator/links.js';
import { DemoAgent } from './demo-agent.js';
import { keepDemo, parseVifLines } from './kept-demo.js';

const IN_NAMESPACE = 'VIFD_DEMO_NAMESPACE';

export interface DemoOptions {
  /** Is not over before a signal. */
  readonly keep?: boolean;
  readonly config?: string;
  /** Lines as `bridge=br_lan,mac=00:16:3e:00:00:01`, a vif each. */
  readonly vif?: readonly string[];
}

export async function demo(options: DemoOptions): Promise<void> {
  const vifs = parseVifLines(options.vif ?? []); // before anything is made
  if (process.env[IN_NAMESPACE] === undefined) return startInNamespace();
  await ip('link set lo up');
  await ip('link add br_lan type bridge');
  await ip('addr add 10.0.0.1/24 dev br_lan');
  await ip('link set br_lan up');
  if (options.keep) return keepDemo(vifs, options.config, process.env[IN_NAMESPACE]?.includes('--user') ?? false);
  const story = await Story.begin();
  const interrupted = new Promise<number>((resolve) => {
    process.on('SIGINT', () => resolve(130));
    process.on('SIGTERM', () => resolve(143));
  });
  try {
    const code = await Promise.race([story.tell(), interrupted]);
    if (code !== undefined) setTimeout(() => process.exit(code), 1_000); // whatever act was under way
  } finally {
    await story.end();
  }
}

/** As root in a network namespace, as an ordinary user in a user namespace as well: nothing outside is touched. */
async function startInNamespace(): Promise<void> {
  const flags = process.getuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];
  const probe = spawnSync('unshare', [...flags, 'ip', 'link', 'add', 'probe', 'type', 'bridge'], { encoding: 'utf8' });
  if (probe.status !== 0) {
    const reason = probe.error?.message ?? probe.stderr.trim();
    throw new VifdError(
      'ENAMESPACE',
      `the demo needs a network namespace, the programs unshare and ip (util-linux, iproute2), and bridges in the kernel: ${reason}`,
    );
  }
  const child = spawn('unshare', [...flags, process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, [IN_NAMESPACE]: flags.join(' ') },
  });
  process.on('SIGINT', () => undefined); // a terminal sends it to the child as well, which cleans up
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  const [code] = (await once(child, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
}

const ip = (command: string) => execa('ip', command.split(' '));

/** The account: each act says what dom0 or the admin does, shows what vifd did, and checks it with packets. */
class Story {
  private agent: DemoAgent | undefined;
  private failures = 0;
  private readonly guests = new Map<number, GuestNamespace>();
  private host!: SimulatedHost;
  private readonly startedAt = performance.now();

  static async begin(): Promise<Story> {
    const story = new Story();
    const links = vethLinks({
      guestEnd: (_, { domid }) => ({ netns: story.guests.get(domid)?.pid ?? 1, address: `10.0.0.${domid}/24` }),
    });
    story.host = await SimulatedHost.start({ netback: { links } });
    return story;
  }

  async tell(): Promise<void> {
    this.say(
      'vifd demo: a simulated Xen host (xenstored, dom0, netback, guests) around the real agent, real veth interfaces in a private namespace\n',
    );
    await this.startAgent();
    await this.act('dom0: xl create web    vif=["bridge=br_lan,backend=nicdom"]', () =>
      this.create(5, { bridge: 'br_lan' }),
    );
    await this.expectPing(5);
    await this.act('dom0: xl create db     vif=["bridge=br_dmz,backend=nicdom"]   (there is no br_dmz)', () =>
      this.create(6, { bridge: 'br_dmz' }),
    );
    await this.expectNode(6, 'hotplug-status', 'error');
    await this.act('nicdom: ip link add br_dmz up type bridge', () => ip('link add br_dmz up type bridge'));
    await this.expectNode(6, 'hotplug-status', 'connected');
    await this.act('nicdom: kill -9 vifd, while web is running', async () => this.agent?.kill('SIGKILL'));
    await this.expectPing(5);
    await this.startAgent();
    await this.act('web reboots: its vif comes back under a new domain id', () => this.reboot(5, 7));
    await this.expectPing(7);
    await this.act('dom0: xl network-detach db 0', () => this.detach(6));
    await this.act('dom0: xl destroy web', () => this.destroy(7));
    this.say(this.failures === 0 ? '\nall as it should be' : `\n${this.failures} things were not as they should be`);
    process.exitCode = this.failures === 0 ? 0 : 1;
  }

  async end(): Promise<void> {
    await this.agent?.kill('SIGTERM');
    for (const guest of this.guests.values()) guest.stop();
    await this.host.close();
  }

  private async startAgent(): Promise<void> {
    this.say('nicdom: vifd run');
    this.agent = new DemoAgent(this.host, (line) => this.say(`    vifd: ${line}`));
    await this.agent.ready;
  }

  private async act(title: string, work: () => Promise<unknown>): Promise<void> {
    this.say(`\n${title}`);
    await work();
    await sleep(150); // for the agent's lines to come through the pipe
  }

  private async create(domid: number, vif: GuestVif): Promise<void> {
    this.guests.set(domid, await GuestNamespace.start());
    this.report(await this.host.createGuest(domid, [vif]));
    await this.settled(domid);
    await this.showPort(domid);
  }

  private async reboot(domid: number, newDomid: number): Promise<void> {
    this.guests.set(newDomid, await GuestNamespace.start());
    this.report(await this.host.rebootGuest(domid, newDomid));
    this.guests.get(domid)?.stop();
    await this.settled(newDomid);
  }

  private async detach(domid: number): Promise<void> {
    this.report(await this.host.detachVif(domid, 0));
    await this.expectNode(domid, 'state', undefined);
  }

  private async destroy(domid: number): Promise<void> {
    this.report(await this.host.destroyGuest(domid));
    await this.expectNode(domid, 'state', undefined);
  }

  /** Waits until the vif's status is decided. */
  private async settled(domid: number): Promise<void> {
    for (let i = 0; i < 100 && (await this.host.backendNode(domid, 0, 'hotplug-status')) === ''; i++) await sleep(20);
  }

  private async showPort(domid: number): Promise<void> {
    const { stdout } = await ip(`-j -d link show dev vif${domid}.0`);
    const [link] = JSON.parse(stdout) as { master?: string; txqlen: number; mtu: number; flags: string[] }[];
    this.say(
      `    ip link: vif${domid}.0 master ${link?.master ?? '-'} qlen ${link?.txqlen} mtu ${link?.mtu} ${link?.flags.includes('UP') ? 'UP' : 'DOWN'}`,
    );
  }

  private report({ ok, errors }: { ok: boolean; errors: readonly string[] }): void {
    for (const error of errors) this.say(`    xl: ${error}`);
    if (!ok) this.failures++;
  }

  private async expectNode(domid: number, node: string, expected: string | undefined): Promise<void> {
    let value: string | undefined;
    for (let i = 0; i < 100; i++) {
      value = await this.host.backendNode(domid, 0, node);
      if (value === expected) break;
      await sleep(20);
    }
    const reason =
      value === 'error' ? ` (hotplug-error: ${await this.host.backendNode(domid, 0, 'hotplug-error')})` : '';
    this.check(
      value === expected,
      `xenstore: backend/vif/${domid}/0/${node} = ${value === undefined ? 'gone' : `"${value}"`}${reason}`,
    );
  }

  private async expectPing(domid: number): Promise<void> {
    const ms = await Echo.roundTrip(`10.0.0.${domid}`, 3_000);
    this.check(
      ms !== undefined,
      ms === undefined
        ? `no packet comes back from 10.0.0.${domid}`
        : `a packet to the guest at 10.0.0.${domid} and back: ${ms.toFixed(2)} ms`,
    );
  }

  private check(ok: boolean, text: string): void {
    if (!ok) this.failures++;
    this.say(`    ${ok ? 'ok ' : 'NOT OK'} ${text}`);
  }

  private say(text: string): void {
    const seconds = ((performance.now() - this.startedAt) / 1000).toFixed(2).padStart(6);
    console.log(text.startsWith('\n') ? `\n${seconds}  ${text.slice(1)}` : `${seconds}  ${text}`);
  }
}
