/** What dom0 could write, by mistake or not: every node that vifd reads, with every value that could do harm. */
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { FIXED_NODES, LIVE_NODES } from '../../src/vif/backend.js';
import { backendDir, frontendDir } from '../../src/xenstore/paths.js';
import { eventually } from './agent-process.js';
import { useMemoryHost } from './memory-host.js';

const memory = useMemoryHost();
beforeEach(() => memory.start());

const HOSTILE: readonly string[] = [
  '',
  ' ',
  '\0',
  'br0\0eth0',
  'br0\n<3>vifd: all is well',
  '\u001b[2J\u001b]0;title\u0007',
  '\u009b31m',
  '\u202egnp.exe',
  'x'.repeat(2_000),
  '-1',
  '00',
  '4294967296',
  '99999999999999999999',
  '1e3',
  'NaN',
  '../../../etc/passwd',
  '/local/domain/0/backend/vif/5/0',
  '%d',
  '$(reboot)',
  '"; drop table; #',
  '__proto__',
  'lo',
  'eth0',
  'vif6.0',
];

const good = (domid: number, devid: number): Record<string, string> => ({
  frontend: frontendDir({ domid, devid }),
  'frontend-id': String(domid),
  online: '1',
  state: '2',
  script: '/etc/xen/scripts/vif-bridge',
  mac: '00:16:3e:01:02:03',
  bridge: 'br0',
  handle: String(devid),
  type: 'vif',
  'hotplug-status': '',
});

/** With everything that dom0 has written by then, and with netback's interface. */
async function appear(domid: number, devid: number, more: Record<string, string> = {}): Promise<void> {
  const dir = `/local/domain/${NICDOM}/${backendDir({ domid, devid })}`;
  await memory.host.dom0.transaction(async (tx) => {
    await tx.mkdir(dir);
    await tx.setPerms(dir, [`n${NICDOM}`, `r${domid}`]);
    for (const [name, value] of Object.entries({ ...good(domid, devid), ...more })) {
      await tx.write(`${dir}/${name}`, value);
      await tx.setPerms(`${dir}/${name}`, [`n${NICDOM}`, `r${domid}`]);
    }
  });
  await memory.kernel.create(`vif${domid}.${devid}`);
}

const status = (domid: number, devid = 0) => memory.host.backendNode(domid, devid, 'hotplug-status');
const isConnected = (domid: number) => eventually(async () => (await status(domid)) === 'connected');
/** None that a terminal or a log's reader could take for anything but text. */
const PLAIN = /^[\x20-\x7e]*$/;
const checkLog = () => expect(memory.log.map(({ msg }) => msg).filter((msg) => !PLAIN.test(msg))).toEqual([]);

/** Interfaces that are nobody's vif. */
async function others() {
  const links = await memory.kernel.listLinks();
  return links.filter(({ ifname, parentDev }) => parentDev === '' || ifname === 'vif6.0');
}

describe('every node with every value', () => {
  test.each([...FIXED_NODES, ...LIVE_NODES])('%s', async (node) => {
    for (const name of ['lo', 'eth0'])
      await memory.kernel.create(name).then(() => memory.kernel.change(name, { parentDev: '' }));
    await appear(6, 0);
    await isConnected(6);
    const before = await others();
    for (const [i, value] of HOSTILE.entries()) await appear(100 + i, 0, { [node]: value });
    await memory.reconciler.scan();
    await appear(7, 0);
    await isConnected(7); // the neighbour that comes after them all
    await memory.later(20_000); // whatever was waited for is overdue
    await memory.later(20_000);

    expect(await others()).toEqual(before);
    expect(await status(6)).toBe('connected');
    checkLog();
    for (const i of HOSTILE.keys())
      expect((await memory.host.backendNode(100 + i, 0, 'hotplug-error')) ?? '').toSatisfy(
        (text: string) => node === 'hotplug-error' || (PLAIN.test(text) && text.length <= 240),
      );
  });
});

test('on a terminal of this domain it is text, too', async () => {
  const nodes = [...FIXED_NODES, ...LIVE_NODES];
  const values = ['\u001b[2J', '\u009b31m', 'a\nvif100.0  connected', '\u202egnp'];
  for (const [i, node] of nodes.entries())
    for (const [devid, value] of values.entries()) await appear(100 + i, devid, { [node]: value });
  const commands = [['status'], ['status', '--json'], ['doctor'], ['explain', '105/0'], ['explain', '116/1']];
  const ran = commands.map((words) =>
    execa(process.execPath, ['dist/main.js', ...words, '--xenstore', memory.host.socketOf(NICDOM)], {
      reject: false,
      env: { VIFD_RUN_DIR: '' },
    }),
  );
  for (const { stdout, stderr, command } of await Promise.all(ran)) {
    if (!command.includes('doctor')) expect(stdout).toMatch(/10[05]|116/);
    expect(`${stdout}\n${stderr}`.split('\n').filter((line) => !PLAIN.test(line))).toEqual([]);
    expect(stdout).not.toMatch(/^vif100\.0 +connected/m);
  }
});

describe('names of interfaces that are not the guest’s', () => {
  const error = (domid: number) => memory.host.backendNode(domid, 0, 'hotplug-error');
  const failed = (domid: number, sentence: RegExp) =>
    eventually(
      async () => sentence.test((await error(domid)) ?? ''),
      5_000,
      () => memory.log.map(({ msg }) => msg).join('\n'),
    );

  test.each(['br0', 'eth0', 'vif6.0'])('vifname = %s: refused, and that one stays as it is', async (vifname) => {
    await memory.kernel.create('eth0');
    memory.kernel.change('eth0', { parentDev: '' });
    await appear(6, 0);
    await isConnected(6);
    const before = await others();
    await appear(5, 0, { vifname, ip: '192.0.2.7' });
    await failed(5, /EEXIST|vifname/);
    expect(await others()).toEqual(before);
    expect(memory.kernel.find('vif5.0')).toMatchObject({ up: false, master: 0 });
    expect([...memory.kernel.guards.keys()].filter((name) => name === vifname)).toEqual([]);
  });

  test('vifname = the name that netback will give another guest’s vif: refused, so that one can come', async () => {
    await appear(5, 0, { vifname: 'vif6.0' });
    await failed(5, /^node "vifname" is "vif6\.0"; expected /);
    await appear(6, 0);
    await isConnected(6);
  });

  test.each([
    ['vif6.0', /not a bridge/],
    ['vif5.0', /not a bridge/],
    ['none', /does not exist/],
  ] as const)('bridge = %s', async (bridge, sentence) => {
    await appear(6, 0);
    await isConnected(6);
    await appear(5, 0, { bridge });
    await failed(5, sentence);
    expect(memory.kernel.find('vif5.0')?.master).toBe(0);
  });

  test('handle = that of the same guest’s other vif: that one keeps its place', async () => {
    await appear(5, 1);
    await eventually(async () => (await status(5, 1)) === 'connected');
    const before = memory.kernel.find('vif5.1');
    await appear(5, 0, { handle: '1', bridge: 'br0', vifname: 'mine' });
    await memory.later(20_000);
    await memory.later(20_000);
    expect(memory.kernel.find('vif5.1')).toEqual(before);
    expect(memory.kernel.find('mine')).toMatchObject({ parentDev: 'vif-5-0' });
  });
});

describe('what vifd may not read is there all the same, and nothing is removed for it', () => {
  const own = `/local/domain/${NICDOM}/backend/vif/5`;
  const guarded = () => [memory.kernel.guards.has('vif5.0'), memory.kernel.find('vif5.0')?.up];

  test.each([
    [
      'state',
      '5/0/state',
      /^vif5\.0: .*READ "backend\/vif\/5\/0\/state": EACCES \(dom0 keeps it from this domain: see xenstore-ls -p there, and xenstore-chmod\)$/,
    ],
    ['online', '5/0/online', /READ "backend\/vif\/5\/0\/online": EACCES \(dom0 keeps/],
    ['hotplug-status', '5/0/hotplug-status', /READ "backend\/vif\/5\/0\/hotplug-status": EACCES \(dom0 keeps/],
    ['the directory of a vif', '5/0', /DIRECTORY "backend\/vif\/5\/0": EACCES \(dom0 keeps/],
    [
      'the directory of a guest',
      '5',
      /^the vifs in "backend\/vif\/5" cannot be seen and are left as they are: dom0 keeps/,
    ],
  ])('%s', async (_, path, sentence) => {
    await appear(5, 0, { ip: '192.0.2.7' });
    await isConnected(5);
    expect(guarded()).toEqual([true, true]);
    await memory.host.nicdom.write('error/backend/vif/5/0/error', '22 seen');
    const { dom0 } = memory.host;
    const before = await dom0.getPerms(`${own.slice(0, -1)}${path}`);
    await dom0.setPerms(`${own.slice(0, -1)}${path}`, ['n0']);
    for (const ms of [0, 20_000, 20_000]) await memory.later(ms);
    await memory.stopReconciler();
    await memory.startReconciler();
    await memory.later(20_000);
    await sleep(50); // what is left over is dropped behind the scan
    expect(guarded()).toEqual([true, true]);
    expect(await dom0.read(`/local/domain/${NICDOM}/error/backend/vif/5/0/error`)).toBe('22 seen');
    expect(await dom0.read(`${own}/0/state`)).toBe('2');
    await eventually(() => memory.log.some(({ msg }) => sentence.test(msg)));
    await appear(6, 0);
    await isConnected(6); // the neighbour
    await dom0.setPerms(`${own.slice(0, -1)}${path}`, before);
    await memory.later(20_000);
    await isConnected(5);
    expect(guarded()).toEqual([true, true]);
  });
});

describe('paths', () => {
  test('a frontend that is another’s or our own is refused; the one in our own tree is not written to', async () => {
    memory.kernel.change('br0', { mtu: 9000 });
    const tree = async () => [
      (await memory.host.dom0.directory(`/local/domain/${NICDOM}`)).filter((name) => name !== 'backend'),
      await memory.host.dom0.directory(`/local/domain/${NICDOM}/device`),
    ];
    const before = await tree();
    await appear(5, 0, { frontend: '/local/domain/6/device/vif/0', 'backend-id': '0' });
    await appear(5, 1, { frontend: `/local/domain/${NICDOM}/data`, 'frontend-id': '1' });
    for (const devid of [0, 1])
      await eventually(async () =>
        /^node "frontend" is/.test((await memory.host.backendNode(5, devid, 'hotplug-error')) ?? ''),
      );
    await appear(0, 0); // dom0's own vif
    await appear(NICDOM, 0); // ours
    await isConnected(0);
    await isConnected(NICDOM);
    expect(await tree()).toEqual(before);
  });

  test('what is no vif’s directory is left alone, and a thousand of them or ten thousand unknown nodes delay nobody', async () => {
    const root = `/local/domain/${NICDOM}/backend/vif`;
    for (const path of ['x', '5/x', '05/0', '5/00', '99999/0', '5/1000000', '-1/0', '@/_'])
      await memory.host.dom0.write(`${root}/${path}/state`, '2');
    await memory.host.dom0.transaction(async (tx) => {
      for (let i = 0; i < 1_000; i++) await tx.write(`${root}/8/junk${i}`, '');
    });
    await appear(5, 0);
    await memory.host.dom0.transaction(async (tx) => {
      for (let i = 0; i < 10_000; i++) await tx.write(`${root}/5/0/junk${i}`, 'x');
    });
    await memory.reconciler.scan();
    await isConnected(5);
    const startedAt = Date.now();
    await appear(6, 0);
    await isConnected(6);
    expect(Date.now() - startedAt).toBeLessThan(2_000);
    checkLog();
  });
});
