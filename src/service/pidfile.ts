/**
 * EDGE: the file that tells which process is the agent, for service managers that need one. Its owner holds a lock on it
 * (flock(2), by the program flock, since Node has no such call), which ends with the owner: of several that start at once
 * one gets it, and a file that was left behind is nobody's.
 */
import { spawnSync } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readFile, rm } from 'node:fs/promises';
import { VifdError } from '../errors.js';

const { O_CREAT, O_NOFOLLOW, O_RDWR } = constants;

export class Pidfile {
  private constructor(
    private readonly path: string,
    /** Never handed to a child: those must not keep the lock. */
    private readonly file: FileHandle,
  ) {}

  /** Rejects with code EALREADY when another vifd owns it; one that was left behind is taken over. */
  static async take(path: string): Promise<Pidfile> {
    for (;;) {
      const file = await openOwn(path);
      try {
        const owner = await readPid(path, file);
        if (!tryLock(path, file)) throw new VifdError('EALREADY', `vifd is running already: ${path} names ${owner}`);
        if ((await lstat(path).catch(() => undefined))?.ino === (await file.stat()).ino) {
          await file.truncate();
          await file.write(`${process.pid}\n`, 0);
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
    if (text.trim() === String(process.pid)) await rm(this.path, { force: true });
    await this.file.close();
  }
}

async function openOwn(path: string): Promise<FileHandle> {
  return open(path, O_CREAT | O_NOFOLLOW | O_RDWR, 0o644).catch(({ code }: NodeJS.ErrnoException) => {
    if (['ELOOP', 'EISDIR', 'ENXIO'].includes(code ?? '')) throw noPidfile(path);
    const remedy = "its directory must be vifd's to write";
    throw new VifdError('EPIDFILE', `the pid file ${path} cannot be written (${code}); ${remedy}`);
  });
}

/** `process 4711`. Rejects for what is no pid file: it may be precious. */
async function readPid(path: string, file: FileHandle): Promise<string> {
  if (!(await file.stat()).isFile()) throw noPidfile(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(20), 0, 20, 0);
  const text = buffer.toString('latin1', 0, bytesRead).trim();
  if (!/^[0-9]{0,10}$/.test(text)) throw noPidfile(path);
  return text === '' ? 'no process yet' : `process ${text}`;
}

const noPidfile = (path: string) =>
  new VifdError('EPIDFILE', `${path} is there and is no pid file; remove it, or name another with --pidfile`);

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
