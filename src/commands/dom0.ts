/** `vifd dom0`: what dom0 does for guests whose network is in a driver domain. */
import { sayVif } from '../dom0/connection.js';
import { demandDom0 } from '../dom0/domains.js';
import { carryOut, demandDomain, findRecovery, SETTLE_MS } from '../dom0/recover.js';
import { type Recovery, shellLine } from '../dom0/recovery.js';
import { driverDomainUnits } from '../dom0/units.js';
import { waitForGuest, waitForServing } from '../dom0/wait.js';
import { hasCode, VifdError } from '../errors.js';
import { Pidfile } from '../service/pidfile.js';
import { connectXenstore, type XenstoreClient } from '../xenstore/client.js';
import { endDespiteBlockedRead } from '../xenstore/transport.js';

/** How far `vifd dom0 wait` waits. */
export type WaitUntil = 'guest' | 'hotplug' | 'serving';

interface WaitOptions {
  readonly xenstore?: string;
  readonly timeout: number;
  readonly until: WaitUntil;
}

/** The exit code says whether it came to be. */
export async function wait(guest: string, { xenstore, timeout, until }: WaitOptions): Promise<void> {
  await inDom0(xenstore, async (store) => {
    const timeoutMs = timeout * 1000;
    const { connected, words, tookMs } =
      until === 'serving'
        ? await waitForServing(store, guest, timeoutMs)
        : await waitForGuest(store, guest, until, timeoutMs);
    for (const line of words) connected ? console.log(line) : console.error(`vifd: ${line}`);
    if (!connected) console.error(`vifd: given up after ${(tookMs / 1000).toFixed(1)} s`);
    process.exitCode = connected ? 0 : 1;
  });
}

interface RecoverOptions {
  readonly xenstore?: string;
  readonly yes?: boolean;
  readonly guest?: readonly string[];
  readonly timeout: number;
}

/** The exit code says whether every vif that may be meant has its network now. */
export async function recover(asked: string, { xenstore, yes, guest = [], timeout }: RecoverOptions): Promise<void> {
  await inDom0(xenstore, async (store) => {
    const backend = await demandDomain(store, asked);
    const recovery = await findRecovery(store, backend, guest);
    for (const { guest, devid, why } of recovery.left) console.log(`# ${sayVif(guest, devid)}: left as it is: ${why}`);
    if (recovery.moves.length === 0) console.log(`# no vif of ${backend.name} waits for a new backend`);
    else if (!yes) return printPlan(recovery);
    else if (!(await alone(() => allRecovered(store, backend.name, recovery, timeout * 1000)))) process.exitCode = 1;
    if (yes && recovery.left.some(({ other }) => !other)) process.exitCode = 1;
  });
}

/** As a shell would take it. */
function printPlan({ moves }: Recovery): void {
  for (const { guest, devid, detach, attach } of moves) {
    console.log(`# ${sayVif(guest, devid)}`);
    console.log(shellLine(['xl', ...detach]));
    console.log(`sleep ${SETTLE_MS / 1000}`);
    console.log(shellLine(['xl', ...attach]));
  }
  console.log('# nothing has been done; with --yes it is');
}

/** Another one might detach what this one has just attached. The lock ends with its process. */
async function alone<T>(work: () => Promise<T>): Promise<T> {
  const path = `${process.env.VIFD_RUN_DIR || '/run'}/vifd-recover.pid`;
  const lock = await Pidfile.take(path).catch((error) => {
    if (!hasCode(error, 'EALREADY')) throw error;
    const words = `another vifd dom0 recover --yes is at work (its process is in ${path}); nothing has been done`;
    throw new VifdError('EALREADY', `${words}, try again when it has ended`, { cause: error });
  });
  return work().finally(() => lock.release());
}

/** Nothing is detached before vifd serves in the driver domain: a vif that cannot be attached again is forgotten by xl. */
async function allRecovered(
  store: XenstoreClient,
  backend: string,
  { moves }: Recovery,
  timeoutMs: number,
): Promise<boolean> {
  const serving = await waitForServing(store, backend, timeoutMs);
  if (!serving.connected) throw new VifdError('ENOAGENT', `${serving.words.join('; ')}; nothing has been done`);
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
  const outcomes = await carryOut(store, moves, {
    timeoutMs,
    signal: stop.signal,
    say: (line) => console.log(line),
  });
  const failed = outcomes.filter(({ failure }) => failure !== undefined);
  console.log(`${outcomes.length - failed.length} of ${outcomes.length} vifs have their network again`);
  for (const { move } of failed) console.error(`vifd: not ${sayVif(move.guest, move.devid)}; why is said above`);
  return failed.length === 0;
}

export function units(names: readonly string[], { config }: { readonly config?: string }): void {
  process.stdout.write(driverDomainUnits(names, config));
}

async function inDom0(path: string | undefined, work: (store: XenstoreClient) => Promise<void>): Promise<void> {
  const store = await connectXenstore(path);
  try {
    await demandDom0(store);
    await work(store);
  } finally {
    await store.close().catch(endDespiteBlockedRead);
  }
}
