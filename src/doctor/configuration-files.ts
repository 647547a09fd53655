/** EDGE: files of other programs that may be about vifs. */
import { readdir, readFile } from 'node:fs/promises';
import type { ConfigurationFiles, TextFile } from './machine.js';

/** Of files with the same name the one in the first directory counts; an empty one or /dev/null hides the others. */
const UDEV = [
  '/etc/udev/rules.d',
  '/run/udev/rules.d',
  '/usr/local/lib/udev/rules.d',
  '/usr/lib/udev/rules.d',
  '/lib/udev/rules.d',
];
const NETWORKD = ['/etc', '/run', '/usr/local/lib', '/usr/lib', '/lib'].map((root) => `${root}/systemd/network`);
const NETWORK_MANAGER = ['/etc', '/run', '/usr/lib'].map((root) => `${root}/NetworkManager/conf.d`);

/** `root` stands before every path; tests have one of their own. */
export async function readConfigurationFiles(root = ''): Promise<ConfigurationFiles> {
  const at = (paths: readonly string[]) => paths.map((path) => `${root}${path}`);
  const [udevRules, interfaces, networkManager, networkd] = await Promise.all([
    readOverlaid(at(UDEV), '.rules'),
    readAll(at(['/etc/network/interfaces']), at(['/etc/network/interfaces.d']), ''),
    readAll(at(['/etc/NetworkManager/NetworkManager.conf']), at(NETWORK_MANAGER), '.conf'),
    readOverlaid(at(NETWORKD), '.network'),
  ]);
  return { udevRules, interfaces, networkManager, networkd };
}

async function readAll(paths: readonly string[], directories: readonly string[], ending: string): Promise<TextFile[]> {
  const single = await Promise.all(paths.map(readTextFile));
  return [...single.flat(), ...(await readOverlaid(directories, ending))];
}

/** In the order of their names, whatever directory they are in. */
async function readOverlaid(directories: readonly string[], ending: string): Promise<TextFile[]> {
  const paths = new Map<string, string>();
  for (const directory of directories) {
    const names = await readdir(directory).catch(() => []);
    for (const name of names) if (name.endsWith(ending) && !paths.has(name)) paths.set(name, `${directory}/${name}`);
  }
  const ordered = [...paths].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, path]) => path);
  return (await Promise.all(ordered.map(readTextFile))).flat();
}

async function readTextFile(path: string): Promise<TextFile[]> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  return text === undefined ? [] : [{ path, text }];
}
