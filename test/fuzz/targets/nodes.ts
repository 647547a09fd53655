/** What dom0, the admin and the guest write as text: nodes of a vif, and the grammars in them. */
import fc from 'fast-check';
import { parseTarget } from '../../../src/binding/target.js';
import { DEFAULTS, type VifSettings } from '../../../src/config/schema.js';
import { VifdError } from '../../../src/errors.js';
import { addressBytes, addressText, formatPrefix, parsePrefix, routedPrefix } from '../../../src/network/prefix.js';
import { parseAddress, parseRouteText } from '../../../src/network/route-text.js';
import { describeRoute, encodeRoute } from '../../../src/network/routes.js';
import * as backend from '../../../src/vif/backend.js';
import { explainKernelError } from '../../../src/vif/failure.js';
import { errorText } from '../../../src/vif/hotplug-status.js';
import { meaningOf } from '../../../src/vif/meaning.js';
import { parseNatNetwork } from '../../../src/vif/nat.js';
import { ovsPort, parseOvsBridge } from '../../../src/vif/openvswitch.js';
import { parseAddressPattern, parsePattern } from '../../../src/vif/pattern.js';
import { resolveAttachment } from '../../../src/vif/policy.js';
import { formatVlans, parseVlans } from '../../../src/vif/vlan.js';
import { promise, same, sentence, type Target, textOf, typed } from '../target.js';

const KEY = { domid: 5, devid: 0 };
const GOOD: Readonly<Record<string, string>> = {
  frontend: '/local/domain/5/device/vif/0',
  'frontend-id': '5',
  script: '/etc/xen/scripts/vif-bridge',
  handle: '0',
  type: 'vif',
  state: '2',
  online: '1',
};
const VALUES: Readonly<Record<string, readonly string[]>> = {
  mac: ['00:16:3e:01:02:03', '00:16:3E:aa:bb:cc'],
  bridge: ['br0', 'ovs0.10:20', 'br-int'],
  vifname: ['lan', 'vif5.0', 'fw-wan'],
  gatewaydev: ['eth0'],
  mtu: ['1400', '65517'],
  ip: ['10.0.0.5 2001:db8::5/64', '192.0.2.0/24', '0.0.0.0/0'],
  vlan: ['10', '10p/20-29', '1p/100+10x4'],
  rate: ['12500000,50000', '0,0'],
  'hotplug-status': ['connected', 'error', ''],
  'hotplug-error': ['no bridge'],
  script: ['/etc/xen/scripts/vif-route', '/etc/xen/scripts/vif-nat', '/etc/xen/scripts/vif-openvswitch'],
};

/** `name=value` lines, the good ones beneath. */
const nodesOf = (text: string): Map<string, string> =>
  new Map([
    ...Object.entries(GOOD),
    ...text.split('\n').flatMap((line): [string, string][] => {
      const at = line.indexOf('=');
      return at < 0 ? [] : [[line.slice(0, at), line.slice(at + 1)]];
    }),
  ]);

const NODES: Target = {
  name: 'backend',
  share: 0.3,
  reads: {
    'vif/backend.ts': ['parseBackend', 'parseLive', 'parseIfname', 'parseMac', 'parseMtu'],
    'vif/policy.ts': ['resolveAttachment'],
    'vif/openvswitch.ts': ['ovsPort'],
  },
  promises: 'a vif that is whole in all its values, or a NodeError or AttachError that names the value',
  kind: 'text',
  seeds: fc
    .array(
      fc
        .constantFrom(...Object.keys(VALUES))
        .chain((name) =>
          fc.oneof(fc.constantFrom(...(VALUES[name] ?? [''])), fc.string()).map((value) => `${name}=${value}`),
        ),
      { maxLength: 8 },
    )
    .map((lines) => lines.join('\n')),
  words: [
    ...Object.entries(VALUES).flatMap(([name, values]) => values.map((value) => `\n${name}=${value}\n`)),
    '/33',
    '%eth0',
  ],
  run: (input) => {
    const nodes = nodesOf(textOf(input));
    const vif = typed(() => backend.parseBackend(KEY, nodes));
    typed(() => backend.parseLive(nodes));
    if (vif instanceof VifdError) return;
    for (const complaint of vif.complaints) sentence(complaint);
    for (const one of vif.ip) promise(parsePrefix(one) !== undefined, 'an address that all others can read', one);
    for (const mode of [undefined, 'bridge', 'routed', 'nat', 'openvswitch'] as const) {
      const config = { ...DEFAULTS, vif: mode === undefined ? {} : { mode } };
      typed(() => resolveAttachment(vif, config));
    }
    typed(() => ovsPort(vif, { bridge: vif.bridge, vlan: vif.vlan } as VifSettings));
  },
};

const VLAN: Target = {
  name: 'vlan',
  reads: { 'vif/vlan.ts': ['parseVlans', 'formatVlans'], 'vif/openvswitch.ts': ['parseOvsBridge'] },
  promises: 'at most 4094 VLANs, each from 1 to 4094; formatted and parsed they are the same',
  kind: 'text',
  seeds: fc
    .array(
      fc
        .tuple(fc.nat(4200), fc.constantFrom('', 'p', 'u', '-30', '-4094u', '+10x4', '+1x4094'))
        .map(([a, b]) => `${a}${b}`),
      {
        maxLength: 5,
      },
    )
    .map((words) => words.join('/')),
  words: ['/', 'p', 'u', '-', '+', 'x', '4094', '4095', '9999', 'ovs0.', ':'],
  run: (input) => {
    const text = textOf(input);
    const vlans = parseVlans(text);
    if (vlans !== undefined) {
      promise(vlans.untagged.size <= 4094, 'no more than there are');
      for (const vid of vlans.untagged.keys()) promise(vid >= 1 && vid <= 4094, 'a VLAN', vid);
      const again = parseVlans(formatVlans(vlans));
      same(again?.pvid, vlans.pvid, 'the same PVID');
      same([...(again?.untagged ?? [])].sort(), [...vlans.untagged].sort(), 'the same VLANs');
    }
    const ovs = parseOvsBridge(text);
    if (ovs !== undefined) promise(/^\w[\w-]{0,14}$/.test(ovs.bridge), 'a word that ovs-vsctl takes whole', ovs.bridge);
  },
};

const address = fc.oneof(fc.ipV4(), fc.ipV6());
const ADDRESSES: Target = {
  name: 'addresses',
  reads: {
    'network/prefix.ts': ['parsePrefix', 'formatPrefix', 'addressText', 'addressBytes', 'routedPrefix'],
    'network/route-text.ts': ['parseRouteText', 'parseAddress'],
    'binding/target.ts': ['parseTarget'],
    'vif/nat.ts': ['parseNatNetwork'],
  },
  promises: 'what is read has one spelling, which reads the same; its bytes are 4 or 16',
  kind: 'text',
  seeds: fc.oneof(
    fc.tuple(address, fc.nat(130)).map(([a, length]) => `${a}/${length}`),
    fc.tuple(address, fc.nat(40), address, fc.nat()).map(([a, l, b, m]) => `${a}/${l} via ${b} metric ${m}`),
    fc
      .tuple(fc.constantFrom('arp ', 'tcp ', 'tcp [', ''), address, fc.nat(70000))
      .map(([by, a, port]) => `${by}${a}]:${port}`),
  ),
  words: ['default via ', ' via ', ' metric ', 'arp ', 'tcp ', '::ffff:', '::', '%eth0', '/128', '0.0.0.0', '1.2.3.4'],
  run: (input) => {
    const text = textOf(input);
    const prefix = parsePrefix(text);
    if (prefix !== undefined) {
      const bytes = addressBytes(prefix.address);
      promise(bytes.length === (prefix.family === 'ipv4' ? 4 : 16), 'as many bytes as the family has', prefix);
      same(addressText(addressBytes(addressText(bytes))), addressText(bytes), 'one spelling');
      const network = formatPrefix(prefix);
      same(formatPrefix(parsePrefix(network) ?? prefix), network, 'a network reads the same');
      routedPrefix(text);
      parseNatNetwork(text);
    }
    parseAddress(text);
    const route = parseRouteText(text);
    if (route !== undefined) {
      promise(parseRouteText(describeRoute({ ...route, ifindex: 1 })) !== undefined, 'what is described is read', text);
      encodeRoute({ ...route, ifindex: 1 });
    }
    const target = parseTarget(text);
    if (target?.by === 'arp') promise(addressBytes(target.address).length > 0, 'an address', target);
  },
};

const PATTERNS: Target = {
  name: 'patterns',
  share: 0.3,
  reads: { 'vif/pattern.ts': ['parsePattern', 'parseAddressPattern'], 'glob.ts': ['matchesGlob'] },
  promises: 'a match takes no more time than its two lengths allow, and * stands for anything',
  kind: 'text',
  seeds: fc.tuple(fc.string(), fc.string()).map(([pattern, text]) => `${pattern}*\n${text}`),
  words: ['*', '*a', 'a*', '***', '\n', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '10.0.0.0/8', '2001:db8::/32'],
  run: (input) => {
    const [pattern = '', ...rest] = textOf(input).split('\n');
    const text = rest.join('\n');
    const matches = parsePattern(pattern);
    matches?.(text);
    promise(matches === undefined || matches(pattern.replaceAll('*', '')), 'it takes itself', pattern);
    parseAddressPattern(pattern)?.(text);
  },
};

const SENTENCES: Target = {
  name: 'sentences',
  reads: {
    'vif/failure.ts': ['explainKernelError'],
    'vif/hotplug-status.ts': ['errorText'],
    'vif/meaning.ts': ['meaningOf'],
  },
  promises: "the guest's and the kernel's words come out as one printable, clipped line",
  kind: 'text',
  seeds: fc.oneof(
    fc.string(),
    fc.nat(40).map((errno) => `${errno} xenbus: allocating event channel`),
  ),
  words: ['28 ', '7 ', 'connected', 'state', 'hotplug-status'],
  run: (input) => {
    const text = textOf(input);
    sentence(explainKernelError(text));
    promise(!explainKernelError(text).includes('[native code]'), 'a remedy is a sentence');
    sentence(errorText(text));
    promise(errorText(text).length <= 240, 'it fits a node');
    for (const side of ['backend', 'frontend'] as const)
      for (const node of ['state', 'online', 'hotplug-status', '', text.slice(0, 30)])
        sentence(meaningOf(side, node, text));
  },
};

export const NODE_TARGETS = [NODES, VLAN, ADDRESSES, PATTERNS, SENTENCES];
