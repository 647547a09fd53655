/** The time line without xenstore, kernel or agent: what it makes of what was seen, and of records of any kind. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { VifdError } from '../../src/errors.js';
import { AgentSource } from '../../src/monitor/agent-source.js';
import { Arrivals } from '../../src/monitor/arrivals.js';
import type { Entry, LinkSeen } from '../../src/monitor/entry.js';
import { formatEvent, formatJson } from '../../src/monitor/format.js';
import { KernelSource } from '../../src/monitor/kernel-source.js';
import { entryLine, headerLine, parseEntryLine, parseHeader } from '../../src/monitor/record.js';
import { readRecord } from '../../src/monitor/record-file.js';
import { Recorder } from '../../src/monitor/recorder.js';
import { Timeline } from '../../src/monitor/timeline.js';
import { parseUevent, type Uevent } from '../../src/network/uevent.js';
import { temporaryDirectory, until } from '../store/support.js';

const link = (more: Partial<LinkSeen>): LinkSeen => ({
  ifindex: 7,
  ifname: 'vif5.0',
  up: false,
  carrier: false,
  address: 'fe:ff:ff:ff:ff:ff',
  mtu: 1500,
  txqlen: 32,
  master: 0,
  kind: '',
  parentDev: '',
  ...more,
});
const BRIDGE = link({ ifindex: 3, ifname: 'br0', up: true, carrier: true, txqlen: 1000, kind: 'bridge' });
/** The text of all that these make, without the time. */
const told = (...entries: Entry[]) => {
  const timeline = new Timeline();
  const time = '1970-01-01T00:00:00.000Z';
  const lines = entries.flatMap((entry) =>
    timeline.take(0, entry).map((one) => formatEvent({ version: 1, time, ...one })),
  );
  return lines.map((line) => line.slice(14));
};
const links = (...seen: [change: 'present' | 'new' | 'gone', more: Partial<LinkSeen>][]) =>
  told(...seen.map(([change, more]): Entry => ({ source: 'link', change, link: link(more) })));

describe('links', () => {
  test.each<[string, Parameters<typeof links>, string[]]>([
    [
      'no change',
      [
        ['new', {}],
        ['new', {}],
      ],
      ['link    vif5.0  made: down, no carrier, mtu 1500, qlen 32'],
    ],
    [
      'others',
      [
        ['new', { ifname: 'eth0' }],
        ['new', { ifname: 'eth0', up: true }],
        ['gone', { ifname: 'eth0' }],
      ],
      [],
    ],
    ['an emulated card', [['new', { ifname: 'vif5.0-emu' }]], []],
    [
      'everything at once',
      [
        ['present', BRIDGE],
        ['present', {}],
        ['new', { ifname: 'web', up: true, carrier: true, mtu: 1400, txqlen: 1000, master: 3, address: '0' }],
        ['new', { ifname: 'web' }],
      ],
      [
        'link    vif5.0  is here: down, no carrier, mtu 1500, qlen 32',
        'link    vif5.0 (web)  renamed from vif5.0, up, carrier, mtu 1500 -> 1400, qlen 32 -> 1000, joined br0, address fe:ff:ff:ff:ff:ff -> 0',
        'link    br0     is here: up, carrier, mtu 1500, qlen 1000',
        'link    vif5.0 (web)  down, no carrier, mtu 1400 -> 1500, qlen 1000 -> 32, left br0, address 0 -> fe:ff:ff:ff:ff:ff',
      ],
    ],
    [
      'a bridge that comes later in the list, changes and goes',
      [
        ['present', { master: 3 }],
        ['present', BRIDGE],
        ['new', { ...BRIDGE, mtu: 1400 }],
        ['gone', BRIDGE],
      ],
      [
        'link    vif5.0  is here: down, no carrier, mtu 1500, qlen 32, in if3',
        'link    br0     is here: up, carrier, mtu 1500, qlen 1000',
        'link    br0     mtu 1500 -> 1400',
        'link    br0     gone',
      ],
    ],
    [
      'a vif under another name, by the device behind it',
      [['present', { ifname: 'web', parentDev: 'vif-5-0', carrier: undefined }]],
      ['link    vif5.0 (web)  is here: down, mtu 1500, qlen 32'],
    ],
  ])('%s', (_, seen, expected) => expect(links(...seen)).toEqual(expected));

  test('a vif under another name, by the name that dom0 wants', () => {
    const named: Entry = { source: 'store', path: 'backend/vif/5/0/vifname', value: 'web' };
    const seen: Entry = { source: 'link', change: 'present', link: link({ ifname: 'web' }) };
    expect(told(named, seen)[1]).toMatch(/^link {4}vif5\.0 \(web\) {2}is here/);
  });
});

describe('uevents', () => {
  const bytes = (text: string) => Buffer.from(text.replaceAll('|', '\0'));
  const ONLINE =
    'online@/devices/vif-5-0|ACTION=online|SUBSYSTEM=xen-backend|XENBUS_PATH=backend/vif/5/0|vif=web|a=b=c|';

  test('of the kernel', () =>
    expect(parseUevent(bytes(ONLINE))).toEqual({
      action: 'online',
      devpath: '/devices/vif-5-0',
      env: { ACTION: 'online', SUBSYSTEM: 'xen-backend', XENBUS_PATH: 'backend/vif/5/0', vif: 'web', a: 'b=c' },
    }));
  test.each(['', 'libudev|\xfe\xed', 'online', '@/devices', 'ONLINE@/x', 'online@x'])('not of it: %j', (text) =>
    expect(parseUevent(bytes(text))).toBeUndefined(),
  );
  test('any bytes', () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => void parseUevent(noise)),
      { numRuns: 1000 },
    ));

  const shown = (text: string) => told({ source: 'uevent', ...(parseUevent(bytes(text)) as Uevent) });
  test.each([
    [ONLINE, ['uevent  vif5.0  online  the interface web is there: a hotplug script would begin here']],
    ['remove@/devices/vif-5-0|', ['uevent  vif5.0  remove  the kernel has forgotten the vif']],
    ['add@/devices/vbd-5-0|XENBUS_PATH=backend/vbd/5/0|', []],
    ['add@/devices/x|XENBUS_PATH=backend/vif/05/0|', []],
    ['odd@/devices/vif-5-0|', ['uevent  vif5.0  odd']],
  ])('%s', (text, expected) => expect(shown(text)).toEqual(expected));
});

describe("the agent's log", () => {
  test.each<[Record<string, unknown>, string]>([
    [{ level: 'info', msg: 'ready', domid: '5' }, 'vifd    -       ready'],
    [
      { level: 'error', msg: 'no "x"', domid: 5, devid: 0, attach: '1a2b-3' },
      'vifd    vif5.0  error: no "x"  [attach 1a2b-3]',
    ],
    [{ msg: 'a\n\x1b[2J\u202e', attach: '\x9b' }, 'vifd    -       a\\u000a\\u001b[2J\\u202e  [attach \\u009b]'],
    [{ msg: 7, level: {} }, 'vifd    -'],
  ])('%j', (record, expected) => expect(told({ source: 'vifd', record })).toEqual([expected]));

  test('is followed from one agent to the next, and what is missing is said once', async () => {
    const said: string[] = [];
    const arrivals = new Arrivals((_, entry) => {
      if (entry.source !== 'monitor' && entry.source !== 'vifd') return;
      said.push(entry.source === 'monitor' ? entry.text : String(entry.record.msg));
    });
    const answers = [undefined, undefined, ['{"msg":"one"}', 'no JSON', '[]'], undefined, ['{"msg":"two"}']];
    const abort = new AbortController();
    onTestFinished(() => abort.abort());
    async function* follow(): AsyncGenerator<string> {
      const answer = answers.shift();
      if (answer === undefined) throw new Error('no vifd answers');
      yield* answer;
    }
    await new AgentSource(follow, arrivals, abort.signal, 5).start();
    expect(said).toEqual(["the agent's decisions are not shown: no vifd answers"]);
    await until(() => said.includes('two'));
    expect(said.filter((text) => !/has ended/.test(text)).slice(0, 5)).toEqual([
      "the agent's decisions are not shown: no vifd answers",
      "the agent's decisions are shown from here on",
      'one',
      "the agent's decisions are not shown: no vifd answers",
      "the agent's decisions are shown from here on",
    ]);
  });
});

test('without the right to listen to the kernel that is said once, and nothing waits for it', async () => {
  const said: string[] = [];
  const arrivals = new Arrivals((_, entry) => void said.push(entry.source === 'monitor' ? entry.text : ''));
  const script = 'echo failed uevent EPERM; echo listening link; exec sleep 30 <&0';
  const kernel = new KernelSource(['link', 'uevent'], ['sh', '-c', script], arrivals);
  onTestFinished(() => kernel.stop());
  await kernel.start();
  expect(said).toEqual(["the kernel's uevents are not shown: EPERM"]);
  const none = new KernelSource(['link'], ['/nonexistent/vifd'], arrivals);
  onTestFinished(() => none.stop());
  await none.start();
  expect(said.slice(1)).toEqual(['link changes are not shown: spawn /nonexistent/vifd ENOENT']);
});

describe('a record', () => {
  const HEADER = { version: 1, vifd: '0.1.0', kernel: '6.1.0', start: '2026-01-02T03:04:05.000Z' };
  const ENTRY: Entry = { source: 'store', path: 'backend/vif/5/0/state', value: '2' };
  const read = async (text: string) => {
    const path = join(temporaryDirectory(), 'r');
    writeFileSync(path, text);
    const [entries, warnings]: [{ at: number; entry: Entry }[], string[]] = [[], []];
    for await (const one of readRecord(path, (warning) => void warnings.push(warning.replaceAll(path, 'FILE'))))
      entries.push(one);
    return { entries, warnings };
  };
  const good = entryLine(12, ENTRY);

  test('what is written can be read', async () => {
    const entries: Entry[] = [
      ENTRY,
      { source: 'store', path: 'backend/vif/5/0', value: null },
      { source: 'link', change: 'gone', link: link({}) },
      { source: 'uevent', action: 'add', devpath: '/devices/vif-5-0', env: { a: '\x1b' } },
      { source: 'vifd', record: { msg: 'm', did: ['x'] } },
      { source: 'monitor', level: 'warn', text: 't' },
    ];
    const text = headerLine(HEADER) + entries.map((entry, i) => entryLine(i, entry)).join('');
    expect(text).toMatch(/^[\n -~]+$/);
    expect(parseHeader(text.split('\n')[0] ?? '')).toEqual(HEADER);
    const start = Date.parse(HEADER.start);
    expect(await read(text)).toEqual({ entries: entries.map((entry, i) => ({ at: start + i, entry })), warnings: [] });
  });

  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
  const store = { source: 'store', path: 'p', value: null };
  test.each<[string, RegExp]>([
    ['[]', /^is no JSON object$/],
    ['{"ms":1', /^is no JSON object$/],
    [JSON.stringify({ ms: '1', ...store }), /^has ms = "\\"1\\""; expected a whole number/],
    [JSON.stringify({ ms: -1, ...store }), /expected a whole number/],
    ['{"ms":1e300,"source":"store"}', /expected a whole number/],
    [JSON.stringify({ ms: 1, ...store, value: 5 }), /^has nothing that this vifd knows \(source = "\\"store\\""\)$/],
    [JSON.stringify({ ms: 1, source: '\x1b[31m' }), /^[ -~]+$/],
    [JSON.stringify({ ms: 1, source: 'constructor' }), /^has nothing that this vifd knows/],
    [JSON.stringify({ ms: 1, source: 'link', change: 'new', link: { ...link({}), mtu: '1500' } }), /^has nothing/],
    [JSON.stringify({ ms: 1, source: 'uevent', action: 'add', devpath: '/', env: { a: 1 } }), /^has nothing/],
    [JSON.stringify({ ms: 1, source: 'vifd', record: 'x' }), /^has nothing/],
    [JSON.stringify({ ms: 1, source: 'monitor', level: 'fatal', text: 't' }), /^has nothing/],
  ])('a line that is none: %j', (line, expected) => expect(parseEntryLine(line)).toMatch(expected));

  test('a line that is nested too deeply for those who show it', () => {
    const record = (depth: number) => `{"ms":1,"source":"vifd","record":{"msg":"m","x":${nested(depth)}}}`;
    expect(parseEntryLine(record(100_000))).toBe('is nested more than 32 deep');
    expect(parseEntryLine(record(31))).toBe('is nested more than 32 deep');
    expect(parseEntryLine(record(30))).toMatchObject({ ms: 1 });
    expect(parseEntryLine(`{"ms":${nested(100_000)},"source":"store"}`)).toBe('is nested more than 32 deep');
  });

  test('only what is unreadable is lost, and named by its line', async () => {
    const { entries, warnings } = await read(
      `${headerLine(HEADER)}${good}nonsense\n${good}${'x'.repeat(600_000)}\n${good}{"ms":1,"source":"tea"}\n${good}{"ms":3,"sou`,
    );
    expect(entries).toHaveLength(4);
    expect(warnings).toEqual([
      'line 3 of FILE is no JSON object; it is left out',
      'line 5 of FILE is longer than 262144 characters; it is left out',
      'line 7 of FILE has nothing that this vifd knows (source = "\\"tea\\""); it is left out',
      'line 9 of FILE is cut off: the recording ended there; nothing else is lost',
    ]);
  });

  test('of a newer version it is read as far as it can be', async () => {
    const { entries, warnings } = await read(headerLine({ ...HEADER, version: 2, vifd: '9\x1b' }) + good);
    expect(entries).toHaveLength(1);
    expect(warnings).toEqual([
      'line 1 of FILE: the record has version 2, written by vifd "9\\u001b"; this vifd knows version 1 and shows what it can read',
    ]);
  });

  test('thousands of bad lines are not thousands of sentences', async () => {
    const { warnings } = await read(`${headerLine(HEADER)}${'x\n'.repeat(5000)}`);
    expect(warnings).toHaveLength(11);
    expect(warnings[10]).toBe('4990 more lines of FILE are left out');
  });

  test.each(['noon', '+275760-09-13T00:00:00.000Z', '-000001-01-01T00:00:00.000Z', ''])(
    'a start that is no time: %j',
    async (start) => {
      const { entries, warnings } = await read(headerLine({ ...HEADER, start }) + good);
      expect(entries).toEqual([{ at: 12, entry: ENTRY }]);
      expect(warnings).toEqual([
        `line 1 of FILE has start = "${start}"; expected a time from 1970 to 9998. Times count from 00:00:00`,
      ]);
    },
  );

  test.each(['', '\n', 'x', good, '{"format":"vifd monitor record"}\n', 'x'.repeat(600_000)])(
    'a file that is none is refused: %.20j',
    async (text) => expect(read(text)).rejects.toThrow(/is no record of vifd monitor: .*--record FILE/),
  );

  test('any bytes behind the header', () =>
    fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary' }), fc.json(), async (noise, json) => {
        const { entries } = await read(`${headerLine(HEADER)}${noise}\n${json}\n${good}`);
        expect(entries.at(-1)?.entry).toEqual(ENTRY);
      }),
      { numRuns: 50 },
    ));

  /** What is written, with a value of it replaced by any other; times, numbers and depths of any size among them. */
  const spoilt = (line: object) => {
    const values = [fc.json(), fc.integer(), fc.double(), fc.nat(99_999).map(nested)];
    const starts = fc.date({ noInvalidDate: true }).map((date) => JSON.stringify(date.toISOString()));
    return fc
      .tuple(fc.constantFrom(...Object.keys(line)), fc.oneof(starts, ...values))
      .map(([key, value]) => JSON.stringify({ ...line, [key]: '@' }).replace('"@"', String(value)));
  };
  const lines: object[] = [
    { ms: 1, ...store },
    { ms: 1, source: 'uevent', action: 'online', devpath: '/devices/vif-5-0', env: { vif: 'vif5.0' } },
    { ms: 1, source: 'link', change: 'new', link: link({}) },
    { ms: 1, source: 'vifd', record: { level: 'info', domid: 5, devid: 0, msg: 'm' } },
    { ms: 1, source: 'monitor', level: 'warn', text: 't' },
  ];
  test('whatever is in it, each line is shown or named', () =>
    fc.assert(
      fc.asyncProperty(
        spoilt({ ...JSON.parse(headerLine(HEADER)), format: undefined }),
        fc.array(fc.oneof(...lines.map(spoilt)), { maxLength: 8 }),
        async (header, body) => {
          const head = header.replace('{', '{"format":"vifd monitor record",');
          const timeline = new Timeline();
          const { entries, warnings } = await read([head, ...body, good].join('\n')).catch((error: VifdError) => {
            expect(error.code).toBe('ERECORD');
            return { entries: [], warnings: body };
          });
          expect(entries.length + warnings.length).toBeGreaterThanOrEqual(body.length);
          for (const { at, entry } of entries)
            for (const one of timeline.take(at, entry)) {
              const event = { version: 1, time: new Date(at).toISOString(), ...one } as const;
              expect(formatEvent(event)).toMatch(/^\d\d:\d\d:\d\d\.\d{3} {2}[ -~]*$/);
              expect(JSON.parse(formatJson(event))).toMatchObject({ source: entry.source });
            }
        },
      ),
    ));

  test('a file that is not there, and a directory', async () => {
    const all = async (path: string) => {
      for await (const _ of readRecord(path, () => undefined));
    };
    await expect(all('/nonexistent/r')).rejects.toThrow('the record /nonexistent/r cannot be read (ENOENT)');
    await expect(all('/')).rejects.toThrow('the record / cannot be read (EISDIR)');
  });

  const create = (path: string, max: number) => {
    const ends: string[] = [];
    const recorder = Recorder.create(path, '0.1.0', max, (why) => void ends.push(why));
    onTestFinished(() => recorder.close());
    return { recorder, ends };
  };

  test("is its owner's alone, and never written over another file", () => {
    const path = join(temporaryDirectory(), 'r');
    create(path, 10_000);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(() => create(path, 10_000)).toThrow(/^the record \S+ is there already and is not overwritten; name another/);
    expect(() => create('/nonexistent/r', 1)).toThrow(/^the record \/nonexistent\/r cannot be made \(ENOENT\); name/);
  });

  test('ends before it is too large, with whole lines and one sentence', async () => {
    const path = join(temporaryDirectory(), 'r');
    const { recorder, ends } = create(path, 1000);
    for (let i = 0; i < 100; i++) recorder.write(Date.now(), ENTRY);
    const text = readFileSync(path, 'utf8');
    expect(text.length).toBeLessThanOrEqual(1000);
    expect(text.length).toBeGreaterThan(900);
    expect((await read(text)).warnings).toEqual([]);
    expect(ends).toEqual([
      `the record ${path} is as large as --record-max allows (1000 bytes) and ends here; the monitor goes on without it`,
    ]);
  });
});
