/** Names of bridges with VLANs as vif-openvswitch takes them, what ovs-vsctl is told, and what is said when it cannot. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { DEFAULTS, type VifSettings } from '../../src/config/schema.js';
import type { AttachError } from '../../src/errors.js';
import { OpenVSwitch } from '../../src/network/openvswitch.js';
import { isInPlace, type OvsPort, parseOvsState, type SeenOvsPort, setPortArgs } from '../../src/network/ovs-port.js';
import { explain } from '../../src/vif/explanation.js';
import { checkOvsName, ovsVlans, parseOvsBridge } from '../../src/vif/openvswitch.js';
import { resolveAttachment } from '../../src/vif/policy.js';
import { parseVlans } from '../../src/vif/vlan.js';
import { backend, NODES, seen } from './vif-seen.js';

describe('the name of a bridge', () => {
  test.each([
    ['ovs0', 'ovs0', undefined, []],
    ['ovs0.10', 'ovs0', 10, []],
    ['ovs0.10:20:30', 'ovs0', 10, [20, 30]],
    ['ovs0:30:20:30', 'ovs0', undefined, [20, 30]],
    ['br-int_1.4094', 'br-int_1', 4094, []],
  ])('%s', (text, bridge, tag, trunks) => expect(parseOvsBridge(text)).toEqual({ bridge, tag, trunks }));

  test.each([
    ['', '.10', ':10', 'ovs0.', 'ovs0:', 'ovs0.10:', 'ovs0..10', 'ovs0.10.20', 'ovs0:20.10', 'ovs0.0', 'ovs0:0'],
    [
      'ovs0.4095',
      'ovs0.010000',
      'ovs0.-1',
      'ovs0.1e1',
      'ovs0.0x1',
      'ovs0. 10',
      'ovs0.10\n',
      'ovs0\n',
      'sixteen-letters-',
    ],
    [
      '-ovs0',
      '--',
      '--db=x',
      'ovs0 -- del-br ovs0',
      'ovs0,tag=5',
      'a=b',
      'ovs0;reboot',
      '$(reboot)',
      'a/b',
      'a\0b',
      '@x',
    ],
  ])('is refused: %s', (...texts) => {
    for (const text of texts) expect(parseOvsBridge(text)).toBeUndefined();
  });

  const harmless = /^[A-Za-z0-9_][A-Za-z0-9_-]*$/;
  test('whatever dom0 writes, ovs-vsctl gets a word that is nothing but a name, and numbers', () => {
    const pieces = fc.constantFrom(
      'ovs0',
      '.',
      ':',
      '--',
      '-',
      ' ',
      '=',
      ',',
      '"',
      '[',
      ']',
      '10',
      '4095',
      '\n',
      '@',
      'del-br',
    );
    const texts = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.array(pieces, { maxLength: 8 }).map((all) => all.join('')),
    );
    fc.assert(
      fc.property(texts, (text) => {
        const parsed = parseOvsBridge(text);
        if (parsed === undefined) return;
        expect(parsed.bridge).toMatch(harmless);
        expect(text.startsWith(parsed.bridge)).toBe(true);
        for (const vid of [parsed.tag ?? 1, ...parsed.trunks]) expect(vid >= 1 && vid <= 4094).toBe(true);
        expect([...parsed.trunks].sort((a, b) => a - b)).toEqual(parsed.trunks);
      }),
      { numRuns: 5_000 },
    );
  });

  test('every name with VLANs is read as it was made', () => {
    const vid = fc.integer({ min: 1, max: 4094 });
    const name = fc.stringMatching(/^[A-Za-z0-9_][\w-]{0,14}$/);
    fc.assert(
      fc.property(name, fc.option(vid, { nil: undefined }), fc.uniqueArray(vid), (bridge, tag, trunks) => {
        const text = [`${bridge}${tag === undefined ? '' : `.${tag}`}`, ...trunks].join(':');
        expect(parseOvsBridge(text)).toEqual({ bridge, tag, trunks: trunks.sort((a, b) => a - b) });
      }),
    );
  });
});

describe('a vif', () => {
  const script = '/etc/xen/scripts/vif-openvswitch';
  const wanted = (nodes: Record<string, string>, vif: Partial<VifSettings> = {}) => {
    const want = resolveAttachment(backend({ script, ...nodes }), { ...DEFAULTS, vif });
    if (want.mode !== 'openvswitch') throw new Error(want.mode);
    return want;
  };
  const port: OvsPort = {
    bridge: 'ovs0',
    vlans: { tag: 10, trunks: [20, 30] },
    protected: false,
    ids: { 'attached-mac': '00:16:3e:01:02:03', 'xen-vif': '5/0', vifd: '1' },
    mtu: undefined,
  };

  test('has VLANs by its bridge’s name, or by vlan, which counts more', () => {
    expect(wanted({ bridge: 'ovs0.10:20:30' }).port).toEqual(port);
    expect(wanted({ bridge: 'ovs0', vlan: '10p/20/30' }).port).toEqual(port);
    expect(wanted({ bridge: 'ovs0.7:8', vlan: '10p/20/30' }).port).toEqual(port);
    expect(wanted({ bridge: 'ovs0', vlan: '20-20' }).port.vlans).toEqual({ tag: undefined, trunks: [20] });
    expect(wanted({ bridge: 'ovs0', mtu: '1400' }, { isolated: true }).port).toMatchObject({
      mtu: 1400,
      protected: true,
    });
  });

  test('is one by script, by mode, and not by a bridge’s name alone', () => {
    const config = { ...DEFAULTS, vif: { mode: 'openvswitch' as const } };
    expect(resolveAttachment(backend({ bridge: 'ovs0.10' }), config)).toMatchObject({ mode: 'openvswitch' });
    expect(resolveAttachment(backend({ bridge: 'br0.10' }), DEFAULTS)).toMatchObject({
      mode: 'bridge',
      bridge: 'br0.10',
    });
    expect(() => resolveAttachment(backend({ bridge: 'ovs0.10:20' }), DEFAULTS)).toThrow(
      expect.objectContaining({
        message: '"ovs0.10:20" is a name for Open vSwitch, and no Linux bridge\'s',
        hint: 'write script=vif-openvswitch into the guest\'s vif line, or give it a rule with mode = "openvswitch"',
      }),
    );
  });

  const fault = (nodes: Record<string, string>, vif: Partial<VifSettings> = {}) => {
    try {
      return wanted(nodes, vif);
    } catch (error) {
      const { message, hint = '' } = error as AttachError;
      return `${message}; ${hint}`;
    }
  };
  test('that cannot be one', () => {
    const { bridge: _, ...rest } = NODES;
    expect(fault({ bridge: '' })).toBe(
      "dom0 named no bridge of Open vSwitch; write bridge=NAME into the guest's vif line, or a bridge into the rule",
    );
    expect(rest).not.toHaveProperty('bridge');
    expect(fault({ bridge: 'br,0' })).toContain(
      'node "bridge" is "br,0"; expected a bridge of Open vSwitch, NAME[.VLAN][:TRUNK:TRUNK...], such as ovs0, ovs0.10 or ovs0.10:20:30',
    );
    for (const vifname of ['-x', 'a=b', 'a,b', '@x', 'a"b'])
      expect(fault({ vifname })).toContain('expected letters, digits, ".", "_" and "-", since Open vSwitch gets it');
    expect(fault({}, { guard: 'mac' })).toBe(
      'the vif cannot be guarded: it is a port of Open vSwitch, whose frames pass nftables by; set guard = "off" for it, and let flows of Open vSwitch do it',
    );
    expect(fault({ vlan: '10p/20u' })).toBe(
      'Open vSwitch cannot do vlan 10p/20u: only one VLAN can go without a tag; leave u out of vlan',
    );
  });

  test('with ip= is told of, for nothing holds it to that', () => {
    expect(wanted({ ip: '192.0.2.7' })).toMatchObject({ unguarded: ['192.0.2.7'], guard: undefined });
    expect(wanted({ ip: '192.0.2.7' }, { guard: 'off' }).unguarded).toEqual([]);
  });

  test('the transaction has one word for each value', () => {
    expect(setPortArgs('vif5.0', port)).toEqual([
      ...['--', '--may-exist', 'add-port', 'ovs0', 'vif5.0'],
      ...['--', 'set', 'Port', 'vif5.0', 'tag=10', 'trunks=20,30', 'vlan_mode=native-untagged', 'protected=false'],
      ...['--', 'set', 'Interface', 'vif5.0', 'mtu_request=[]'],
      ...['external_ids:attached-mac="00:16:3e:01:02:03"', 'external_ids:xen-vif="5/0"', 'external_ids:vifd="1"'],
    ]);
    expect(setPortArgs('v', { ...port, vlans: { tag: undefined, trunks: [] } })).toEqual(
      expect.arrayContaining(['tag=[]', 'trunks=[]', 'vlan_mode=[]']),
    );
  });

  test('any ifname that is let through is one harmless word', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), (ifname) => {
        try {
          checkOvsName(ifname);
        } catch {
          return;
        }
        expect(ifname).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/);
      }),
      { numRuns: 2_000 },
    );
  });

  test('what explain says of it', () => {
    const described = backend({ script, bridge: 'ovs0.10' });
    const bridge = explain(
      seen({
        backend: described,
        want: resolveAttachment(described, DEFAULTS),
        place: { mode: 'openvswitch', port: undefined, fresh: false },
        bridge: undefined,
      }),
    );
    expect(bridge.find(({ station }) => station === 'bridge')?.says).toBe('Open vSwitch has the bridge ovs0');
    expect(bridge.at(-1)).toMatchObject({ station: 'attachment', verdict: 'wrong' });
    expect(bridge.at(-1)?.says).toContain('port of ovs0 tag=10');
  });
});

test('VLANs of a Linux bridge in the words of Open vSwitch', () => {
  expect(ovsVlans(parseVlans('10') as never)).toEqual({ tag: 10, trunks: [] });
  expect(ovsVlans(parseVlans('100+10x2/5p') as never)).toEqual({ tag: 5, trunks: [100, 110, 120] });
});

describe('the database', () => {
  const TABLES = [
    '{"data":[["ovs0",["set",[["uuid","p0"],["uuid","p1"]]]],["ovs1",["uuid","p2"]],["ovs2",["set",[]]]],"headings":["name","ports"]}',
    '{"data":[[["uuid","p1"],"vif5.0",10,["set",[30,20]],"native-untagged",true],[["uuid","p2"],"x",["set",[]],5,["set",[]],false]],"headings":["_uuid","name","tag","trunks","vlan_mode","protected"]}',
    '{"data":[["vif5.0",["map",[["vifd","1"],["xen-vif","5/0"]]],7,2,1400],["x",["map",[]],["set",[]],-1,["set",[]]]],"headings":["name","external_ids","ifindex","ofport","mtu_request"]}',
  ].join('\n');
  const vif: SeenOvsPort = {
    bridge: 'ovs0',
    vlans: { tag: 10, trunks: [20, 30] },
    vlanMode: 'native-untagged',
    protected: true,
    ids: { vifd: '1', 'xen-vif': '5/0' },
    mtu: 1400,
    ifindex: 7,
    ofport: 2,
  };
  test('is read', () => {
    const { bridges, ports } = parseOvsState(TABLES);
    expect(bridges).toEqual(['ovs0', 'ovs1', 'ovs2']);
    expect(ports.get('vif5.0')).toEqual(vif);
    expect(ports.get('x')).toMatchObject({
      bridge: 'ovs1',
      vlans: { tag: undefined, trunks: [5] },
      ifindex: 0,
      ofport: -1,
    });
    for (const text of ['', 'null\nnull\nnull', '{"headings":[],"data":[null]}\n{}\n[]'])
      expect(() => parseOvsState(text)).toThrow(
        expect.objectContaining({
          code: 'EOVS',
          message: 'ovs-vsctl has answered with something else than the tables that it was asked for',
        }),
      );
  });

  test.each<[string, Partial<SeenOvsPort>, number?]>([
    ['another bridge', { bridge: 'ovs1' }],
    ['another tag', { vlans: { tag: undefined, trunks: [20, 30] } }],
    ['other trunks', { vlans: { tag: 10, trunks: [20] } }],
    ['another mode', { vlanMode: 'access' }],
    ['another MTU', { mtu: undefined }],
    ['not protected', { protected: false }],
    ['no mark', { ids: {} }],
    ['not opened', { ofport: -1 }],
    ['an interface that is gone', {}, 8],
  ])('is not as wanted: %s', (_, more, ifindex = 7) => {
    const { vlanMode: _mode, ifindex: _index, ofport: _port, ...want } = vif;
    expect(isInPlace(want, vif, 7)).toBe(true);
    expect(isInPlace(want, { ...vif, ids: { ...vif.ids, more: 'x' } }, 7)).toBe(true);
    expect(isInPlace(want, { ...vif, ...more }, ifindex)).toBe(false);
  });
});

describe('ovs-vsctl', () => {
  const dir = () => {
    const made = mkdtempSync(join(tmpdir(), 'vifd-ovs-'));
    onTestFinished(() => rmSync(made, { recursive: true }));
    return made;
  };
  function fake(script: string): void {
    const at = dir();
    writeFileSync(join(at, 'ovs-vsctl'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    vi.stubEnv('PATH', `${at}:/usr/bin:/bin`);
    onTestFinished(() => void vi.unstubAllEnvs());
  }
  const read = () => new OpenVSwitch().read().catch(({ message, hint }: AttachError) => `${message}; ${hint}`);

  test('is not there', async () => {
    vi.stubEnv('PATH', dir());
    onTestFinished(() => void vi.unstubAllEnvs());
    expect(await read()).toBe(
      'Open vSwitch cannot be asked: ovs-vsctl cannot be run (ENOENT); install openvswitch-switch, or give the vif another script or mode',
    );
    expect(await new OpenVSwitch().ownPorts()).toEqual([]);
  });

  test.each([
    [
      'echo "ovs-vsctl: unix:/run/openvswitch/db.sock: database connection failed (No such file or directory)" >&2; exit 1',
      'the database of Open vSwitch cannot be reached (No such file or directory); start it: systemctl start openvswitch-switch',
    ],
    [
      'echo "ovs-vsctl: unix:/x: database connection failed (Permission denied)" >&2; exit 1',
      'the database of Open vSwitch cannot be reached (Permission denied); vifd runs as a user that may not: see "Open vSwitch" in the README',
    ],
    ['echo "ovs-vsctl: no" >&2; exit 1', 'Open vSwitch has refused it; "no"'],
    ['kill -KILL $$', 'Open vSwitch has not done it; ovs-vsctl was ended by SIGKILL'],
    [
      'kill -ALRM $$',
      'Open vSwitch has not done it within 5 s; see whether ovs-vswitchd runs: systemctl status ovs-vswitchd',
    ],
    [
      'echo "ovs-vsctl: Error detected while setting up \'x\': could not open" >&2',
      'Open vSwitch cannot use the interface; "Error detected while setting up \'x\': could not open"',
    ],
  ])('%s', async (script, sentence) => {
    fake(script);
    expect(await read()).toBe(sentence);
  });

  test('is asked once for all who look at the same time, and again after a fault', async () => {
    const at = dir();
    fake(`echo x >>${at}/calls; cat ${at}/state`);
    const ovs = new OpenVSwitch();
    await expect(ovs.read()).rejects.toThrow();
    const table = '{"data":[],"headings":[]}';
    writeFileSync(join(at, 'state'), `${table}\n${table}\n${table}\n`);
    const states = await Promise.all([ovs.read(), ovs.read(), ovs.read()]);
    expect(new Set(states).size).toBe(1);
  });
});
