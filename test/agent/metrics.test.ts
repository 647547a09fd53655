/** What the running agent tells of itself: over its socket, into a file, and through `vifd status --prometheus`. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { askAgent } from '../../src/service/status-socket-client.js';
import { NICDOM } from '../../src/simulator/host.js';
import { AgentProcess, eventually, type LogLine } from './agent-process.js';
import { useWorld } from './world.js';

const world = useWorld();
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vifd-metrics-'));
  process.env.VIFD_RUN_DIR = dir;
  onTestFinished(() => {
    delete process.env.VIFD_RUN_DIR;
    rmSync(dir, { recursive: true });
  });
});

async function metrics(): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of askAgent('metrics')) lines.push(line);
  return lines;
}

test('a follower has the debug records that the log itself is not to have; nobody has them when it has gone', async () => {
  await world.start({ agent: false });
  world.agent = new AgentProcess(world.host.socketOf(NICDOM), '--log-level', 'warn');
  await eventually(() => existsSync(join(dir, 'status')));
  const lines = askAgent('follow');
  const next = async () => JSON.parse((await lines.next()).value ?? '{}') as LogLine;
  expect(await next()).toMatchObject({ level: 'debug', msg: 'a client follows this log' });
  await world.host.createGuest(5, [{ bridge: 'br0' }]);
  let record = await next();
  if (record.msg.startsWith('ready')) record = await next();
  expect(record).toMatchObject({ level: 'info', domid: 5, msg: expect.stringContaining('connected vif5.0') });
  await lines.return();
  await world.host.createGuest(6, [{ bridge: 'none' }]);
  await world.agent.saw(({ level, domid }) => level === 'error' && domid === 6);
  expect(world.agent.log.map(({ level }) => level)).toEqual(['error']);
});

test('the socket is gone after the agent, and a new agent takes the place of one that was killed', async () => {
  await world.start();
  expect(await metrics()).toContain('vifd_up 1');
  await world.agent.kill('SIGKILL');
  expect(readdirSync(dir)).toContain('status');
  await expect(metrics()).rejects.toMatchObject({ code: 'ENOAGENT' });
  await world.startAgent();
  expect(await metrics()).toContain('vifd_up 1');
  await world.agent.kill('SIGTERM');
  expect(readdirSync(dir)).not.toContain('status');
});
