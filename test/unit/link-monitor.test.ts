/** The child behind the link events: a script in place of `ip` plays it. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { LinkMonitor } from '../../src/network/link-monitor.js';

/** A LinkMonitor on such a script (undefined: there is no `ip` at all), and what it told. */
function start(script: string | undefined) {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-ip-'));
  if (script !== undefined) {
    writeFileSync(join(directory, 'ip'), `#!/bin/sh\n${script}\n`);
    chmodSync(join(directory, 'ip'), 0o755);
  }
  const path = process.env.PATH;
  process.env.PATH = script === undefined ? directory : `${directory}:${path}`;
  const told: string[] = [];
  const warnings: string[] = [];
  const monitor = new LinkMonitor(
    { onLink: (ifname) => told.push(ifname), onGap: () => told.push('gap') },
    pino({ base: null }, { write: (line) => void warnings.push(JSON.parse(line).msg) }),
  );
  onTestFinished(() => {
    monitor.stop();
    process.env.PATH = path;
    rmSync(directory, { recursive: true });
  });
  monitor.start();
  return { monitor, told, warnings };
}

const untilFirst = async (lines: string[]) => {
  for (let i = 0; i < 500 && lines.length === 0; i++) await sleep(10);
  return lines[0];
};

test('a gap at the start, and again when the child listens for certain', async () => {
  const { told } = start('echo "7: vif5.0: <UP>"; exec sleep 30');
  expect(told).toEqual(['gap']);
  await sleep(600);
  expect(told.filter((event) => event !== 'vif5.0')).toEqual(['gap', 'gap']);
  expect(told).toContain('vif5.0');
});

test('after stop() there is no gap any more', async () => {
  const { monitor, told } = start('exec sleep 30');
  monitor.stop();
  await sleep(500);
  expect(told).toEqual(['gap']);
});

test('a child that ends early tells no gap for a time when nobody listens, but two for the next one', async () => {
  const { told, warnings } = start('[ -e "$0.ran" ] && exec sleep 30; touch "$0.ran"; exit 1');
  await untilFirst(warnings);
  await sleep(900);
  expect(told).toEqual(['gap', 'gap', 'gap']);
});

test('the warning when the child ends has what it said last', async () => {
  const { warnings } = start('echo first >&2; echo "Cannot open netlink socket: \x1b[31mno" >&2; echo >&2; exit 2');
  expect(await untilFirst(warnings)).toBe(
    'cannot follow link changes ("ip -o monitor link": exit code 2, "Cannot open netlink socket: \\u001b[31mno"); repairs wait for the periodic look until it runs again. Is iproute2 installed?',
  );
});

test('a spawn that throws is a child that has ended: it is tried again', async () => {
  process.env.VIFD_TEST_TOO_LONG = 'x'.repeat(200_000); // E2BIG, thrown as ENOMEM is
  onTestFinished(() => void delete process.env.VIFD_TEST_TOO_LONG);
  const { told, warnings } = start('echo "7: vif5.0: <UP>"; exec sleep 30');
  expect(warnings).toEqual([expect.stringContaining('("ip -o monitor link": spawn E2BIG); repairs wait')]);
  delete process.env.VIFD_TEST_TOO_LONG;
  for (let i = 0; i < 500 && !told.includes('vif5.0'); i++) await sleep(10);
  expect(told.slice(0, 2)).toEqual(['gap', 'vif5.0']);
});

test('without the program there is one warning, with the reason', async () => {
  const { warnings } = start(undefined);
  expect(await untilFirst(warnings)).toMatch(/\("ip -o monitor link": spawn ip ENOENT\);.*Is iproute2 installed\?$/);
  await sleep(300);
  expect(warnings).toHaveLength(1);
});
