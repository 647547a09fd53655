/** `vifd monitor`: what happens to every vif, from all who have a part in it, as one time line. Changes nothing. */
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../errors.js';
import { AgentSource } from '../monitor/agent-source.js';
import { Arrivals } from '../monitor/arrivals.js';
import { type Entry, SOURCES, type Source } from '../monitor/entry.js';
import { formatEvent, formatJson, type MonitorEvent, visible } from '../monitor/format.js';
import { KernelSource } from '../monitor/kernel-source.js';
import type { RecordHeader } from '../monitor/record.js';
import { readRecord } from '../monitor/record-file.js';
import { Recorder } from '../monitor/recorder.js';
import { StoreSource } from '../monitor/store-source.js';
import { Timeline } from '../monitor/timeline.js';
import { RELAY, relayKernelEvents } from '../network/kernel-events.js';
import { askAgent } from '../service/status-socket-client.js';
import { connectXenstore, type XenstoreClient } from '../xenstore/client.js';
import { BACKEND_ROOT } from '../xenstore/paths.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

export interface MonitorOptions {
  readonly xenstore?: string;
  readonly json?: boolean;
  /** Absent: all. */
  readonly only?: readonly Source[];
  /** A file to be made. */
  readonly record?: string;
  /** MiB. */
  readonly recordMax: number;
  /** A record, instead of what happens now. */
  readonly replay?: string;
}

const TIMES = 'times are UTC; (+N ms): since the last change of state, online or hotplug-status of the same vif';
const MIB = 1024 * 1024;
/** So long the first line waits for those that are slow to answer, such as an agent that is stopped. */
const PATIENCE_MS = 2_000;

export async function monitor(options: MonitorOptions, version: string): Promise<void> {
  const relay = process.env[RELAY];
  if (relay !== undefined) return relayKernelEvents(relay); // the child of another monitor
  const screen = new Screen(options);
  if (options.replay !== undefined) return replay(options.replay, screen);
  const sources = options.only ?? SOURCES;
  const store = sources.includes('store') ? await connect(options.xenstore) : undefined;
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => abort.abort());
  process.stdout.on('error', () => abort.abort()); // the reader of the pipe has gone
  const recorder = startRecorder(options, version);
  const arrivals = new Arrivals((at, entry) => {
    recorder?.write(at, entry);
    screen.show(at, entry);
  });
  try {
    const started = startOthers(sources, arrivals, abort.signal);
    arrivals.inTurn(() => started.then(() => introduce(screen, sources, store))); // before all that came meanwhile
    await started;
    await (store === undefined ? aborted(abort.signal) : follow(store, arrivals, abort.signal));
  } finally {
    abort.abort(); // whoever ended it
    recorder?.close();
  }
}

async function connect(path: string | undefined): Promise<XenstoreClient> {
  return connectXenstore(path).catch((error) => {
    console.error('vifd: without xenstore the rest can be seen by: vifd monitor --only uevent,link,vifd');
    throw error;
  });
}

function startRecorder({ record, recordMax }: MonitorOptions, version: string): Recorder | undefined {
  if (record === undefined) return undefined;
  return Recorder.create(record, version, recordMax * MIB, (why) => console.error(`vifd: ${visible(why)}`));
}

/** Of this moment alone, so not recorded. */
function introduce(screen: Screen, sources: readonly Source[], store: XenstoreClient | undefined): void {
  const what = {
    store: `on ${store?.peer} to every vif in ${BACKEND_ROOT} and to the state of its guest's side`,
    uevent: 'to the uevents of vifs',
    link: 'to their interfaces and bridges',
    vifd: "to the agent's log",
  };
  const list = sources.map((source) => what[source]).join(', ');
  screen.note(`listening ${list}; changes nothing; Ctrl-C ends it`);
  screen.note(TIMES);
}

/** All but xenstore: what one of them lacks is said, and the others go on. Resolves when they listen, or soon. */
async function startOthers(sources: readonly Source[], arrivals: Arrivals, signal: AbortSignal): Promise<void> {
  const ofKernel = (['link', 'uevent'] as const).filter((source) => sources.includes(source));
  const itself = [process.execPath, process.argv[1] ?? '', 'monitor'] as const;
  const kernel = new KernelSource(ofKernel, [...itself], arrivals);
  void aborted(signal).then(() => kernel.stop());
  const agent = new AgentSource((until) => askAgent('follow', { signal: until }), arrivals, signal);
  const all = Promise.all([ofKernel.length > 0 && kernel.start(), sources.includes('vifd') && agent.start()]);
  await Promise.race([all, aborted(signal), sleep(PATIENCE_MS, undefined, { ref: false })]);
}

/** Until the signal; rejects when the connection is lost. */
async function follow(store: XenstoreClient, arrivals: Arrivals, signal: AbortSignal): Promise<void> {
  void aborted(signal).then(() => store.close().catch(endDespiteBlockedRead));
  await new StoreSource(store, arrivals).start().catch(async (error) => {
    await store.close().catch(endDespiteBlockedRead); // or its open connection would keep the process
    if (!hasCode(error, 'ECANCELED')) throw error; // Ctrl-C may come at any time
  });
  const reason = await store.closed;
  if (hasCode(reason, 'ECANCELED')) return;
  await store.close().catch(endDespiteBlockedRead);
  throw reason;
}

/** The same time line of what was seen then. */
async function replay(path: string, screen: Screen): Promise<void> {
  const warn = (text: string) => console.error(`vifd: ${visible(text)}`);
  const begin = ({ vifd, kernel, start }: RecordHeader) => {
    screen.note(visible(`recorded by vifd ${vifd} on Linux ${kernel} from ${start} on`));
    screen.note(TIMES);
  };
  for await (const { at, entry } of readRecord(path, warn, begin)) screen.show(at, entry);
}

/** Makes lines of entries: for a person or a program; what is wrong goes to stderr. */
class Screen {
  private readonly timeline = new Timeline();
  constructor(private readonly options: MonitorOptions) {}

  show(at: number, entry: Entry): void {
    const { json, only } = this.options;
    if (entry.source === 'monitor') {
      if (entry.level === 'note') return this.note(visible(entry.text));
      return console.error(`vifd: ${visible(entry.text)}`);
    }
    const time = new Date(at).toISOString();
    for (const happening of this.timeline.take(at, entry)) {
      if (only !== undefined && !only.includes(happening.source)) continue;
      const event: MonitorEvent = { version: 1, time, ...happening };
      console.log(json ? formatJson(event) : formatEvent(event));
    }
  }

  /** For people only. */
  note(text: string): void {
    if (!this.options.json) console.log(text);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
