/** What the lab boots: the cached image of build.sh, and the small overlay with the program under test, made at each run. */
import { chmodSync, copyFileSync, cpSync, createReadStream, createWriteStream, mkdirSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { execa } from 'execa';

const here = dirname(fileURLToPath(import.meta.url));
const project = join(here, '../..');

export interface Image {
  readonly xen: string;
  readonly vmlinuz: string;
  /** dom0's whole initramfs, parts in order. */
  readonly initramfs: readonly string[];
  /** The driver domain's root; undefined: it is an initramfs. */
  readonly disk?: string;
}

/** Debian 12: Xen 4.17, all domains on initramfs. Debian 13: Xen 4.20, the driver domain a whole Debian with systemd. */
export type Release = 'bookworm' | 'trixie';

/** Builds the image if it is not cached (a minute or two), without keeping the tests' event loop from turning. */
export async function baseImage(release: Release = 'bookworm'): Promise<string> {
  const { stdout } = await execa(join(here, 'build.sh'), [release], { env: { NODE: process.execPath } });
  return stdout.trim();
}

/** `programs` are TypeScript files; each becomes /lab/<name>.mjs in dom0 and in nicdom. */
export async function makeImage(dir: string, programs: readonly string[]): Promise<Image> {
  const base = await baseImage();
  const system = join(dir, 'system');
  await stageSystem(system, programs);
  const nicdom = join(dir, 'nicdom');
  cpSync(system, nicdom, { recursive: true });
  install('nicdom-init', join(nicdom, 'init'));
  return finishImage(dir, base, { system, nicdom, config: 'nicdom.cfg' });
}

/** The driver domain on its disk gets nothing but the lab's hand, and `files` in /root. */
export async function makeDiskImage(dir: string, files: readonly string[]): Promise<Image> {
  const base = await baseImage('trixie');
  const [system, nicdom] = [join(dir, 'system'), join(dir, 'nicdom')];
  install('control', join(system, 'lab/control'));
  install('block', join(system, 'lab/block'));
  install('nicdom-disk-init', join(nicdom, 'init'));
  const payload = join(nicdom, 'payload');
  install('control', join(payload, 'lab/control'));
  install('console', join(payload, 'lab/console'));
  const units = join(payload, 'etc/systemd/system');
  install('lab.service', join(units, 'lab.service'), 0o644);
  mkdirSync(join(units, 'multi-user.target.wants'));
  symlinkSync('../lab.service', join(units, 'multi-user.target.wants/lab.service'));
  for (const file of files) cpSync(file, join(payload, 'root', basename(file)));
  const image = await finishImage(dir, base, { system, nicdom, config: 'nicdom-disk.cfg' });
  return { ...image, disk: join(base, 'nicdom.img') };
}

/** The overlays of all domains, from the trees staged in `dir`. */
async function finishImage(
  dir: string,
  base: string,
  { system, nicdom, config }: { system: string; nicdom: string; config: string },
): Promise<Image> {
  const client = join(dir, 'client');
  install('client-init', join(client, 'init'));
  install('client-reboot', join(client, 'sbin/reboot'));
  install('client-poweroff', join(client, 'sbin/poweroff'));

  install('dom0-init', join(system, 'init'));
  install('nicdom-run', join(system, 'lab/nicdom-run'));
  install(config, join(system, 'guests/nicdom.cfg'), 0o644);
  await pack(nicdom, join(system, 'guests/nicdom-overlay.cpio'));
  await pack(client, join(system, 'guests/client-overlay.cpio'));
  const overlay = join(dir, 'dom0-overlay.cpio');
  await pack(system, overlay);
  return {
    xen: join(base, 'xen'),
    vmlinuz: join(base, 'vmlinuz'),
    initramfs: [join(base, 'system.cpio'), join(base, 'guests.cpio'), overlay],
  };
}

/** What dom0 and nicdom share: vifd as a package would install it, and the lab's own programs. */
async function stageSystem(root: string, programs: readonly string[]): Promise<void> {
  const vifd = join(root, 'opt/vifd');
  for (const part of ['dist', 'scripts', 'udev', 'package.json', 'node_modules/netlink', 'node_modules/node-gyp-build'])
    cpSync(join(project, part), join(vifd, part), { recursive: true, verbatimSymlinks: true });
  stageScripts(join(root, 'etc/xen/scripts'));
  install('vifd-wrapper', join(root, 'usr/sbin/vifd'));
  install('control', join(root, 'lab/control'));
  install('agent-start', join(root, 'lab/agent-start'));
  for (const program of programs) {
    await build({
      entryPoints: [program],
      outfile: join(root, 'lab', `${basename(program).replace(/\.\w+$/, '')}.mjs`),
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      logLevel: 'warning',
      external: ['netlink', 'pino-pretty', 'vitest'],
      banner: {
        js: "import { createRequire as labCreateRequire } from 'node:module'; const require = labCreateRequire(import.meta.url);",
      },
    });
  }
}

/** vif-vifd as README says, and what the scenarios need to see its callers and its work. */
function stageScripts(dir: string): void {
  install('vif-recorded', join(dir, 'vif-recorded'));
  install('recorded.toml', join(dir, '../vifd.d/recorded.toml'));
  install('lab.hook', join(dir, 'vif-post.d/lab.hook'));
  for (const name of ['vif-vifd', 'vif-bridge_qlen', 'vif-bridge_TxOff'])
    symlinkSync('/opt/vifd/scripts/vif-vifd', join(dir, name));
}

function install(name: string, to: string, mode = 0o755): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(join(here, 'guest', name), to);
  chmodSync(to, mode);
}

/** A newc archive of a tree, for the end of an initramfs. */
async function pack(tree: string, file: string): Promise<void> {
  const { stdout } = await execa('find', ['.', '-mindepth', '1', '-printf', '%P\\n'], { cwd: tree });
  const names = stdout.split('\n').sort().join('\n');
  await execa('cpio', ['-o', '-H', 'newc', '-R', '0:0', '--quiet'], {
    cwd: tree,
    input: names,
    stdout: { file },
    buffer: false,
  });
}

/** Joins the parts: the kernel unpacks one archive after the other. */
export async function joinInitramfs(image: Image, file: string): Promise<void> {
  for (const part of image.initramfs) await pipeline(createReadStream(part), createWriteStream(file, { flags: 'a' }));
}
