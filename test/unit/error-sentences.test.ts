/** Sentences that only this file's faults bring out, word for word. */
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { loadConfig, parseConfig } from '../../src/config/load.js';
import { Kernel, type KernelNetwork } from '../../src/network/kernel.js';
import { ScriptRequests } from '../../src/service/script-requests.js';
import type { BridgeAttachment } from '../../src/vif/attachment.js';
import { findPlace } from '../../src/vif/observe.js';
import { connectXenstore } from '../../src/xenstore/client.js';
import { DeviceTransport, openTransport } from '../../src/xenstore/transport.js';
import { encodePacket, Parser, strings, XS } from '../../src/xenstore/wire.js';

/** What this process, root or not, may not touch, and what is not there. */
const faults = vi.hoisted(() => new Map<string, string>());
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const faulty =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    (...args: A): Promise<R> => {
      const code = faults.get(String(args[0]));
      return code === undefined ? call(...args) : Promise.reject(Object.assign(new Error(code), { code }));
    };
  return { ...real, stat: faulty(real.stat), readFile: faulty(real.readFile) };
});
function fault(path: string, code: string): string {
  faults.set(path, code);
  onTestFinished(() => void faults.delete(path));
  return path;
}

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-sentences-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

const sentence = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'no error',
    (error: Error) => error.message,
  );

async function listen(onSocket: (socket: Socket) => void): Promise<string> {
  const path = join(scratch(), 'socket');
  const server = createServer((socket) => onSocket(socket.on('error', () => undefined)));
  await once(server.listen(path), 'listening');
  onTestFinished(() => void server.close());
  return path;
}

describe('where xenstore is', () => {
  test('a path that does not exist', async () =>
    expect(await sentence(openTransport('/nowhere/xenbus'))).toBe(
      'xenstore: not available: /nowhere/xenbus does not exist; leave the path out to have it found',
    ));

  test('a path of $XENSTORED_PATH that does not exist', async () => {
    vi.stubEnv('XENSTORED_PATH', '/nowhere/socket');
    onTestFinished(() => void vi.unstubAllEnvs());
    expect(await sentence(openTransport())).toBe(
      'xenstore: not available: /nowhere/socket, named by $XENSTORED_PATH, does not exist; start xenstored, or unset XENSTORED_PATH to have it found',
    );
  });

  test('nowhere', async () => {
    vi.stubEnv('XENSTORED_PATH', '');
    onTestFinished(() => void vi.unstubAllEnvs());
    const places = ['/run/xenstored/socket', '/var/run/xenstored/socket', '/dev/xen/xenbus', '/proc/xen/xenbus'];
    for (const place of places) fault(place, 'ENOENT');
    expect(await sentence(openTransport())).toMatch(
      /^xenstore: not available: none of (\S+, )+\S+ exists\. In a Xen domain mount devtmpfs on \/dev or xenfs on \/proc\/xen; elsewhere there is nothing for vifd to do \(try: vifd demo\)$/,
    );
  });

  test('a file', async () =>
    expect(await sentence(openTransport('package.json'))).toBe(
      'package.json: is neither a unix socket nor a xenbus device; give the path of one with --xenstore',
    ));

  test('not for this user', async () =>
    expect(await sentence(openTransport(fault('/dev/xen/xenbus', 'EACCES')))).toBe(
      '/dev/xen/xenbus: permission denied: run as root, or as a member of the group that owns it',
    ));

  test('something else', async () =>
    expect(await sentence(openTransport(fault('/dev/xen/xenbus', 'EMFILE')))).toBe(
      '/dev/xen/xenbus: cannot be opened: EMFILE',
    ));

  test('a socket that nobody listens on', async () => {
    const directory = scratch();
    const [path, left] = [join(directory, 'socket'), join(directory, 'left')];
    const server = createServer().listen(path);
    await once(server, 'listening');
    renameSync(path, left);
    server.close();
    expect(await sentence(openTransport(left))).toBe(`${left}: nobody listens there: start xenstored`);
  });
});

describe('the connection to xenstore', () => {
  test('closed by the other side', async () => {
    const path = await listen((socket) => void socket.destroy());
    const client = await connectXenstore(path);
    expect((await client.closed).message).toBe(`${path}: xenstored closed the connection`);
  });

  test('a device at its end, and a message too long for one', async () => {
    const file = { read: async () => 0, write: async () => 0, close: async () => undefined };
    const device = new DeviceTransport('/dev/xen/xenbus', file);
    expect(await sentence(device.send(new Uint8Array(4097)))).toBe(
      '/dev/xen/xenbus: takes no message of more than 4096 bytes',
    );
    const closed = new Promise<Error | undefined>((resolve) => device.start(() => undefined, resolve));
    expect((await closed)?.message).toBe('/dev/xen/xenbus: the xenbus device reports end of file');
  });

  test('no answer', async () => {
    const client = await connectXenstore(await listen(() => undefined), { timeoutMs: 50 });
    onTestFinished(() => client.close());
    expect(await sentence(client.read('domid'))).toBe(
      'xenstore READ "domid": ETIMEDOUT (xenstored does not answer; is it alive in dom0?)',
    );
  });

  test('no transaction left', async () => {
    const path = await listen((socket) => {
      const parser = new Parser('client');
      socket.on('data', (bytes) => {
        for (const { reqId } of parser.push(bytes))
          socket.write(encodePacket({ type: XS.ERROR, reqId, txId: 0, payload: strings('ENOSPC') }));
      });
    });
    const client = await connectXenstore(path);
    onTestFinished(() => client.close());
    expect(await sentence(client.transaction(async () => undefined))).toBe(
      'xenstore TRANSACTION_START "": ENOSPC (this domain has too many transactions open)',
    );
  });
});

describe('configuration files', () => {
  test('one that this user may not read', async () =>
    expect(await sentence(loadConfig(fault('/etc/xen/vifd.toml', 'EACCES')))).toBe(
      '/etc/xen/vifd.toml: may not be read by this user; expected a readable TOML file',
    ));

  test('a directory that is none', async () =>
    expect(await sentence(loadConfig(undefined, 'package.json'))).toBe(
      'package.json: cannot be read (ENOTDIR); expected a readable directory',
    ));

  test('no TOML: without the parser’s own "Invalid TOML document: "', async () => {
    const [fault] = (await parseConfig('a.toml', 'vif')).faults;
    expect(fault?.message).toMatch(
      /^a\.toml:1: not TOML \((?!Invalid)[^)]+\); expected valid TOML, with text in quotes$/,
    );
  });

  test('the parser is not there any more', async () => {
    vi.resetModules();
    vi.doMock('smol-toml', () => {
      throw new Error('gone');
    });
    onTestFinished(() => void vi.doUnmock('smol-toml'));
    const fresh = await import('../../src/config/load.js');
    expect(await sentence(fresh.parseConfig('a.toml', ''))).toBe(
      "vifd's own TOML parser cannot be loaded; if vifd was installed anew while it ran, restart it",
    );
  });
});

describe('where vif scripts ask', () => {
  /** The one warning. */
  async function refusal(dir: string): Promise<string> {
    const lines: string[] = [];
    const log = pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
    const requests = await ScriptRequests.open({ dir, log, answer: async () => ({ is: 'unavailable' }) });
    await requests?.close();
    expect(lines.length).toBe(1);
    return lines[0] ?? '';
  }
  const PREFIX = 'vif scripts cannot ask this vifd and do the work themselves: ';
  const REMEDY =
    'make it, mode 0700, for the user that runs vifd (the systemd unit does), or name another in VIFD_RUN_DIR';

  test('a directory that cannot be made', async () =>
    expect(await refusal('package.json/run')).toBe(`${PREFIX}package.json/run cannot be made (ENOTDIR); ${REMEDY}`));

  test('one that others may enter', async () => {
    const dir = scratch();
    chmodSync(dir, 0o755);
    expect(await refusal(dir)).toBe(
      `${PREFIX}${dir} is open to others; it must belong to the user that runs vifd: chmod 0700 ${dir}`,
    );
  });

  test.skipIf(process.getuid?.() !== 0)('one of another user', async () => {
    const dir = scratch();
    chmodSync(dir, 0o700);
    chownSync(dir, 4711, 4711);
    expect(await refusal(dir)).toBe(
      `${PREFIX}${dir} belongs to user 4711, not to the one that runs vifd: run vifd as that one, or name another in VIFD_RUN_DIR`,
    );
  });

  test('one where another vifd reads', async () => {
    const dir = scratch();
    const stat = readFileSync(`/proc/${process.ppid}/stat`, 'latin1');
    const began = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    writeFileSync(join(dir, 'reader'), `${process.ppid} ${began}\n`);
    expect(await refusal(dir)).toBe(
      `${PREFIX}vifd (pid ${process.ppid}) reads their requests in ${dir} already; end one of the two`,
    );
  });

  test('no FIFO', async () => {
    const dir = scratch();
    mkdirSync(join(dir, 'bin'));
    writeFileSync(join(dir, 'bin/mkfifo'), '#!/bin/sh\nexit 3\n', { mode: 0o755 });
    vi.stubEnv('PATH', `${dir}/bin:${process.env.PATH}`);
    onTestFinished(() => void vi.unstubAllEnvs());
    mkdirSync(join(dir, 'run'), { mode: 0o700 });
    expect(await refusal(join(dir, 'run'))).toBe(`${PREFIX}mkfifo ${dir}/run/requests failed (exit code 3)`);
  });
});

describe('the kernel', () => {
  test('no bridge at all, named or not', async () => {
    const kernel = { getLink: async () => undefined, listLinks: async () => [] } as unknown as KernelNetwork;
    await expect(findPlace({ mode: 'bridge', bridge: 'br0' } as BridgeAttachment, kernel)).rejects.toMatchObject({
      message: 'bridge "br0" does not exist',
      hint: 'there is no bridge here; make it: ip link add NAME type bridge && ip link set NAME up',
    });
    await expect(findPlace({ mode: 'bridge' } as BridgeAttachment, kernel)).rejects.toMatchObject({
      message: 'dom0 named no bridge and there is none',
      hint: "make a bridge, or write bridge=NAME in the guest's vif line",
    });
  });

  test('no ethtool over netlink', async () => {
    const kernel = new Kernel();
    onTestFinished(() => kernel.close());
    Object.assign(kernel, { generic: { request: async () => [new Uint8Array(4)], close: () => undefined } });
    expect(await sentence(kernel.getFeatures({ ifindex: 1, ifname: 'lo' }))).toBe(
      'the kernel refused to find the ethtool family (Linux 5.6 or later): ENOENT',
    );
  });
});
