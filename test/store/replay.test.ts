/**
 * `vifd monitor --replay` of test/fixtures/attach.record, which test/agent/timeline.test.ts made (VIFD_NEW_FIXTURE=FILE names
 * where a new one goes); attach.txt and attach.jsonl are what it shows. Needs neither xenstore nor a right.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryDirectory } from './support.js';

const RECORD = 'test/fixtures/attach.record';
const monitor = (...args: string[]) => {
  const words = ['dist/main.js', 'monitor', ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, XENSTORED_PATH: '/nowhere' },
  });
  return { status, stdout, stderr };
};

test.each([
  ['attach.txt', []],
  ['attach.jsonl', ['--json']],
])('shows %s', (file, args) => {
  const expected = readFileSync(`test/fixtures/${file}`, 'utf8');
  expect(monitor('--replay', RECORD, ...args)).toEqual({ status: 0, stdout: expected, stderr: '' });
});

test('--only chooses among what was recorded', () => {
  const { stdout } = monitor('--replay', RECORD, '--json', '--only', 'vifd,uevent');
  const sources = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).source);
  expect(new Set(sources)).toEqual(new Set(['vifd', 'uevent']));
});

test('cut off in its last line it loses that line, and has one sentence more', () => {
  const path = join(temporaryDirectory(), 'cut');
  const whole = readFileSync(RECORD, 'utf8');
  writeFileSync(path, whole.slice(0, -20));
  const { status, stdout, stderr } = monitor('--replay', path);
  const expected = readFileSync('test/fixtures/attach.txt', 'utf8').trimEnd().split('\n');
  expect(stdout.trimEnd().split('\n')).toEqual(expected.slice(0, -1));
  expect(stderr).toMatch(/^vifd: line \d+ of \S+cut is cut off: the recording ended there; nothing else is lost\n$/);
  expect(status).toBe(0);
});

test('with commands for a terminal wherever there is a text it gives plain lines', () => {
  const path = join(temporaryDirectory(), 'hostile');
  const lines = readFileSync(RECORD, 'utf8').trimEnd().split('\n');
  const evil = (text: string) =>
    text.replace(
      /(?<!:"(?:link|store|uevent|vifd|monitor|present|new|gone|note|warn))"(?=[,}\]])/g,
      '\\u001b[2J\\u009b"',
    );
  writeFileSync(path, `${lines[0]}\n${lines.slice(1).map(evil).join('\n')}\n\x1b[31m\n`);
  const { status, stdout, stderr } = monitor('--replay', path);
  expect(stdout + stderr).toMatch(/^[\n -~]+$/);
  expect(stdout).toContain('\\u001b[2J');
  expect(stdout.split('\n').length).toBeGreaterThan(20);
  expect(monitor('--replay', path, '--json').stdout).toMatch(/^[\n -~]+$/);
  expect(status).toBe(0);
});

test.each([
  [['--replay', '/nowhere'], 1, /^vifd: the record \/nowhere cannot be read \(ENOENT\)\n$/],
  [['--replay', 'package.json'], 1, /^vifd: package.json is no record of vifd monitor: .*--record FILE\)\n$/],
  [['--replay', RECORD, '--record', 'x'], 2, /cannot be used with option '--record/],
  [[], 3, /^vifd: without xenstore the rest can be seen by: vifd monitor --only uevent,link,vifd\nvifd: xenstore: not/],
  [['--only', 'link,tea'], 2, /expected some of store, uevent, link, vifd/],
  [['--record', 'x', '--record-max', '0'], 2, /expected a whole number of MiB/],
  [['--only', 'link', '--record', RECORD], 1, /^vifd: the record \S+ is there already and is not overwritten; name/],
])('%j', (args, status, sentence) => {
  const seen = monitor(...args);
  expect(seen.stderr).toMatch(sentence);
  expect(seen.status).toBe(status);
});
