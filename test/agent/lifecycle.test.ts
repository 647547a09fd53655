/** The life of a vif, with the real `vifd run`, real interfaces, and a simulated Xen around them. */
import { execaSync } from 'execa';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type HostOptions, NICDOM, SimulatedHost } from '../../src/simulator/host.js';
import { vethLinks } from '../../src/simulator/links.js';
import { clearLinks, ip, showAddresses, showLink } from '../netns/namespace.js';
import { AgentProcess, eventually } from './agent-process.js';

let host: SimulatedHost;
let agent: AgentProcess;
const status = (domid: number, devid = 0) => host.backendNode(domid, devid, 'hotplug-status');
const connected = (domid: number, devid = 0) =>
  eventually(
    async () => (await status(domid, devid)) === 'connected',
    5_000,
    () => agent.log.map(({ msg }) => msg).join('\n'),
  );
const txChecksum = (ifname: string) => /tx-checksumming: (\w+)/.exec(execaSync('ethtool', ['-k', ifname]).stdout)?.[1];
const haveEthtool = !execaSync('ethtool', ['--version'], { reject: false }).failed;

async function start(options: Partial<HostOptions> = {}): Promise<void> {
  host = await SimulatedHost.start({ netback: { links: vethLinks({ txqueuelen: 32 }) }, ...options });
  agent = await AgentProcess.ready(host.socketOf(NICDOM));
}

beforeEach(() => {
  clearLinks();
  ip('link', 'add', 'br0', 'type', 'bridge');
  ip('link', 'set', 'br0', 'up');
});
afterEach(async () => {
  await agent.kill('SIGTERM');
  await host.close();
  expect(agent.stderr).toBe('');
});

describe('attach', () => {
  test('a guest is connected: port of its bridge, qlen 1000, tx off, no address, up, and `connected` last', async () => {
    await start();
    expect(await host.createGuest(5, [{ bridge: 'br0' }])).toMatchObject({ ok: true });
    await connected(5);
    const link = showLink('vif5.0');
    expect(link).toMatchObject({
      master: 'br0',
      txqlen: 1000,
      mtu: 1500,
      address: 'fe:ff:ff:ff:ff:ff',
      inet6_addr_gen_mode: 'none',
    });
    expect(link?.flags).toContain('UP');
    expect(showAddresses('vif5.0')).toEqual([]);
    if (haveEthtool) expect(txChecksum('vif5.0')).toBe('off');
    await eventually(async () => (await host.backendNode(5, 0, 'state')) === '4');
    const line = await agent.saw(({ msg }) => msg.startsWith('connected'));
    expect(line).toMatchObject({ level: 'info', domid: 5, devid: 0, ifname: 'vif5.0', bridge: 'br0' });
  });
});
