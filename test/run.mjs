// Runs the test projects and adds up their counts. `node test/run.mjs [PROJECT ...]`; without one: all that
// need no Xen. netns and agent work on real interfaces, so they run in a network namespace made for the run.
// VIFD_TALLY=FILE appends the counts there, for .ci/run to add up.
import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';

const NAMESPACED = new Set(['netns', 'agent', 'faults', 'load', 'bench', 'package-install']);
/** These wait more than they work, and measure nothing. */
const SIDE_BY_SIDE = new Set(['netns', 'agent', 'faults']);
const isAlone = (name) => NAMESPACED.has(name) && !SIDE_BY_SIDE.has(name);
const wanted = process.argv.slice(2);
const projects = wanted.length > 0 ? wanted : ['unit', 'store', 'model', 'fuzz', 'netns', 'agent', 'faults', 'load'];
const work = mkdtempSync(join(tmpdir(), 'vifd-test-'));
const total = { passed: 0, failed: 0, skipped: 0 };

/** How to start a command in a fresh network namespace here, and how many side by side; or why that is not possible. */
function namespace() {
  const net = process.getuid() === 0 ? ['--net', '--mount'] : ['--user', '--map-root-user', '--net', '--mount'];
  const alone = inside([...net, '--pid', '--fork', '--kill-child', '--mount-proc']);
  if (reasonAgainst(alone) === undefined) return { prefix: alone, shards: Math.min(availableParallelism(), 4) };
  // Where each run sees the agents of the others only one goes.
  const reason = reasonAgainst(inside(net));
  return reason === undefined ? { prefix: inside(net), shards: 1 } : { reason };
}

const inside = (flags) => ['unshare', ...flags, 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'];

function reasonAgainst([command, ...args]) {
  const words = [...args, 'ip', 'link', 'add', 'vifdprobe', 'type', 'bridge'];
  const probe = spawnSync(command, words, { encoding: 'utf8' });
  if (probe.status === 0) return undefined;
  const why = (probe.stderr || probe.error?.message || 'unshare failed').trim();
  return `no network namespace with bridges can be made here: ${why}`;
}

/** One of `shards` runs; its output comes whole when there are several, or they would mix. */
async function run(names, prefix = [], shard = 1, shards = 1) {
  const report = join(work, `${names.join('-')}-${shard}.json`);
  const [command, ...args] = [
    ...prefix,
    process.execPath,
    'node_modules/vitest/vitest.mjs',
    'run',
    ...names.flatMap((name) => ['--project', name]),
    `--shard=${shard}/${shards}`,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  ];
  const env = { ...process.env, VIFD_TEST_NETNS: prefix.length > 0 ? '1' : '' };
  const child = spawn(command, args, { stdio: ['ignore', shards > 1 ? 'pipe' : 'inherit', 'inherit'], env });
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  const status = await new Promise((resolve) => child.on('error', resolve).on('close', resolve));
  process.stdout.write(output);
  count(readReport(report), status);
}

function count(result, status) {
  total.passed += result.numPassedTests;
  total.failed += result.numFailedTests;
  total.skipped += result.numPendingTests + result.numTodoTests;
  // A file that cannot even be loaded has no failed test, but it is a failure.
  if (status !== 0 && result.numFailedTests === 0) total.failed += 1;
  for (const file of result.testResults ?? []) {
    for (const test of file.assertionResults) {
      if (test.status === 'pending' || test.status === 'skipped') console.log(`skipped: ${test.fullName}`);
    }
  }
}

function readReport(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, testResults: [] };
  }
}

const plain = projects.filter((name) => !NAMESPACED.has(name));
if (plain.length > 0) await run(plain);
const { prefix, shards, reason } = namespace();
for (const names of [
  projects.filter((name) => SIDE_BY_SIDE.has(name)),
  ...projects.filter(isAlone).map((name) => [name]),
]) {
  if (names.length === 0) continue;
  if (prefix === undefined) {
    console.log(`skipped: ${names.join(', ')}: ${reason}`);
    total.skipped += names.length;
    continue;
  }
  const count = SIDE_BY_SIDE.has(names[0]) ? shards : 1;
  await Promise.all(Array.from({ length: count }, (_, i) => run(names, prefix, i + 1, count)));
}
rmSync(work, { recursive: true, force: true });
if (process.env.VIFD_TALLY)
  appendFileSync(process.env.VIFD_TALLY, `${total.passed} ${total.failed} ${total.skipped}\n`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
