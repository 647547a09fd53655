/** EDGE: the file that tells which process is the agent, for service managers that need one. */
import { constants } from 'node:fs';
import { lstat, open, readFile, rm } from 'node:fs/promises';
import { isAgent } from '../doctor/processes.js';
import { VifdError } from '../errors.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

export class Pidfile {
  private constructor(private readonly path: string) {}

  /** Rejects with code EALREADY when another vifd owns it; one that was left behind is replaced. */
  static async take(path: string): Promise<Pidfile> {
    for (let attempt = 0; ; attempt++) {
      try {
        // Made by this process or not at all: neither a link nor somebody else's file is written through.
        const file = await open(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o644);
        await file.writeFile(`${process.pid}\n`);
        await file.close();
        return new Pidfile(path);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'EEXIST' || attempt > 0) throw refused(path, code);
      }
      const owner = await ownerOf(path); // refuses what is no pid file
      if (owner !== undefined)
        throw new VifdError('EALREADY', `vifd is running already: ${path} names process ${owner}`);
      await rm(path, { force: true });
    }
  }

  /** Removes it, unless it is another's by now. */
  async release(): Promise<void> {
    const text = await readFile(this.path, 'utf8').catch(() => '');
    if (text.trim() === String(process.pid)) await rm(this.path, { force: true });
  }
}

const refused = (path: string, code: string | undefined) =>
  new VifdError('EPIDFILE', `the pid file ${path} cannot be written (${code}); its directory must be vifd's to write`);

/** The process that the file names, if that is a vifd that lives. Rejects for what is no pid file: it may be precious. */
async function ownerOf(path: string): Promise<number | undefined> {
  const text = (await lstat(path)).isFile() ? (await readFile(path, 'utf8')).slice(0, 20).trim() : 'no file';
  if (!/^[0-9]{0,10}$/.test(text))
    throw new VifdError('EPIDFILE', `${path} is there and is no pid file; remove it, or name another with --pidfile`);
  const pid = Number(text);
  // Process ids are used again: another program's is no vifd.
  return pid > 0 && pid !== process.pid && (await isAgent(pid)) ? pid : undefined;
}
