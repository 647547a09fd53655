/** What comes in pieces: records of a monitor, the status socket's two ends, the scripts' FIFO, the log, and metrics. */
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { pino } from 'pino';
import { VifdError } from '../../../src/errors.js';
import { journalLine, withPriority } from '../../../src/logger.js';
import { type Entry, parseEntry } from '../../../src/monitor/entry.js';
import { formatEvent, formatJson } from '../../../src/monitor/format.js';
import { entryLine, headerLine, parseEntryLine, parseHeader } from '../../../src/monitor/record.js';
import { readRecord } from '../../../src/monitor/record-file.js';
import { Timeline } from '../../../src/monitor/timeline.js';
import { formatFamilies, vifFamilies, withoutFamilies } from '../../../src/service/metrics-text.js';
import { formatAnswer, parseRequest } from '../../../src/service/script-protocol.js';
import { StatusSocket, statusSocketPath } from '../../../src/service/status-socket.js';
import { askAgent } from '../../../src/service/status-socket-client.js';
import { promise, same, sentence, type Target, textOf, typedLater } from '../target.js';
import { directory, fileOf } from './files.js';

const HEADER = headerLine({ version: 1, vifd: '0.1.0', kernel: '6.1', start: '2026-01-02T03:04:05.000Z' });
const link = {
  ifindex: 7,
  ifname: 'vif5.0',
  up: true,
  address: 'fe:ff:ff:ff:ff:ff',
  mtu: 1500,
  txqlen: 32,
  master: 3,
  kind: '',
  parentDev: '',
};
const entry: fc.Arbitrary<Entry> = fc.oneof(
  fc.record({
    source: fc.constant('store' as const),
    path: fc.constantFrom('backend/vif/5/0/state', 'backend/vif/5/0', '/local/domain/5/device/vif/0/state'),
    value: fc.oneof(fc.string(), fc.constant(null)),
  }),
  fc.record({
    source: fc.constant('uevent' as const),
    action: fc.string(),
    devpath: fc.constant('/devices/vif-5-0'),
    env: fc.dictionary(fc.string(), fc.string()),
  }),
  fc.record({
    source: fc.constant('link' as const),
    change: fc.constantFrom('present' as const, 'new' as const, 'gone' as const),
    link: fc.record({
      ...Object.fromEntries(Object.entries(link).map(([name, one]) => [name, fc.constant(one)])),
      ifname: fc.string(),
      master: fc.nat(4),
    }) as unknown as fc.Arbitrary<typeof link>,
  }),
  fc.record({
    source: fc.constant('vifd' as const),
    record: fc.dictionary(fc.constantFrom('level', 'msg', 'domid', 'devid', 'attach'), fc.jsonValue()),
  }),
);
const entries = fc
  .array(fc.tuple(fc.nat(5000), entry), { maxLength: 6 })
  .map((all) => HEADER + all.map(([ms, one]) => entryLine(ms, one)).join(''));

const RECORDS: Target = {
  name: 'records',
  share: 0.2,
  reads: {
    'monitor/record.ts': ['parseHeader', 'parseEntryLine'],
    'monitor/entry.ts': ['parseEntry'],
    'monitor/timeline.ts': ['take', 'parsePlace'],
    'monitor/format.ts': ['formatEvent'],
  },
  promises: 'an entry that is written as it was read, or the reason; events of printable lines',
  kind: 'json',
  seeds: entries,
  words: ['"source":"store"', '"ms":', '"link"', 'null', '\n'],
  run: (input) => {
    const timeline = new Timeline();
    const [first = '', ...lines] = textOf(input).split('\n');
    parseHeader(first);
    // Each line costs the same, and a file may have any number of them.
    for (const line of lines.slice(0, 5_000)) {
      const read = parseEntryLine(line);
      if (typeof read === 'string') {
        sentence(read);
        continue;
      }
      const written = entryLine(read.ms, read.entry);
      const again = parseEntryLine(written.trimEnd());
      promise(
        typeof again !== 'string' && entryLine(again.ms, again.entry) === written,
        'written and read it is the same',
        written,
      );
      promise(parseEntry(read.entry) !== undefined, 'an entry');
      for (const happening of timeline.take(read.ms, read.entry)) {
        const event = { ...happening, version: 1, time: '2026-01-02T03:04:05.678Z' } as const;
        promise(/^[\x20-\x7e]*$/.test(formatEvent(event)), 'a printable line', formatEvent(event));
        promise(/^[\x20-\x7e]*$/.test(formatJson(event)), 'a printable line of JSON');
      }
    }
  },
};

const RECORD_FILES: Target = {
  name: 'record-files',
  share: 0.01,
  reads: { 'monitor/record-file.ts': ['readRecord', 'linesOf', 'startOf'] },
  promises: 'a file of anything is told line by line, with at most a dozen warnings',
  kind: 'json',
  seeds: entries,
  words: [HEADER, '\n', '"version":2', '"start":""'],
  run: async (input) => {
    const path = fileOf('record', input);
    const warnings: string[] = [];
    await typedLater(async () => {
      for await (const { at } of readRecord(path, (text) => warnings.push(text)))
        promise(Number.isInteger(at) && at >= 0 && !Number.isNaN(new Date(at).getTime()), 'a time', at);
    });
    promise(warnings.length <= 14, 'few warnings', warnings.length);
    for (const warning of warnings) sentence(warning);
  },
};

const REQUESTS: Target = {
  name: 'script-requests',
  reads: { 'service/script-protocol.ts': ['parseRequest', 'formatAnswer'] },
  promises: 'a request is read only from its one spelling',
  kind: 'text',
  seeds: fc
    .tuple(fc.constantFrom('online', 'offline', 'x'), fc.nat(40000), fc.nat(1_100_000), fc.nat())
    .map(([a, b, c, d]) => `${a} ${b}/${c} ${d}`),
  words: ['online ', 'offline ', '5/0', ' 4711', '/'],
  run: (input) => {
    const line = textOf(input);
    const request = parseRequest(line);
    if (request !== undefined) {
      const { command, key, pid } = request;
      same(`${command} ${key.domid}/${key.devid} ${pid}`, line, 'one spelling');
    }
    formatAnswer({ is: 'failed', sentence: line });
  },
};

const METRICS: Target = {
  name: 'metrics',
  reads: { 'service/metrics-text.ts': ['withoutFamilies', 'formatFamilies'] },
  promises: 'names that dom0 chose stay within their quotes; what is left out of a text is left out whole',
  kind: 'text',
  seeds: fc.oneof(
    fc.string(),
    fc
      .array(
        fc
          .tuple(fc.constantFrom('vifd_vifs', 'vifd_up', 'x'), fc.string())
          .map(([name, help]) => `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${name} 1\n`),
      )
      .map((all) => all.join('')),
  ),
  words: ['# HELP vifd_vifs x\n', '# TYPE ', '"', '\\', '\\"', '\n'],
  run: (input) => {
    const text = textOf(input);
    const vifs = [{ domid: 5, devid: 0, ifname: text, bridge: text, health: 'failed' } as const];
    const lines = formatFamilies(vifFamilies(vifs)).split('\n');
    for (const line of lines.filter((one) => one !== '' && !one.startsWith('#')))
      promise(/^[a-z_]+\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\} \d+$/s.test(line), 'one sample', line);
    const left = withoutFamilies(text, ['vifd_vifs']);
    promise(left.length <= text.length && !/^# HELP vifd_vifs /m.test(left), 'it is left out', left);
  },
};

const LOG: Target = {
  name: 'log-lines',
  reads: { 'logger.ts': ['journalLine', 'withPriority'] },
  promises: 'each line for the journal has a priority of its own, so that no sentence can choose its',
  kind: 'text',
  seeds: fc.string(),
  words: ['\n<0>', '\r', '\u2028'],
  run: (input) => {
    let line = '';
    const log = pino(
      { level: 'trace', base: null, formatters: { level: (level) => ({ level }) } },
      {
        write: (text: string) => {
          line = text;
        },
      },
    );
    log.warn({ attach: textOf(input).slice(0, 40) }, textOf(input));
    for (const one of journalLine(line).split('\n').slice(0, -1)) promise(one.startsWith('<4>'), 'a warning', one);
    promise(withPriority(line).split('\n').length === 2, 'one line');
  },
};

const STATUS_SERVER: Target = {
  name: 'status-server',
  reads: { 'service/status-socket.ts': ['serve', 'answer'] },
  promises: 'a client that asks for nothing known is dropped, whatever its pieces; the next one is answered',
  kind: 'text',
  share: 0.002,
  seeds: fc.oneof(
    fc.constantFrom('metrics\n', 'follow\n', 'metrics', 'follow\nmetrics\n'),
    fc.string({ maxLength: 100 }),
  ),
  words: ['metrics\n', 'follow\n', '\n'],
  run: async (input) => {
    const path = await statusServer();
    const text = Buffer.from(input).toString('latin1');
    const client = connect(path);
    let heard = '';
    client.setEncoding('latin1').on('data', (piece) => {
      heard += piece;
    });
    client.on('error', () => undefined);
    const gone = once(client, 'close');
    const half = Math.floor(input.length / 2);
    client.write(input.subarray(0, half));
    client.write(input.subarray(half));
    // What may still become a request is waited for: the client goes, then.
    const open = text === '' || text === 'follow\n' || (text.length < 64 && !text.includes('\n'));
    if (open) setImmediate(() => client.destroy());
    await gone;
    if (text === 'metrics\n') same(heard, 'figures\n', 'the answer');
    else promise(['', 'figures\n', '[]\n'].includes(heard), 'nothing but an answer', heard);
  },
};

let server: Promise<string> | undefined;
/** One for all cases: that it lives on is what is shown. */
function statusServer(): Promise<string> {
  const log = pino({ enabled: false });
  const answers = { follow: () => () => undefined, metrics: () => 'figures\n', config: () => [] };
  server ??= StatusSocket.open({ dir: directory, log, ...answers }).then((socket) => {
    if (socket === undefined) throw new Error('no status socket can be opened here');
    (socket as unknown as { server: { unref(): void } }).server.unref();
    return statusSocketPath(directory);
  });
  return server;
}

const STATUS_CLIENT: Target = {
  name: 'status-client',
  reads: { 'service/status-socket-client.ts': ['askAgent', 'linesOf'] },
  promises: 'whatever answers, lines come in order and are the bytes; one without an end is not kept for ever',
  kind: 'text',
  share: 0.002,
  seeds: fc.array(fc.string()).map((all) => all.join('\n')),
  words: ['\n', '{"level":"info"}\n'],
  run: async (input) => {
    const path = join(directory, 'fake');
    mkdirSync(path, { recursive: true });
    rmSync(statusSocketPath(path), { force: true });
    const fake = createServer((client) => {
      client.on('error', () => undefined).resume();
      client.write(input.subarray(0, 7));
      client.end(input.subarray(7));
    });
    await once(fake.listen(statusSocketPath(path)), 'listening');
    const lines: string[] = [];
    const end = await typedLater(async () => {
      for await (const line of askAgent('metrics', { dir: path })) lines.push(line);
    });
    const closed = once(fake, 'close');
    fake.close();
    await closed;
    const whole = new TextDecoder('utf8', { ignoreBOM: true }).decode(input).split('\n').slice(0, -1);
    if (!(end instanceof VifdError)) same(lines, whole, 'the lines');
  },
};

export const STREAM_TARGETS = [RECORDS, RECORD_FILES, REQUESTS, METRICS, LOG, STATUS_SERVER, STATUS_CLIENT];
