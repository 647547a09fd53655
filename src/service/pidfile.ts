/**
 * EDGE: the file that tells which process is the agent, for service managers that need one. Its owner holds a lock on it
 * (flock(2), by the program flock, since Node has no such call), which ends with the owner: of several that start at once
 * one gets it, and a file that was left behind is nobody's. Only its owner may open it: who can open a file can lock it.
 */
import { spawnSync } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readFile, rm } from 'node:fs/promises';
import { VifdError } from '../errors.js';
import { remedyForFile } from './run-directory.js';

const { O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_RDWR } = constants;

export class Pidfile {
  private constructor(
    private readonly path: string,
    /** Never handed to a child: those must not keep the lock. */
    private readonly file: FileHandle,
  ) {}

  /**
   * Rejects with code EALREADY when another vifd owns it, ENOPIDFILE when there can be none; one that was left behind is taken
   * over.
   */
  static async take(path: string): Promise<Pidfile> {
    for (;;) {
      const file = await openOwn(path);
      try {
        const owner = await readPid(path, file);
        if (!tryLock(path, file)) throw new VifdError('EALREADY', `vifd is running already: ${path} names ${owner}`);
        if ((await lstat(path).catch(() => undefined))?.ino === (await file.stat()).ino) {
          await writePid(path, file);
          return new Pidfile(path, file);
        }
      } catch (error) {
        await file.close();
        throw error;
      }
      await file.close(); // the owner removed it at its end, after we had opened it
    }
  }

  /** Removes it, unless it is another's by now. */
  async release(): Promise<void> {
    const text = await readFile(this.path, 'utf8').catch(() => '');
    if (text.trim() === String(process.pid)) await rm(this.path, { force: true }).catch(() => undefined); // read-only by now
    await this.file.close();
  }
}

async function openOwn(path: string): Promise<FileHandle> {
  return open(path, O_CREAT | O_NOFOLLOW | O_RDWR | O_NONBLOCK, 0o600).catch(({ code }: NodeJS.ErrnoException) => {
    throw ['ELOOP', 'EISDIR', 'ENXIO'].includes(code ?? '') ? noPidfile(path) : cannotWrite(path, code);
  });
}

async function writePid(path: string, file: FileHandle): Promise<void> {
  try {
    await file.truncate();
    await file.write(`${process.pid}\n`, 0);
  } catch (error) {
    await rm(path, { force: true }).catch(() => undefined); // it is empty
    throw cannotWrite(path, (error as NodeJS.ErrnoException).code);
  }
}

const cannotWrite = (path: string, code = 'EIO') =>
  new VifdError('ENOPIDFILE', `the pid file ${path} cannot be written (${code}); ${remedyForFile(path, code)}`);

/** `process 4711`. Rejects for what is no pid file: it may be precious. */
async function readPid(path: string, file: FileHandle): Promise<string> {
  const status = await file.stat();
  if (!status.isFile() || status.nlink !== 1) throw noPidfile(path);
  if (status.uid !== process.geteuid?.()) throw strange(path, status.uid);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(20), 0, 20, 0);
  const text = buffer.toString('latin1', 0, bytesRead).trim();
  if (!/^[0-9]{0,10}$/.test(text)) throw noPidfile(path);
  await file.chmod(0o600);
  return text === '' ? 'no process yet' : `process ${text}`;
}

const noPidfile = (path: string) =>
  new VifdError('EPIDFILE', `${path} is there and is no pid file; remove it, or name another with --pidfile`);

const strange = (path: string, uid: number) =>
  new VifdError('EPIDFILE', `the pid file ${path} belongs to user ${uid}, who could change it; remove it`);

/** False: another process has it. The child locks what it shares with us, so the lock outlives it. */
function tryLock(path: string, { fd }: FileHandle): boolean {
  const { status, error, stderr } = spawnSync('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'pipe', fd] });
  if (status === 0 || status === 1) return status === 0;
  const why = error?.message ?? String(stderr).trim();
  throw new VifdError(
    'EPIDFILE',
    `the pid file ${path} cannot be locked (${why}); install flock (util-linux or busybox)`,
  );
}
