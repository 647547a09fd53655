/** The Debian package under test, a newer one of the same program, and the README's words on how to install it. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';

const project = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** In the driver domain's /root. */
export const NEWER = 'vifd-newer.deb';

/** Makes both packages; the newer one differs by its version alone, which NEWER_VERSION appends. */
export const NEWER_VERSION = '+newer';
export async function makePackages(dir: string): Promise<string[]> {
  const { stdout } = await execa('npm', ['run', '-s', 'package', '--', 'amd64'], { cwd: project });
  const deb = join(project, stdout.trim().split('\n').at(-1) ?? '');
  const tree = join(dir, 'newer');
  mkdirSync(tree);
  await execa('dpkg-deb', ['--raw-extract', deb, tree]);
  const control = join(tree, 'DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*/m, `$&${NEWER_VERSION}`));
  const newer = join(dir, NEWER);
  await execa('dpkg-deb', ['--root-owner-group', '-Znone', '--build', tree, newer]);
  return [deb, newer];
}

/** The README's commands for the driver domain, as they stand there: a newcomer copies the whole block. */
export function installCommands(): string {
  const readme = readFileSync(join(project, 'README.md'), 'utf8');
  const block = [...readme.matchAll(/^```\n([^`]*?)^```/gm)].find(([, text]) =>
    /^apt install \.\/vifd/m.test(text ?? ''),
  );
  if (!block?.[1]) throw new Error('README.md has no block of commands with "apt install ./vifd..."');
  return block[1];
}
