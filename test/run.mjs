// Runs the test projects and adds up their counts. `node test/run.mjs [PROJECT ...]`; without one: all that
// need no Xen. netns and agent work on real interfaces, so they run in a network namespace made for the run.
// VIFD_TALLY=FILE appends the counts there, for .ci/run to add up.
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NAMESPACED = new Set(['netns', 'agent', 'bench', 'package-install']);
const wanted = process.argv.slice(2);
const projects = wanted.length > 0 ? wanted : ['unit', 'store', 'netns', 'agent'];
const work = mkdtempSync(join(tmpdir(), 'vifd-test-'));
const total = { passed: 0, failed: 0, skipped: 0 };

/** How to start a command in a fresh network namespace here, or why that is not possible. */
function namespace() {
  const flags = process.getuid() === 0 ? ['--net', '--mount'] : ['--user', '--map-root-user', '--net', '--mount'];
  const probe = spawnSync('unshare', [...flags, 'sh', '-c', 'ip link set lo up && ip link add vifdprobe type bridge'], {
    encoding: 'utf8',
  });
  if (probe.status === 0) return { prefix: ['unshare', ...flags, 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'] };
  const reason = (probe.stderr || probe.error?.message || 'unshare failed').trim();
  return { reason: `no network namespace with bridges can be made here: ${reason}` };
}

function run(names, prefix) {
  const report = join(work, `${names.join('-')}.json`);
  const [command, ...args] = [
    ...prefix,
    process.execPath,
    'node_modules/vitest/vitest.mjs',
    'run',
    ...names.flatMap((name) => ['--project', name]),
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  ];
  const status = spawnSync(command, args, {
    stdio: 'inherit',
    env: { ...process.env, VIFD_TEST_NETNS: prefix.length > 0 ? '1' : '' },
  }).status;
  const result = readReport(report);
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
const namespaced = projects.filter((name) => NAMESPACED.has(name));
if (plain.length > 0) run(plain, []);
if (namespaced.length > 0) {
  const { prefix, reason } = namespace();
  if (prefix) run(namespaced, prefix);
  else {
    console.log(`skipped: ${namespaced.join(', ')}: ${reason}`);
    total.skipped += namespaced.length;
  }
}
rmSync(work, { recursive: true, force: true });
if (process.env.VIFD_TALLY)
  appendFileSync(process.env.VIFD_TALLY, `${total.passed} ${total.failed} ${total.skipped}\n`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
