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
}

/** Builds the image if it is not cached (a minute), without keeping the tests' event loop from turning. */
export async function baseImage(): Promise<string> {
  const { stdout } = await execa(join(here, 'build.sh'), { env: { NODE: process.execPath } });
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

  const client = join(dir, 'client');
  install('client-init', join(client, 'init'));
  install('client-reboot', join(client, 'sbin/reboot'));
  install('client-poweroff', join(client, 'sbin/poweroff'));

  install('dom0-init', join(system, 'init'));
  install('nicdom-run', join(system, 'lab/nicdom-run'));
  mkdirSync(join(system, 'guests'));
  copyFileSync(join(here, 'guest/nicdom.cfg'), join(system, 'guests/nicdom.cfg'));
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
  install('lab.hook', join(dir, 'vif-post.d/lab.hook'));
  for (const name of ['vif-vifd', 'vif-bridge_qlen', 'vif-bridge_TxOff'])
    symlinkSync('/opt/vifd/scripts/vif-vifd', join(dir, name));
}

function install(name: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(join(here, 'guest', name), to);
  chmodSync(to, 0o755);
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
