/** Ports of a real Open vSwitch: what of a guest's frames comes out at its neighbours, and what the database has. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import { Kernel } from '../../src/network/kernel.js';
import { attach } from '../../src/vif/attach.js';
import { AttachQueue } from '../../src/vif/attach-queue.js';
import { describeStep } from '../../src/vif/plan.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { eventually } from '../agent/agent-process.js';
import { backend } from '../unit/vif-seen.js';
import { ethernet, hear, send, tagged } from './frames.js';
import { addVif, clearLinks, ip, showLink } from './namespace.js';
import { noOvs, OvsDaemons, vsctl } from './ovs-daemons.js';

let ovs: OvsDaemons;
let kernel: Kernel;

const MAC = ['00:16:3e:00:00:01', '00:16:3e:00:00:02'];
/** vif5.<n> with the guest's end g5.<n>, up and silent. */
function guest(n: number): void {
  addVif(`vif5.${n}`);
  ip('link', 'set', `g5.${n}`, 'addrgenmode', 'none');
  ip('link', 'set', `g5.${n}`, 'arp', 'off', 'up');
}
const wanted = (n: number, nodes: Record<string, string>, config = DEFAULTS) => ({
  ...resolveAttachment(backend({ script: '/etc/xen/scripts/vif-openvswitch', mac: MAC[n] ?? '', ...nodes }), config),
  kernelName: `vif5.${n}` as never,
  ifname: `vif5.${n}` as never,
});
async function connect(n: number, nodes: Record<string, string>, fresh = true, config = DEFAULTS): Promise<string[]> {
  await new Promise((resolve) => setTimeout(resolve, 150)); // what was read before is forgotten
  const attached = await attach(
    wanted(n, nodes, config),
    { kernel, attaching: new AttachQueue(1) },
    { said: fresh ? 'nothing' : 'connected', overdue: false },
  );
  return (attached?.steps ?? []).map(describeStep);
}
const get = (table: string, record: string, column: string) => vsctl('get', table, record, column);

describe.skipIf(noOvs !== undefined)(noOvs ?? 'Open vSwitch', () => {
  beforeAll(async () => {
    clearLinks();
    ovs = await OvsDaemons.start();
  });
  afterAll(() => ovs.stop());
  beforeEach(() => {
    const bridges = vsctl('list-br').split('\n');
    for (const name of bridges.filter((line) => line !== '')) vsctl('del-br', name);
    clearLinks();
    kernel = new Kernel();
    ovs.addBridge('ovs0');
    guest(0);
    guest(1);
  });
  afterEach(() => kernel.close());

  const frame = (from: number, note: string) => ethernet(MAC[from] as string, 0x88b5, note);
  let notes = 0;
  /** What of these frames of guest 0 comes to guest 1; the last always does. */
  async function through(frames: string[], last: string): Promise<string[]> {
    const heard = await hear('g5.1');
    await eventually(() => {
      send('g5.0', last); // ovs-vswitchd learns of the carrier by and by
      return heard.includes(last);
    }, 5_000);
    const before = heard.length;
    const end = tagged(
      frame(0, `eeee${(++notes).toString(16).padStart(4, '0')}`),
      Number.parseInt(last.slice(28, 32), 16),
    );
    const untaggedEnd = frame(0, `eeee${notes.toString(16).padStart(4, '0')}`);
    send('g5.0', ...frames, last.slice(24, 28) === '8100' ? end : untaggedEnd);
    const ends = [end, untaggedEnd];
    await eventually(() => heard.slice(before).some((one) => ends.includes(one)));
    return heard
      .slice(before)
      .filter((one) => !ends.includes(one) && one !== last && one.slice(0, 12) === 'ffffffffffff')
      .sort();
  }

  test('untagged packets go between two ports without VLANs; a second run changes nothing', async () => {
    expect(await connect(0, { bridge: 'ovs0' })).toEqual(
      expect.arrayContaining(['addrGenMode=1', 'port of ovs0', 'up=true']),
    );
    await connect(1, { bridge: 'ovs0' });
    const [plain, vlan] = [frame(0, 'aa01'), tagged(frame(0, 'aa02'), 20)];
    expect(await through([plain, vlan], frame(0, 'aaff'))).toEqual([plain, vlan].sort());
    const uuid = get('Port', 'vif5.0', '_uuid');
    expect(await connect(0, { bridge: 'ovs0' }, false)).toEqual([]);
    expect(get('Port', 'vif5.0', '_uuid')).toBe(uuid);
    expect(get('Interface', 'vif5.0', 'external_ids')).toBe(`{attached-mac="${MAC[0]}", vifd="1", xen-vif="5/0"}`);
  });

  test('an access port and a trunk: the tag is put on and taken off, other VLANs do not pass', async () => {
    await connect(0, { bridge: 'ovs0.10' });
    await connect(1, { bridge: 'ovs0:10:20' });
    const heard = await hear('g5.1');
    const plain = frame(0, 'bb01');
    await eventually(() => {
      send('g5.0', tagged(frame(0, 'bb02'), 20), plain);
      return heard.includes(tagged(plain, 10));
    });
    expect(heard.filter((one) => one.endsWith('bb02'))).toEqual([]);
    expect(heard).not.toContain(plain);
  });

  test.each([
    ['as the bridge’s name says it', { bridge: 'ovs0.10:20:30' }],
    ['as vlan says it', { bridge: 'ovs0', vlan: '10p/20/30' }],
  ])('native and trunks through one port, %s', async (_, nodes) => {
    await connect(0, nodes);
    await connect(1, { bridge: 'ovs0.10:20' });
    const [plain, in20, in30] = [frame(0, 'cc01'), tagged(frame(0, 'cc02'), 20), tagged(frame(0, 'cc03'), 30)];
    expect(await through([plain, in20, in30], frame(0, 'ccff'))).toEqual([plain, in20].sort());
    expect(await connect(0, nodes, false)).toEqual([]);
    expect(get('Port', 'vif5.0', 'vlan_mode')).toBe('native-untagged');
  });

  test('what drifts is repaired, without taking the port away', async () => {
    await connect(0, { bridge: 'ovs0.10' });
    const uuid = get('Port', 'vif5.0', '_uuid');
    vsctl('set', 'Port', 'vif5.0', 'tag=11');
    expect(await connect(0, { bridge: 'ovs0.10' }, false)).toEqual(['port of ovs0 tag=10']);
    expect([get('Port', 'vif5.0', 'tag'), get('Port', 'vif5.0', '_uuid')]).toEqual(['10', uuid]);
  });

  test('another switch, and a Linux bridge before', async () => {
    ovs.addBridge('ovs1');
    ip('link', 'add', 'br0', 'type', 'bridge');
    ip('link', 'set', 'vif5.0', 'master', 'br0');
    await connect(0, { bridge: 'ovs0' });
    expect(showLink('vif5.0')?.master).toBeUndefined();
    expect(vsctl('port-to-br', 'vif5.0')).toBe('ovs0');
    await connect(0, { bridge: 'ovs1' });
    expect(vsctl('port-to-br', 'vif5.0')).toBe('ovs1');
  });

  test('an interface made anew under the old name gets a port of its own', async () => {
    await connect(0, { bridge: 'ovs0.10' });
    ip('link', 'del', 'vif5.0');
    guest(0);
    await connect(0, { bridge: 'ovs0' });
    await connect(1, { bridge: 'ovs0' });
    const plain = frame(0, 'dd01');
    expect(await through([plain], frame(0, 'ddff'))).toEqual([plain]);
  });

  test('MTU and isolation', async () => {
    const config = { ...DEFAULTS, vif: { isolated: true } };
    expect(await connect(0, { bridge: 'ovs0', mtu: '1400' }, true, config)).toContain('mtu=1400');
    expect(get('Interface', 'vif5.0', 'mtu_request')).toBe('1400');
    expect(get('Port', 'vif5.0', 'protected')).toBe('true');
    expect(showLink('vif5.0')?.mtu).toBe(1400);
    expect(await connect(0, { bridge: 'ovs0', mtu: '1400' }, false, config)).toEqual([]);
  });

  test('after an error that has passed the port stays as it is', async () => {
    await connect(0, { bridge: 'ovs0' });
    const port = get('Port', 'vif5.0', '_uuid');
    await new Promise((resolve) => setTimeout(resolve, 150));
    await attach(
      wanted(0, { bridge: 'ovs0' }),
      { kernel, attaching: new AttachQueue(1) },
      { said: 'something', overdue: false },
    );
    expect(get('Port', 'vif5.0', '_uuid')).toBe(port);
  });

  test('a bridge that is not there', async () => {
    await expect(connect(0, { bridge: 'ovs9.10' })).rejects.toMatchObject({
      message: 'Open vSwitch has no bridge "ovs9"',
      hint: 'its bridges: ovs0',
    });
    vsctl('del-br', 'ovs0');
    await expect(connect(0, { bridge: 'ovs9' })).rejects.toMatchObject({
      hint: 'it has none; make it: ovs-vsctl add-br ovs9',
    });
  });

  test('an interface that cannot be opened', async () => {
    const port = { bridge: 'ovs0', vlans: { tag: undefined, trunks: [] }, protected: false, ids: {}, mtu: undefined };
    await expect(kernel.openVSwitch.setPort('nosuch', port, false)).rejects.toMatchObject({
      code: 'EOVSPORT',
      message: 'Open vSwitch cannot use the interface',
      hint: expect.stringContaining('could not open network device nosuch (No such device)'),
    });
  });

  test('only ports with the mark are vifd’s', async () => {
    vsctl('add-port', 'ovs0', 'vif5.1');
    await connect(0, { bridge: 'ovs0' });
    expect(await kernel.openVSwitch.ownPorts()).toEqual(['vif5.0']);
    for (const ifname of ['vif5.0', 'vif5.1']) await kernel.openVSwitch.removePort(ifname);
    expect(vsctl('list-ports', 'ovs0')).toBe('vif5.1');
  });

  test('changes of one port take effect in order, and none is missed by the list that is read meanwhile', async () => {
    const port = {
      bridge: 'ovs0',
      vlans: { tag: undefined, trunks: [] },
      protected: false,
      ids: { vifd: '1' },
      mtu: undefined,
    };
    const { openVSwitch } = new Kernel();
    const first = openVSwitch.ownPorts();
    await openVSwitch.setPort('vif5.0', port, false);
    await first;
    expect(await openVSwitch.ownPorts()).toEqual(['vif5.0']);
    await Promise.all([openVSwitch.removePort('vif5.0'), openVSwitch.setPort('vif5.0', port, false)]);
    expect(vsctl('list-ports', 'ovs0')).toBe('vif5.0');
    expect(await openVSwitch.ownPorts()).toEqual(['vif5.0']);
  });

  test('the switch has died: the vif is not taken for connected, and is when it is back', async () => {
    await ovs.kill();
    await expect(connect(0, { bridge: 'ovs0' })).rejects.toMatchObject({
      message: 'Open vSwitch has not done it within 5 s',
      hint: 'see whether ovs-vswitchd runs: systemctl status ovs-vswitchd',
    });
    await expect(connect(0, { bridge: 'ovs0' })).rejects.toMatchObject({ code: 'EOVSTIME' });
    ovs.startSwitch();
    await connect(0, { bridge: 'ovs0' });
    expect(Number(get('Interface', 'vif5.0', 'ofport'))).toBeGreaterThan(0);
  }, 30_000);
});
