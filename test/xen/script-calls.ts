/** What was seen of vif-vifd's calls in a domain: who called it how (vif-recorded), what it started, what its hooks were told. */
import { must, type Server } from './guests.js';
import type { Lab } from './lab.js';

/** One call: its arguments, none of which has a space, and its whole environment. The fixtures in test/unit/fixtures are lists of these. */
export interface ScriptCall {
  readonly args: string;
  readonly env: Readonly<Record<string, string>>;
}

/** What init's shell gave to everything in the lab is no caller's. */
const OF_THE_LAB = /^(lab_\w+|HOME|LC_ALL|OLDPWD|PATH|PWD|SHLVL|TERM|_)$/;

/** As they came since the last time, with the ids of each made vif 5/0 and the kernel's counters 1. */
export async function takeCalls(lab: Lab, server: Server): Promise<ScriptCall[]> {
  const noted = await must(lab, server, 'cat /run/vif-calls && rm /run/vif-calls');
  return noted.split('\n\n').map((block) => {
    const [args = '', ...lines] = block.split('\n');
    const pairs = lines.map((line) => [line.replace(/=.*/, ''), line.replace(/^[^=]*=/, '')] as const);
    const env = pairs.filter(([name]) => !OF_THE_LAB.test(name)).map(([name, value]) => [name, sameIds(name, value)]);
    return { args, env: Object.fromEntries(env) };
  });
}

function sameIds(name: string, value: string): string {
  switch (name) {
    case 'XENBUS_PATH':
      return value.replace(/\d+\/\d+$/, '5/0');
    case 'DEVPATH':
      return value.replace(/\d+-\d+$/, '5-0');
    case 'vif':
      return value.replace(/\d+\.\d+$/, '5.0');
    case 'SEQNUM':
    case 'USEC_INITIALIZED':
      return '1';
    default:
      return value;
  }
}

/** The file of a caller's calls by Xen's version here. */
export async function fixtureOf(lab: Lab, caller: string): Promise<string> {
  const version = /xen_version\s*: (\d+\.\d+)/.exec(await lab.must('xl info'))?.[1];
  return `../unit/fixtures/vif-script-xen-${version}-${caller}.json`;
}

/** The calls of `vifd vif-script` since the last time: each the work without a daemon. */
export async function takeWork(lab: Lab, server: Server = 'nicdom'): Promise<string[]> {
  const lines = await take(lab, server, '/run/vifd-calls');
  return lines.filter((line) => line.startsWith('vif-script')).sort();
}

/** `online|offline PATH INTERFACE BRIDGE there|gone` for each call since the last time whose work is done; waits for so many. */
export async function takeHooks(lab: Lab, count: number, server: Server = 'nicdom'): Promise<string[]> {
  const lines = async () => Number(await must(lab, server, 'cat /run/vif-hooks 2>/dev/null | wc -l'));
  await lab.until(`${count} hooks run`, async () => (await lines()) >= count, 20_000);
  return (await take(lab, server, '/run/vif-hooks')).sort();
}

async function take(lab: Lab, server: Server, file: string): Promise<string[]> {
  const text = await must(lab, server, `[ ! -e ${file} ] || { cat ${file} && rm ${file}; }`);
  return text === '' ? [] : text.split('\n');
}
