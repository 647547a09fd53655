/** The rooms of the house (shared design, sections 2 and 3): which files may know which. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';

/** No clock, no environment, no logger, no I/O; may import only each other and errors.ts. */
const PURE = [
  'errors.ts',
  'text.ts',
  'glob.ts',
  'iso-time.ts',
  'config/contradictions.ts',
  'config/schema.ts',
  'config/types.ts',
  'config/network-tables.ts',
  'config/match-settings.ts',
  'binding/target.ts',
  'binding/wanted.ts',
  'binding/plan.ts',
  'declared/observed.ts',
  'declared/step.ts',
  'declared/wanted.ts',
  'declared/plan.ts',
  'config/script-settings.ts',
  'config/vif-settings.ts',
  'config/check.ts',
  'config/text.ts',
  'xenstore/wire.ts',
  'xenstore/paths.ts',
  'service/script-protocol.ts',
  'service/metrics-text.ts',
  'vif/attachment.ts',
  'vif/dhcp.ts',
  'dhcp/dnsmasq-text.ts',
  'vif/mode.ts',
  'vif/interface-steps.ts',
  'vif/judgement.ts',
  'vif/nat.ts',
  'vif/routed-explanation.ts',
  'vif/routed-words.ts',
  'vif/routed.ts',
  'vif/backend.ts',
  'vif/pattern.ts',
  'vif/policy.ts',
  'vif/script-call.ts',
  'vif/openvswitch.ts',
  'network/ovs-port.ts',
  'vif/guard.ts',
  'vif/guard-explanation.ts',
  'vif/vlan.ts',
  'vif/rules.ts',
  'vif/plan.ts',
  'vif/failure.ts',
  'vif/failure-codes.ts',
  'vif/meaning.ts',
  'vif/seen.ts',
  'vif/explanation.ts',
  'vif/report.ts',
  'vif/script-answer.ts',
  'doctor/command-line.ts',
  'doctor/finding.ts',
  'doctor/machine.ts',
  'doctor/network-checks.ts',
  'doctor/own-network.ts',
  'doctor/policies.ts',
  'doctor/unit-file.ts',
  'doctor/xen-checks.ts',
  'dom0/connection.ts',
  'dom0/vif-line.ts',
  'dom0/recovery.ts',
  'dom0/units.ts',
  'network/ip-link.ts',
  'network/attributes.ts',
  'network/bridge-port.ts',
  'network/bridge-settings.ts',
  'network/neighbours.ts',
  'network/devconf.ts',
  'network/guard-table.ts',
  'network/prefix.ts',
  'network/routes.ts',
  'network/route-text.ts',
  'network/bridge-vlan.ts',
  'network/rtnetlink.ts',
  'network/ethtool.ts',
  'network/uevent.ts',
  'monitor/entry.ts',
  'monitor/format.ts',
  'monitor/link-changes.ts',
  'monitor/record.ts',
  'monitor/timeline.ts',
  'simulator/nic.ts',
];
/** isIP() and hashes are functions of their arguments. */
const PURE_PACKAGES = ['node:net', 'node:module'];

const files = (readdirSync('src', { recursive: true }) as string[]).filter((file) => file.endsWith('.ts'));
const source = (file: string) => readFileSync(join('src', file), 'utf8');
/** Imports that are left at run time, type imports among them: a room that only names another's type knows it too. */
const imports = (file: string) =>
  [...source(file).matchAll(/(?:from|import) '([^']+)'/g)].map(([, name]) => name as string);
const local = (file: string) =>
  imports(file)
    .filter((name) => name.startsWith('.'))
    .map((name) => normalize(join(dirname(file), name.replace(/\.js$/, '.ts'))));

describe.each(PURE)('%s', (file) => {
  test('imports only pure files', () => {
    expect(local(file).filter((name) => !PURE.includes(name))).toEqual([]);
    expect(imports(file).filter((name) => !name.startsWith('.') && !PURE_PACKAGES.includes(name))).toEqual([]);
  });
  test('has no clock, environment or output', () => {
    const code = source(file).replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
    expect(code).not.toMatch(
      /\bprocess\.|\bnew Date\b|\bDate\.|performance\.|setTimeout|setInterval|setImmediate|console\.|Math\.random/,
    );
  });
});

test('the edges know no vif policy', () => {
  const edges = files.filter((file) => file.startsWith('network/') || file.startsWith('xenstore/'));
  expect(
    edges.flatMap((file) =>
      local(file)
        .filter((name) => /^(vif|config|commands|simulator|service|monitor)\/|agent/.test(name))
        .map((name) => `${file} -> ${name}`),
    ),
  ).toEqual([]);
});

test('the vifs know nothing of who asks about them', () => {
  const vif = files.filter((file) => file.startsWith('vif/'));
  const above = /^(service|commands|monitor|doctor)\/|^agent/;
  expect(vif.flatMap((file) => local(file).filter((name) => above.test(name)))).toEqual([]);
});

test('what stands at the root for all rooms knows none of them', () => {
  const putTogether = ['agent.ts', 'logger.ts', 'main.ts', 'observer.ts', 'program.ts'];
  const shared = files.filter((file) => !file.includes('/') && !putTogether.includes(file));
  expect(shared.flatMap((file) => local(file).filter((name) => name.includes('/')))).toEqual([]);
});

test('the agent does not know the simulator', () => {
  const rooms = files.filter((file) => /^(vif|config|network|xenstore|service)\/|^agent\.ts/.test(file));
  expect(rooms.flatMap((file) => local(file).filter((name) => name.startsWith('simulator/')))).toEqual([]);
});

test('hotplug-status and hotplug-error have one writer', () => {
  const writers = files.filter(
    (file) => !file.startsWith('simulator/') && /\.(write|rm)\([^)]*hotplug-/.test(source(file)),
  );
  expect(writers).toEqual(['vif/hotplug-status.ts']);
});

test('nobody writes state or online', () => {
  const writers = files.filter(
    (file) => !file.startsWith('simulator/') && /\.write\([^)]*\/(state|online)[`']/.test(source(file)),
  );
  expect(writers).toEqual([]);
});

test('process groups are ended in one place', () => {
  expect(files.filter((file) => source(file).includes('kill(-'))).toEqual(['child.ts']);
});

test('node-netlink is used behind one file', () => {
  expect(files.filter((file) => imports(file).some((name) => name.startsWith('netlink')))).toEqual([
    'network/netlink.ts',
  ]);
});

test('files stay small', () => {
  expect(
    files.map((file) => [file, source(file).split('\n').length] as const).filter(([, lines]) => lines > 350),
  ).toEqual([]);
});
