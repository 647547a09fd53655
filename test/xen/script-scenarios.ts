/** vif-vifd where a vif script has to be: called by libxl in dom0, by `xl devd`, and by udev (README "Instead of a vif script"). */
import { test } from 'vitest';
import {
  type ClientSpec,
  createClient,
  describeClient,
  feature,
  links,
  type Server,
  storeVifs,
  untilConnected,
  untilGone,
  untilPings,
  vifSpec,
  xl,
} from './guests.js';
import type { Lab } from './lab.js';
import { fixtureOf, takeCalls, takeHooks, takeWork } from './script-calls.js';

type Expect = typeof import('vitest')['expect'];

/** As many as come and go in time where each script is a Node of its own, on an emulated processor. */
const FOUR = [0, 1, 2, 3];
const EIGHT = [...FOUR, 4, 5, 6, 7];
const BY_DEVD = 'backend=nicdom script=vif-vifd';

const work = (command: string, domid: number, devids: readonly number[]) =>
  devids.map((devid) => `vif-script ${command} backend/vif/${domid}/${devid}`);
const hooks = (command: string, domid: number, devids: readonly number[], directory: 'there' | 'gone') =>
  devids.map((devid) => `${command} backend/vif/${domid}/${devid} vif${domid}.${devid} br0 ${directory}`);

async function createPinging(lab: Lab, spec: ClientSpec, server: Server = 'nicdom'): Promise<number> {
  const domid = await createClient(lab, spec);
  await untilConnected(
    lab,
    domid,
    Array.from({ length: spec.vifs ?? 1 }, (_, i) => i),
    120_000,
    server,
  );
  await untilPings(lab, spec.name);
  return domid;
}

const interfacesOf = async (lab: Lab, domid: number, server: Server = 'nicdom') =>
  [...(await links(lab, server)).keys()].filter((name) => name.startsWith(`vif${domid}.`));

/** `xl destroy` says nothing, and nothing is left. */
async function destroyCleanly(
  lab: Lab,
  name: string,
  domid: number,
  devids: readonly number[],
  expect: Expect,
  server: Server = 'nicdom',
): Promise<void> {
  await xl(lab, `destroy ${name}`);
  for (const devid of devids) await untilGone(lab, domid, devid, 5_000, server);
  expect(await interfacesOf(lab, domid, server)).toEqual([]);
}

/** Attaches and detaches vif 1, whose calls are recorded where its line names the recorder; leaves vif 0. */
async function plugAndUnplug(
  lab: Lab,
  name: string,
  domid: number,
  words: string,
  expect: Expect,
  server: Server = 'nicdom',
): Promise<void> {
  await xl(lab, `network-attach ${name} ${vifSpec(0x30, 1, 'br0', words)}`);
  await untilConnected(lab, domid, [0, 1], 60_000, server);
  expect((await links(lab, server)).get(`vif${domid}.1`)).toMatchObject({ master: 'br0' });
  // From 10 s on it would be dom0's time-out.
  expect(await xl(lab, `network-detach ${name} 1`)).toBeLessThan(10_000);
  await untilGone(lab, domid, 1, 5_000, server);
  expect(await interfacesOf(lab, domid, server)).toEqual([`vif${domid}.0`]);
}

/**
 * Detaches the last vif and attaches another in its place at once: devd must neither take the new one for the old, nor remove its
 * directory with the old one's. The guest's end of it is no matter here (scenario (g)).
 */
async function replug(
  lab: Lab,
  name: string,
  domid: number,
  number: number,
  devid: number,
  script: string,
  expect: Expect,
): Promise<void> {
  const words = vifSpec(number, 0x27, 'br0', `backend=nicdom script=${script}`);
  const out = await lab.must(`xl network-detach ${name} ${devid} && xl network-attach ${name} ${words}`, 90_000);
  expect(out).not.toMatch(/error/i);
  const now = async () => (await storeVifs(lab, domid)).get(devid);
  await lab.until(`vif ${devid} attached anew`, async () => (await now())?.['hotplug-status'] === 'connected', 30_000);
  await lab.mustNicdom('sleep 3');
  expect(await now()).toMatchObject({ online: '1', 'hotplug-status': 'connected' });
  expect((await now())?.mac).toMatch(/:27$/);
  expect((await links(lab)).get(`vif${domid}.${devid}`)).toMatchObject({ master: 'br0' });
}

/** No daemon in dom0. Its configuration says otherwise than what the two names ask for, so that they show. */
export function dom0ScriptScenarios(lab: () => Lab): void {
  test('vif-vifd for libxl in dom0: create, attach, detach, destroy', async ({ expect }) => {
    await lab().must(`modprobe -a xen-netback bridge && ip link add br0 type bridge stp_state 0 forward_delay 0
      ip link set br0 up && ip address add 10.77.0.1/24 dev br0`);
    await lab().putFile('/etc/xen/vifd.toml', '[vif]\nqlen = 500\ntx_checksum = "keep"\n');
    const words = ['script=vif-vifd', 'script=vif-bridge_qlen', 'script=vif-bridge_TxOff'];
    const domid = await createPinging(lab(), { name: 'local', number: 21, vifs: 3, words }, 'dom0');
    const now = await links(lab(), 'dom0');
    expect([0, 1, 2].map((devid) => now.get(`vif${domid}.${devid}`)?.master)).toEqual(['br0', 'br0', 'br0']);
    expect([0, 1, 2].map((devid) => now.get(`vif${domid}.${devid}`)?.txqlen)).toEqual([500, 1000, 500]);
    const offload = (devid: number) => feature(lab(), `vif${domid}.${devid}`, 'tx-checksum-ipv4', 'dom0');
    expect([await offload(0), await offload(1), await offload(2)]).toEqual(['on', 'on', 'off']);
    for (const devid of [1, 2]) await xl(lab(), `network-detach local ${devid}`);
    await plugAndUnplug(lab(), 'local', domid, 'script=vif-recorded', expect, 'dom0');
    await destroyCleanly(lab(), 'local', domid, [0], expect, 'dom0');
    const calls = await takeCalls(lab(), 'dom0');
    await expect(json(calls)).toMatchFileSnapshot(await fixtureOf(lab(), 'libxl'));
    expect(await takeWork(lab(), 'dom0')).toEqual(
      [...work('online', domid, [0, 1, 1, 2]), ...work('offline', domid, [0, 1, 1, 2])].sort(),
    );
    // libxl in dom0 removes the directory itself, after its script.
    expect(await takeHooks(lab(), 8, 'dom0')).toEqual(
      [...hooks('online', domid, [0, 1, 1, 2], 'there'), ...hooks('offline', domid, [0, 1, 1, 2], 'there')].sort(),
    );
  });

  test('vif-vifd for libxl in dom0: without the bridge xl create fails, and says why', async ({ expect }) => {
    await lab().must(
      'setsid node /lab/watcher.mjs 0 /run/watcher-0.jsonl >/dev/null 2>&1 & echo $! >/run/watcher-0.pid',
    );
    const noted = async () => (await lab().dom0('cat /run/watcher-0.jsonl')).out;
    await lab().until('the watcher is ready', async () => (await noted()).includes('"ready"'), 20_000);
    await describeClient(lab(), { name: 'broken', number: 22, bridge: 'brnone', words: 'script=vif-vifd' });
    const { code, out } = await lab().dom0('xl create /guests/broken.cfg', 120_000);
    await lab().must('kill $(cat /run/watcher-0.pid)');
    expect(code).not.toBe(0);
    expect(out).toContain('script: bridge "brnone" does not exist');
    expect(out).toContain('bridges here: br0');
    const changes = (await noted())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(changes).toContainEqual(
      expect.objectContaining({ node: 'hotplug-error', value: 'bridge "brnone" does not exist' }),
    );
    expect(changes).toContainEqual(expect.objectContaining({ node: 'hotplug-status', value: 'error' }));
    expect(changes.at(-1)).toMatchObject({ node: '', value: null });
    expect((await lab().dom0('xl domid broken')).code).not.toBe(0);
    expect([...(await links(lab(), 'dom0')).keys()].filter((name) => name.startsWith('vif'))).toEqual([]);
  });
}

/** In the lab of `xl devd`. */
export function devdScriptScenarios(lab: () => Lab): void {
  test('vif-vifd for xl devd without vifd: create, attach, detach, destroy of four', async ({ expect }) => {
    await takeHooks(lab(), 0); // vif-bridge runs them, too
    const domid = await createPinging(lab(), { name: 'four', number: 31, vifs: 4, words: BY_DEVD });
    const now = await links(lab());
    for (const devid of FOUR) expect(now.get(`vif${domid}.${devid}`)).toMatchObject({ master: 'br0' });
    expect(await takeWork(lab())).toEqual(work('online', domid, FOUR));
    expect(await takeHooks(lab(), 4)).toEqual(hooks('online', domid, FOUR, 'there'));
    await replug(lab(), 'four', domid, 31, 3, 'vif-recorded', expect);
    await destroyCleanly(lab(), 'four', domid, FOUR, expect);
    await expect(json(await takeCalls(lab(), 'nicdom'))).toMatchFileSnapshot(await fixtureOf(lab(), 'devd'));
    expect(await takeHooks(lab(), 6)).toEqual(
      [...hooks('offline', domid, [...FOUR, 3], 'there'), ...hooks('online', domid, [3], 'there')].sort(),
    );
    expect(await takeWork(lab())).toEqual(
      [...work('offline', domid, [...FOUR, 3]), ...work('online', domid, [3])].sort(),
    );
  });

  test('vif-vifd for xl devd beside vifd: vifd does the work, and the scripts wait for it', async ({ expect }) => {
    await lab().startAgent('vifd');
    const domid = await createPinging(lab(), { name: 'again', number: 32, vifs: 8, words: BY_DEVD });
    expect(await takeHooks(lab(), 8)).toEqual(hooks('online', domid, EIGHT, 'there'));
    await replug(lab(), 'again', domid, 32, 7, 'vif-vifd', expect);
    await destroyCleanly(lab(), 'again', domid, EIGHT, expect);
    expect(await takeHooks(lab(), 10)).toEqual(
      [...hooks('offline', domid, [...EIGHT, 7], 'there'), ...hooks('online', domid, [7], 'there')].sort(),
    );
    expect(await takeWork(lab())).toEqual([]);
    // It would say so, twice a vif, had somebody removed a directory before.
    expect(await lab().mustNicdom("grep -E 'unable to (read|get)' /var/log/devd.log || true")).toBe('');
    const log = await lab().agentLog('vifd');
    for (const devid of EIGHT) expect(log).toContain(`connected vif${domid}.${devid} to br0`);
    expect(complaints(log).filter((line) => !line.includes('xl devd (pid'))).toEqual([]);
  });
}

/** After those: ends `xl devd`, and later vifd. */
export function udevScenarios(lab: () => Lab): void {
  test('the udev rules do nothing while vifd runs', async ({ expect }) => {
    await lab().killAgent('devd');
    await lab().mustNicdom(
      'setsid /usr/lib/systemd/systemd-udevd --debug >/var/log/udevd.log 2>&1 </dev/null & echo $! >/run/lab-udevd.pid',
    );
    await useRules(lab(), 'vif-vifd');
    const domid = await createPinging(lab(), { name: 'gamma', number: 33 });
    await plugAndUnplug(lab(), 'gamma', domid, 'backend=nicdom', expect);
    await ranByUdev(lab(), `vif-${domid}-1`, 'vif-vifd offline');
    expect(await takeWork(lab())).toEqual([]);
    expect(await takeHooks(lab(), 0)).toEqual([]);
    await destroyCleanly(lab(), 'gamma', domid, [0], expect);
    expect(complaints(await lab().agentLog('vifd')).filter((line) => !line.includes('xl devd (pid'))).toEqual([]);
  });

  test('the udev rules alone: create, attach, detach, destroy', async ({ expect }) => {
    await lab().killAgent('vifd');
    const domid = await createPinging(lab(), { name: 'delta', number: 34 });
    expect(await takeHooks(lab(), 1)).toEqual(hooks('online', domid, [0], 'there'));
    await useRules(lab(), 'vif-recorded');
    await plugAndUnplug(lab(), 'delta', domid, 'backend=nicdom', expect);
    await ranByUdev(lab(), `vif-${domid}-1`, 'vif-recorded offline');
    await expect(json(await takeCalls(lab(), 'nicdom'))).toMatchFileSnapshot(await fixtureOf(lab(), 'udev'));
    await useRules(lab(), 'vif-vifd');
    await destroyCleanly(lab(), 'delta', domid, [0], expect);
    await ranByUdev(lab(), `vif-${domid}-0`, 'vif-vifd offline');
    expect(await takeHooks(lab(), 3)).toEqual(
      [...hooks('offline', domid, [0, 1], 'gone'), ...hooks('online', domid, [1], 'there')].sort(),
    );
    expect(await takeWork(lab())).toEqual([...work('offline', domid, [0, 1]), ...work('online', domid, [0, 1])].sort());
    await lab().mustNicdom('kill $(cat /run/lab-udevd.pid)');
  });
}

/** The rules as they are shipped, or with the recorder in the script's place. */
async function useRules(lab: Lab, script: string): Promise<void> {
  const from = '/opt/vifd/udev/opt-in/80-vifd-hotplug.rules';
  await lab.mustNicdom(
    `sed s,scripts/vif-vifd,scripts/${script}, ${from} >/etc/udev/rules.d/80-vifd-hotplug.rules
     for i in $(seq 50); do udevadm control --reload && exit; sleep 0.1; done; exit 1`,
  );
}

/** Waits for the script's end by udevd's log, and for a good one. */
async function ranByUdev(lab: Lab, device: string, command: string): Promise<void> {
  const end = `${device}: Process '/etc/xen/scripts/${command} type_if=vif'`;
  const said = async () => (await lab.nicdom(`grep -aF "${end}" /var/log/udevd.log | tail -n 1`)).out.trim();
  const outcome = await lab.until(`udev ran ${command} for ${device}`, said, 20_000);
  if (!outcome.endsWith('succeeded.')) throw new Error(outcome);
}

const complaints = (log: string) => log.split('\n').filter((line) => /"level":"(warn|error|fatal)"/.test(line));
const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
