/** What other programs print: nft, ip, ovs-vsctl, xl, iptables, and the arguments of all that run. */
import fc from 'fast-check';
import { behindInterpreter, recognise } from '../../../src/doctor/command-line.js';
import { parseIptablesPolicy, parseNftChains } from '../../../src/doctor/policies.js';
import { judgeVif } from '../../../src/dom0/connection.js';
import { lookAtVif } from '../../../src/dom0/look.js';
import { planRecovery, shellLine } from '../../../src/dom0/recovery.js';
import { parseXlList, vifLine } from '../../../src/dom0/vif-line.js';
import { VifdError } from '../../../src/errors.js';
import type { Generation } from '../../../src/network/generation.js';
import { TABLES } from '../../../src/network/guard-table.js';
import { parseIpLinks } from '../../../src/network/ip-link.js';
import type { Nft } from '../../../src/network/nft.js';
import { Nftables } from '../../../src/network/nftables.js';
import { describeOvsPort, isInPlace, parseOvsState } from '../../../src/network/ovs-port.js';
import type { XenstoreClient } from '../../../src/xenstore/client.js';
import { promise, sentence, type Target, textOf, typed } from '../target.js';

const json = fc.oneof(fc.json({ maxDepth: 3 }), fc.json({ maxDepth: 6 }));

const NFT: Target = {
  name: 'nft',
  reads: {
    'network/nftables.ts': ['parseState', 'names', 'chainOf'],
    'doctor/policies.ts': ['parseNftChains', 'parseIptablesPolicy'],
  },
  promises:
    "names and chains are words; what is no nft's JSON is as if nothing were there; what is set is set by whole words",
  kind: 'json',
  seeds: json,
  words: ['"nftables"', '"map"', '"elem"', '"rule"', '"vmap"', '-P FORWARD DROP', '-P FORWARD ACCEPT\n'],
  run: async (input) => {
    const out = textOf(input);
    const given: string[] = [];
    const nft = {
      run: async () => ({ code: 0, out, err: '' }),
      transaction: async (lines: readonly string[]) => {
        given.push(...lines);
        return { code: 0, out: '', err: '' };
      },
    } as unknown as Nft;
    const alone = {
      changes: async () => 0,
      transact: (one: () => Promise<void>) => one().then(() => 0),
    } as unknown as Generation;
    const tables = new Nftables(TABLES.bridge, nft, alone);
    for (const name of await tables.names()) promise(typeof name === 'string', 'a name is a word', name);
    const chain = await tables.chainOf('vif5.0', 'now');
    promise(chain === undefined || typeof chain === 'string', 'a chain is a word', chain);
    await tables.set('vif5.0', { chain: 'guard_1', rules: ['accept'] });
    const undone = given.filter((line) => line.startsWith('delete'));
    promise(!undone.some((line) => line.includes(';')), 'no name brings a command with it', undone);
    promise(
      given.every((line) => !line.includes('\n') && !line.includes('[object')),
      'lines of whole words',
      given,
    );
    const chains = parseNftChains(out);
    for (const { family, table, chain: name } of chains ?? [])
      promise(
        [family, table, name].every((word) => typeof word === 'string'),
        'words',
        chains,
      );
    parseIptablesPolicy('ip', out);
  },
};

const IP: Target = {
  name: 'ip-json',
  reads: { 'network/ip-link.ts': ['parseIpLinks'] },
  promises: "numbers by names, and nothing for what is not iproute2's JSON",
  kind: 'json',
  seeds: json,
  words: ['"ifname"', '"stats64"', '"flags"', '"rx"', '"packets"'],
  run: (input) => {
    for (const [name, { rx, tx, carrier, bridgePortState }] of parseIpLinks(textOf(input))) {
      promise(typeof name === 'string' && typeof carrier === 'boolean', 'a name and a carrier', name);
      promise(bridgePortState === undefined || typeof bridgePortState === 'string', 'a word', bridgePortState);
      for (const count of [rx.packets, rx.dropped, tx.packets, tx.dropped])
        promise(typeof count === 'number', 'a counter is a number', count);
    }
  },
};

const OVS: Target = {
  name: 'ovs-json',
  reads: { 'network/ovs-port.ts': ['parseOvsState', 'parseTable', 'isInPlace'] },
  promises: 'ports of words and numbers, or a VifdError: the callers tell no other from a fault of their own',
  kind: 'json',
  seeds: fc.tuple(json, json, json).map((lines) => lines.join('\n')),
  words: ['"headings"', '"data"', '["set",[]]', '["map",[["a","b"]]]', '["uuid","p0"]', '\n'],
  run: (input) => {
    const state = typed(() => parseOvsState(textOf(input)));
    if (state instanceof VifdError) return;
    promise(
      state.bridges.every((name) => typeof name === 'string'),
      'names',
      state.bridges,
    );
    for (const [name, port] of state.ports) {
      promise(typeof name === 'string' && typeof port.bridge === 'string', 'names', port);
      promise(
        [port.ifindex, port.ofport, ...port.vlans.trunks].every((one) => typeof one === 'number'),
        'numbers',
        port,
      );
      promise(
        Object.values(port.ids).every((one) => typeof one === 'string'),
        'ids are words',
        port.ids,
      );
      isInPlace(port, port, port.ifindex);
      describeOvsPort(port);
    }
  },
};

const domain = (domid: number) => ({ domid, name: 'fw' });

const XL: Target = {
  name: 'xl',
  share: 0.5,
  reads: {
    'dom0/vif-line.ts': ['parseXlList', 'vifLine'],
    'dom0/recovery.ts': ['planRecovery', 'shellLine'],
  },
  promises: 'words that a shell takes as they are, or a sentence why there are none',
  kind: 'json',
  seeds: json,
  words: ['"domid":5', '"config"', '"nics"', '"devid":0', '"backend_domname":"fw"', '"trusted":"False"', '100,1'],
  run: (input) => {
    const text = textOf(input);
    const recorded = parseXlList(text, 5);
    for (const [devid, nic] of recorded ?? []) {
      promise(typeof devid === 'number', 'a number', devid);
      promise(nic.backend === undefined || typeof nic.backend === 'string', 'a name', nic);
    }
    const value = text.slice(0, 200);
    for (const name of ['mac', 'bridge', 'rate', 'mtu', 'ip', 'type', value]) {
      const nodes = new Map([
        ['mac', '00:16:3e:01:02:03'],
        [name, value],
      ]);
      const line = vifLine(0, 'fw', nodes, recorded?.get(0));
      if ('why' in line) sentence(line.why);
      else
        for (const word of line.words)
          promise((/^[\x20-\x7e]+$/.test(word) && word.includes('=')) || word === 'untrusted', 'a word', word);
      const lost = { guest: domain(5), devid: 0, nodes, recorded: recorded?.get(0) };
      for (const { why } of planRecovery([lost], domain(1), new Set([5])).left) sentence(why);
    }
    promise(!/^[^']*[;&|$`\n]/.test(shellLine([text])), 'nothing that a shell would do', text);
  },
};

const DOM0: Target = {
  name: 'dom0-nodes',
  reads: { 'dom0/look.ts': ['lookAtVif'], 'dom0/connection.ts': ['judgeVif'] },
  promises: "whatever stands in a vif's nodes, dom0 is told one sentence",
  kind: 'text',
  seeds: fc
    .array(fc.constantFrom('/local/domain/1/backend/vif/5/0', '4', 'connected', 'error', 'no bridge', ''), {
      maxLength: 7,
    })
    .map((all) => all.join('\n')),
  words: ['/local/domain/1/backend/vif/5/0\n', '\nconnected\n', '\nerror\n', '4'],
  run: async (input) => {
    const values = textOf(input).split('\n');
    const store = { readOptional: async () => values.shift() } as unknown as XenstoreClient;
    const sight = await lookAtVif(store, 5, 0);
    if (sight === undefined) return;
    for (const until of ['guest', 'hotplug'] as const) sentence(judgeVif(sight, until).words);
  },
};

const ARGUMENTS: Target = {
  name: 'command-lines',
  reads: { 'doctor/command-line.ts': ['recognise', 'behindInterpreter'] },
  promises: 'only what is plainly one of two programs is taken for it',
  kind: 'text',
  seeds: fc
    .array(fc.constantFrom('node', 'vifd', '/usr/bin/vifd', 'xl', 'devd', 'run', '-c', '--config=x', '-cfile', '--'), {
      maxLength: 6,
    })
    .map((all) => `${all.join('\0')}\0`),
  words: ['vifd\0run\0', 'xl\0devd\0', 'node\0', '--config\0', '-c', '\0'],
  run: (input) => {
    const argv = textOf(input).split('\0').slice(0, -1);
    const found = recognise({ pid: 7, argv, isSelf: argv.length % 2 === 1 });
    promise(found === undefined || argv.includes(found.command.split(' ')[1] ?? ''), 'its command stands there', argv);
    behindInterpreter(argv);
  },
};

export const PROGRAM_TARGETS = [NFT, IP, OVS, XL, DOM0, ARGUMENTS];
