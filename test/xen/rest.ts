/** What an agent costs while nothing happens: memory, context switches, and how long it takes to be there again. Measured in the driver domain. */
import type { Lab } from './lab.js';

export interface Rest {
  readonly residentMb: number;
  /** Shared pages by halves, thirds...: what would be free without it. */
  readonly proportionalMb: number;
  /** Voluntary context switches of all its threads. */
  readonly switchesIn10s: number;
  /** From exec, with one vif connected, until it says that it is ready. */
  readonly readyMs: number;
}

const SECONDS = 30;

/** The agent of the lab is started anew. */
export async function measureRest(lab: Lab): Promise<Rest> {
  const readyMs = await timeStart(lab);
  const out = await lab.mustNicdom(
    `sleep 10; pid=$(cat /run/lab-agent.pid)
    switches() { awk '$1 == "voluntary_ctxt_switches:" { n += $2 } END { print n }' /proc/$pid/task/*/status; }
    before=$(switches); sleep ${SECONDS}; echo $(($(switches) - before))
    awk '/^(Rss|Pss):/ { print $2 }' /proc/$pid/smaps_rollup`,
    (SECONDS + 60) * 1000,
  );
  const [switches = Number.NaN, rss = Number.NaN, pss = Number.NaN] = out.split('\n').map(Number);
  return { residentMb: rss / 1024, proportionalMb: pss / 1024, switchesIn10s: (switches * 10) / SECONDS, readyMs };
}

/** xl devd tells only its debug log that it is there, which costs it a little. */
async function timeStart(lab: Lab): Promise<number> {
  const { agent } = lab.options;
  const [quiet, line] = agent === 'devd' ? [0, 'event epath=.*/backend$'] : [1, 'ready on '];
  const log = `/var/log/${agent}.log`;
  await lab.killAgent();
  const out = await lab.mustNicdom(
    `lines=$(wc -l <${log}); a=$(date +%s%N); lab_quiet=${quiet} /lab/agent-start ${agent}
    for i in $(seq 2000); do tail -n +$((lines + 1)) ${log} | grep -q '${line}' && break; sleep 0.01; done
    echo "ready after $((($(date +%s%N) - a) / 1000000))"`,
    120_000,
  );
  return Number(/ready after (\d+)/.exec(out)?.[1]);
}

/** A line of the table; see table(). */
export type Row = (name: string, a: number, b: number, show?: (n: number) => string) => string[];

export function restRows(a: Rest, b: Rest, row: Row): string[][] {
  const one = (n: number) => n.toFixed(1);
  return [
    row('at rest: resident memory, MB', a.residentMb, b.residentMb, one),
    row('at rest: proportional memory, MB', a.proportionalMb, b.proportionalMb, one),
    row('at rest: context switches in 10 s', a.switchesIn10s, b.switchesIn10s, one),
    row('started anew: ready after', a.readyMs, b.readyMs),
  ];
}
