/** What the kernel answers over netlink, and says by itself. */
import fc from 'fast-check';
import * as attributes from '../../../src/network/attributes.js';
import { parsePortSettings } from '../../../src/network/bridge-port.js';
import { parseBridgeSettings } from '../../../src/network/bridge-settings.js';
import { encodeVlans, type PortVlans, parsePortVlans, sameVlans } from '../../../src/network/bridge-vlan.js';
import { parseIpv4Conf, parseIpv6Conf } from '../../../src/network/devconf.js';
import { encodeSetFeatures, featureChange, parseFamilyId, parseFeatures } from '../../../src/network/ethtool.js';
import { parseGeneration } from '../../../src/network/generation.js';
import { KernelEvents } from '../../../src/network/kernel-events.js';
import { parseMonitorLine } from '../../../src/network/link-monitor.js';
import { encodeNeighbour, parseNeighbour } from '../../../src/network/neighbours.js';
import { eachMessage, NetlinkSocket } from '../../../src/network/netlink.js';
import { addressBytes, formatPrefix } from '../../../src/network/prefix.js';
import * as routes from '../../../src/network/routes.js';
import * as rtnetlink from '../../../src/network/rtnetlink.js';
import { parseUevent } from '../../../src/network/uevent.js';
import { bytesOf, promise, same, type Target, textOf, typedLater } from '../target.js';

/** Attributes of types that mean something somewhere, one level within another. */
const value: fc.Arbitrary<number | string | Uint8Array> = fc.oneof(
  fc.nat(0xffffffff),
  fc.constantFrom('bridge', 'vif5.0', 'vif-5-0', ''),
  fc.uint8Array({ maxLength: 20 }),
);
const flat = fc.array(fc.tuple(fc.nat(60), value), { maxLength: 6 });
const nested = fc.array(fc.tuple(fc.nat(60), fc.oneof(value, flat)), { maxLength: 6 });
const withHead = (size: number, tail: fc.Arbitrary<readonly attributes.Attribute[]>): fc.Arbitrary<Uint8Array> =>
  fc
    .tuple(fc.uint8Array({ minLength: size, maxLength: size }), tail)
    .map(([head, inner]) => Buffer.concat([head, attributes.encodeAttributes(inner)]));

function listed(bytes: Uint8Array): [type: number, payload: Uint8Array][] {
  const all: [number, Uint8Array][] = [];
  attributes.eachAttribute(bytes, (type, payload) => all.push([type, payload]));
  return all;
}

const ATTRIBUTES: Target = {
  name: 'attributes',
  reads: {
    'network/attributes.ts': ['parseAttributes', 'eachAttribute', 'bytesString'],
    'network/generation.ts': ['parseGeneration'],
  },
  promises:
    'views of the bytes that are there, and no more of them than there are bytes; encoded again they are the same',
  kind: 'attributes',
  seeds: withHead(0, nested),
  run: (input) => {
    const all = listed(input);
    promise(
      all.every(([, payload]) => payload.buffer === input.buffer),
      'nothing is copied',
    );
    promise(all.reduce((sum, [, payload]) => sum + payload.length + 4, 0) <= input.length, 'no more than is there');
    const again = listed(attributes.encodeAttributes(all));
    same(
      again.map(([type, payload]) => [type, [...payload]]),
      all.map(([type, payload]) => [type, [...payload]]),
      'the same',
    );
    const map = attributes.parseAttributes(input);
    for (const type of map.keys()) attributes.attributeString(map, type);
    const id = parseGeneration(input);
    promise(id === undefined || (id >= 0 && id <= 0xffffffff), 'a number of 32 bits', id);
  },
};

const LINKS: Target = {
  name: 'links',
  share: 0.5,
  reads: {
    'network/rtnetlink.ts': ['parseLink', 'parseAddress', 'prefixOf'],
    'network/bridge-port.ts': ['parsePortSettings'],
    'network/bridge-settings.ts': ['parseBridgeSettings'],
    'network/devconf.ts': ['parseIpv4Conf', 'parseIpv6Conf'],
  },
  promises: 'a link of strings and numbers, or none',
  kind: 'attributes',
  seeds: withHead(16, nested),
  words: ['bridge\0', 'vif5.0\0'],
  run: (input) => {
    const link = rtnetlink.parseLink(input);
    promise((link === undefined) === input.length < 16, 'a link, or too short for one');
    if (link !== undefined) {
      for (const name of ['ifindex', 'mtu', 'txqlen', 'master', 'lower'] as const)
        promise(Number.isInteger(link[name]), `${name} is a whole number`, link[name]);
      promise(link.address.length <= 3 * input.length && link.alias.length <= input.length, 'no longer than the bytes');
    }
    const map = attributes.parseAttributes(input.subarray(16));
    parsePortSettings(map);
    parseBridgeSettings(map);
    parseIpv4Conf(map);
    parseIpv6Conf(map);
    const address = rtnetlink.parseAddress(input);
    if (address === undefined) return;
    const prefix = rtnetlink.prefixOf(address);
    same(addressBytes(prefix.address), new Uint8Array(address.bytes), 'an address is its bytes');
    formatPrefix(prefix);
    rtnetlink.encodeDeleteAddress(address);
  },
};

const prefix = fc.constantFrom(
  { family: 'ipv4', address: '10.1.2.0', length: 24 } as const,
  { family: 'ipv6', address: '2001:db8::', length: 48 } as const,
);
const ROUTES: Target = {
  name: 'routes',
  reads: {
    'network/routes.ts': ['parseRoute', 'parseRule', 'parseProxy'],
    'network/neighbours.ts': ['parseNeighbour'],
  },
  promises: 'what is read can be described, compared and asked for again: encoded and parsed it is the same',
  kind: 'attributes',
  seeds: fc.oneof(
    withHead(12, flat),
    fc
      .tuple(prefix, fc.nat(99))
      .map(([destination, ifindex]) => routes.encodeRoute({ destination, ifindex, metric: 5 })),
    prefix.map((from) => routes.encodeRule({ from, table: 100, priority: 30000, skipDefault: true })),
    prefix.map(({ address }) => routes.encodeProxy({ address, ifindex: 3 })),
    prefix.map(({ address }) => encodeNeighbour(3, address)),
  ),
  run: (input) => {
    const view = attributes.viewOf(input);
    const prefixes = [
      routes.parseRoute(input)?.destination ?? ({ family: 'ipv4', address: '10.1.2.0', length: 24 } as const),
    ];
    const keeps = [routes.isRouteOf({ ifindex: 3 }), routes.isRuleOf(prefixes), routes.isProxyOf(prefixes)];
    for (const keep of [...keeps, rtnetlink.isAddressOf(3)]) keep(view, 0, input.length);
    const route = routes.parseRoute(input);
    if (route !== undefined) {
      routes.describeRoute(route);
      promise(routes.isSameRoute(route, route) || route.metric === 0, 'it is itself', route);
      same(described(routes.parseRoute(routes.encodeRoute(route))), described(route), 'the same route');
    }
    const rule = routes.parseRule(input);
    if (rule !== undefined) {
      const again = routes.parseRule(routes.encodeRule(rule));
      same(
        again && { ...again, from: formatPrefix(again.from) },
        { ...rule, from: formatPrefix(rule.from) },
        'the same rule',
      );
    }
    const proxy = routes.parseProxy(input);
    if (proxy !== undefined)
      same(routes.parseProxy(routes.encodeProxy(proxy))?.address, proxy.address, 'the same address');
    const neighbour = parseNeighbour(input);
    if (neighbour !== undefined) addressBytes(neighbour.address);
  },
};

const described = (route: routes.SeenRoute | undefined) =>
  route && { ...route, destination: formatPrefix(route.destination) };

const VLAN_LISTS: Target = {
  name: 'bridge-vlans',
  share: 0.5,
  reads: { 'network/bridge-vlan.ts': ['parsePortVlans'] },
  promises: 'at most 4094 VLANs in bounded time; encoded and parsed they are the same',
  kind: 'attributes',
  seeds: fc
    .array(fc.tuple(fc.integer({ min: 1, max: 4094 }), fc.boolean()), { maxLength: 40 })
    .map((all): PortVlans => ({ pvid: all[0]?.[0], untagged: new Map(all) }))
    .map((vlans) => encodeVlans(3, vlans)),
  run: (input) => {
    const port = parsePortVlans(input);
    if (port === undefined) return;
    const { vlans } = port;
    promise(vlans.untagged.size <= 4094, 'no more than there are', vlans.untagged.size);
    for (const vid of vlans.untagged.keys()) promise(vid >= 1 && vid <= 4094, 'a VLAN', vid);
    if (vlans.untagged.size > 200) return; // enough of them
    const again = parsePortVlans(encodeVlans(port.ifindex, vlans)); // the PVID's tag is its own
    promise(again !== undefined && sameVlans(again.vlans, vlans), 'the same VLANs');
  },
};

const bit = (name: string, on: boolean): attributes.Attribute => [
  1,
  [[2, name], ...(on ? [[3, new Uint8Array(0)] as const] : [])],
];
const FEATURES: Target = {
  name: 'ethtool',
  reads: { 'network/ethtool.ts': ['parseFeatures', 'parseFamilyId', 'bitNames'] },
  promises: 'sets of names; what is asked for on their account is a message',
  kind: 'attributes',
  seeds: fc
    .array(fc.tuple(fc.constantFrom('rx-gro', 'tx-checksum-ipv4', 'x'), fc.boolean()), { maxLength: 6 })
    .map((bits) => {
      const set: attributes.Attribute[] = [[3, bits.map(([name, on]) => bit(name, on))]];
      return Buffer.concat([
        Uint8Array.of(11, 1, 0, 0),
        attributes.encodeAttributes([
          [2, set],
          [3, set],
          [4, set],
        ]),
      ]);
    }),
  run: (input) => {
    const features = parseFeatures(input);
    for (const set of [features.wanted, features.unwanted, features.active])
      for (const name of set) promise(name.length <= input.length, 'a name out of the bytes');
    encodeSetFeatures(3, featureChange({ txChecksum: false, gro: true }, features));
    const id = parseFamilyId(input);
    promise(id === undefined || (id >= 0 && id < 65536), 'a message type', id);
  },
};

const message = fc.tuple(fc.constantFrom(2, 3, 16, 17), fc.nat(3), withHead(16, nested)).map(([type, seq, payload]) => {
  const head = Buffer.alloc(16);
  head.writeUInt32LE(16 + payload.length, 0);
  head.writeUInt16LE(type, 4);
  head.writeUInt32LE(seq, 8);
  return Buffer.concat([head, payload, Buffer.alloc(-payload.length & 3)]);
});

/** What NetlinkSocket takes for the kernel. */
interface Socket {
  receive(bytes: Uint8Array): void;
  open(): { send(): void; close(): void };
}

const MESSAGES: Target = {
  name: 'netlink',
  share: 0.4,
  reads: { 'network/netlink.ts': ['eachMessage', 'receive', 'take', 'errnoOf'] },
  promises:
    'no message longer than the datagram; a request ends with answers or a NetlinkError, and nothing is thrown out',
  kind: 'attributes',
  seeds: fc.array(message, { maxLength: 4 }).map((all) => Buffer.concat(all)),
  run: async (input) => {
    const all = [...eachMessage(input)];
    const kept = [...eachMessage(input, (_, start, end) => end - start > 20)];
    promise(
      kept.length === all.filter(({ type, payload }) => type < 16 || payload.length > 20).length,
      'those that are to be kept, and all that end a list',
    );
    promise(all.reduce((sum, { payload }) => sum + 16 + payload.length, 0) <= input.length, 'no more than is there');
    const socket = new NetlinkSocket(0);
    const inner = socket as unknown as Socket;
    inner.open = () => ({ send: () => undefined, close: () => undefined });
    const asked = (['one', 'dump', 'ack'] as const).map((expect) =>
      typedLater(() => socket.request({ type: 18, payload: new Uint8Array(0), expect, op: 'get-link', ifname: 'x' })),
    );
    inner.receive(input);
    inner.receive(input);
    socket.close();
    await Promise.all(asked);
  },
};

const UEVENTS: Target = {
  name: 'uevents',
  reads: {
    'network/uevent.ts': ['parseUevent'],
    'network/kernel-events.ts': ['onLine', 'onUevent', 'onLink'],
    'network/link-monitor.ts': ['parseMonitorLine'],
  },
  promises: 'an event of strings, or none; names that stand in the line; any line of the child is heard or passed over',
  kind: 'text',
  seeds: fc.oneof(
    fc
      .tuple(fc.constantFrom('online', 'add', 'remove'), fc.array(fc.tuple(fc.string(), fc.string()), { maxLength: 4 }))
      .map(([action, env]) => `${action}@/devices/vif-5-0\0${env.map(([a, b]) => `${a}=${b}\0`).join('')}`),
    fc.tuple(fc.nat(9), fc.string()).map(([index, name]) => `${index}: ${name}@if6: <BROADCAST,UP> mtu 1500`),
    fc
      .tuple(fc.constantFrom('link 16', 'uevent -', 'failed link', 'listening uevent'), fc.base64String())
      .map((all) => all.join(' ')),
  ),
  words: ['Deleted ', ': ', ': <', '@', 'vif5.0', 'XENBUS_PATH=backend/vif/5/0\0', 'link 17 ', 'uevent - '],
  run: (input) => {
    const event = parseUevent(input);
    if (event !== undefined)
      promise(
        Object.values(event.env).every((one) => typeof one === 'string'),
        'an environment of strings',
        event,
      );
    const text = textOf(input);
    for (const name of parseMonitorLine(text)) promise(text.includes(name), 'a name out of the line', name);
    const heard = {
      onLink: () => undefined,
      onUevent: () => undefined,
      onListening: () => undefined,
      onMissing: () => undefined,
    };
    const events = new KernelEvents(['link', 'uevent'], ['true'], heard) as unknown as {
      onLine(words: string[]): void;
    };
    for (const line of text.split('\n')) events.onLine(line.split(' '));
    events.onLine(['link', '16', Buffer.from(bytesOf(input)).toString('base64')]);
  },
};

export const KERNEL_TARGETS = [ATTRIBUTES, LINKS, ROUTES, VLAN_LISTS, FEATURES, MESSAGES, UEVENTS];
