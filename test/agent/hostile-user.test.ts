/** What another user of the driver domain could do to the running agent, and what a program of its own user that is broken could. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { NICDOM } from '../../src/simulator/host.js';
import { measured } from '../support/measured.js';
import { useRunDirectory, useWorld } from './world.js';

const world = useWorld();
useRunDirectory();
const at = (name: string) => join(process.env.VIFD_RUN_DIR ?? '', name);
/** KiB. */
const memory = () => Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${world.agent.pid}/status`, 'utf8'))?.[1]);

async function attachesAtOnce(domid: number, fault?: string): Promise<void> {
  const attach = async () => {
    await world.host.createGuest(domid, [{ bridge: 'br0' }]);
    await world.connected(domid, 0, 1_000);
  };
  await (fault === undefined ? attach() : measured(`${fault}: a new vif is connected`, 2_500, attach));
}

test.skipIf(process.getuid?.() !== 0 || spawnSync('setpriv', ['--version']).status !== 0)(
  'another user can neither ask nor read nor lock nor put anything there, nor keep vifd from starting',
  async () => {
    const pidfile = join(dirname(at('x')), '..', `vifd-hostile-${process.pid}.pid`);
    await world.start({ agent: false });
    const impostor = join(dirname(at('x')), '..', `vifd-hostile-${process.pid}`, 'vifd');
    mkdirSync(dirname(impostor), { recursive: true });
    onTestFinished(() => rmSync(dirname(impostor), { recursive: true }));
    writeFileSync(impostor, 'setInterval(() => 0, 1000); console.log("is here")');
    const words = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, impostor, 'run'];
    const other = spawn('setpriv', words, { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void other.kill());
    await once(other.stdout, 'data');
    await world.startAgent('--pidfile', pidfile);
    const asNobody = (script: string) =>
      spawnSync('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', 'sh', '-c', script, process.execPath], {
        encoding: 'utf8',
      }).stderr;
    const ask = `require('net').connect('${at('status')}').on('error', (e) => console.error(e.code))`;
    for (const attempt of [
      `"$0" -e "${ask}"`,
      `echo online 5/0 1 >${at('requests')}`,
      `cat ${at('reader')}`,
      `ln -s /etc/passwd ${at('reply.1')}`,
      `mv ${at('')} ${at('')}.gone`,
      `flock -n ${pidfile} true`,
      `kill -TERM ${world.agent.pid}`,
    ])
      expect([attempt, asNobody(attempt)]).toEqual([attempt, expect.stringMatching(/EACCES|denied|not permitted/i)]);
    await attachesAtOnce(5);
  },
);

test('a flood at the status socket: half lines, lines without an end, readers that do not read', async () => {
  await world.start();
  await attachesAtOnce(5);
  const before = memory();
  const clients: Socket[] = [];
  onTestFinished(() => {
    for (const client of clients) client.destroy();
  });
  const junk = Buffer.alloc(1 << 20, 'x');
  const until = Date.now() + 2_000;
  let opened = 0;
  const flood = (request: string | Buffer) => {
    if (Date.now() > until) return;
    opened++;
    const client = connect(at('status'));
    clients.push(client);
    client.on('error', () => undefined).once('close', () => setTimeout(() => flood(request), 5));
    client.pause().write(request, () => Buffer.isBuffer(request) && client.write(junk));
  };
  for (let i = 0; i < 5; i++) for (const request of ['follow\n', 'metrics\n', 'foll', '\n', junk]) flood(request);
  for (let domid = 6; domid < 12; domid++) await attachesAtOnce(domid, 'the status socket is flooded');
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, until - Date.now())));
  expect(opened).toBeGreaterThan(100);
  for (const client of clients) client.destroy();
  const ask = () =>
    execa(process.execPath, ['dist/main.js', 'status', '--prometheus', '--xenstore', world.host.socketOf(NICDOM)]);
  expect((await ask()).stdout).toContain('vifd_attach_seconds_count 7');
  expect(memory() - before).toBeLessThan(40_000);
});

test('a flood at the FIFO: a line without an end, requests for what is not there, answers that nobody takes', async () => {
  await world.start();
  await attachesAtOnce(5);
  const before = memory();
  const fifo = openSync(at('requests'), constants.O_WRONLY);
  onTestFinished(() => closeSync(fifo));
  const junk = Buffer.alloc(1 << 16, 'x');
  for (let i = 0; i < 512; i++) writeSync(fifo, junk); // 32 MiB; each waits until the agent has read
  writeSync(fifo, '\n');
  for (let i = 1; i <= 2_000; i++) writeSync(fifo, `online 9/9 ${i}\nonline 5/0 ../x\n`);
  await attachesAtOnce(6, 'the FIFO is flooded');
  expect(memory() - before).toBeLessThan(40_000);
  expect(world.agent.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
});
