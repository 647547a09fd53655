/**
 * The cases of cases.ts against a real xenstored; runs in dom0 and in a driver domain of the lab. Bundle it, then
 * `node conformance.js --connect PATH --who dom0|driver-domain --daemon xenstored|oxenstored`. One line a case, then
 * `N passed, N failed`; exit code 1 if any failed, 2 if it cannot begin.
 */
import { statSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { XenstoreClient } from '../../src/xenstore/client.js';
import { openTransport } from '../../src/xenstore/transport.js';
import { CASES, type Daemon, type Who } from './cases.js';
import { applies, runCase, type Subject } from './run-case.js';

function argumentsOf(argv: string[]): { path: string; who: Who; daemon: Daemon } {
  const option = { type: 'string' } as const;
  const { values } = parseArgs({ args: argv, options: { connect: option, who: option, daemon: option } });
  const { connect: path, who, daemon } = values;
  if (path === undefined) throw new Error('--connect PATH is missing');
  if (who !== 'dom0' && who !== 'driver-domain') throw new Error('--who is dom0 or driver-domain');
  if (daemon !== 'xenstored' && daemon !== 'oxenstored') throw new Error('--daemon is xenstored or oxenstored');
  return { path, who, daemon };
}

/** The driver domain reads its own id where libxl wrote it. */
async function domidOf(path: string, who: Who): Promise<number> {
  if (who === 'dom0') return 0;
  const client = new XenstoreClient(await openTransport(path));
  const domid = Number(await client.read('domid'));
  await client.close();
  return domid;
}

async function main(argv: string[]): Promise<number> {
  const { path, who, daemon } = argumentsOf(argv);
  const device = !statSync(path).isSocket();
  const domid = await domidOf(path, who);
  const connect = () => openTransport(path);
  const subject: Subject = { who, daemon, device, domid, connect, eventMs: 10_000, silenceMs: device ? 300 : 100 };
  const count = { passed: 0, failed: 0 };
  for (const testCase of CASES) {
    if (!applies(testCase, subject)) continue;
    const problem = await runCase(testCase, subject);
    console.log(problem === undefined ? `ok   ${testCase.name}` : `FAIL ${testCase.name}: ${problem}`);
    count[problem === undefined ? 'passed' : 'failed'] += 1;
  }
  console.log(`${count.passed} passed, ${count.failed} failed`);
  return count.failed > 0 || count.passed === 0 ? 1 : 0;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(error.message);
    process.exit(2);
  },
);
