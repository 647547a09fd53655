// `npm run package [-- ARCHITECTURE ...]`: makes build/vifd_VERSION_ARCHITECTURE.deb, the same bytes from the same input.
// The files come from scripts/, udev/ and the program itself; scripts/debian/ has what only Debian needs.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { bundle } from './bundle.mjs';
import { copyright } from './debian/copyright.mjs';
import { packagesIn, sbom } from './sbom.mjs';

/** By Debian's name: node's, under which netlink brings its native part compiled, and that of the GNU tools. */
const ARCHITECTURES = {
  amd64: { prebuild: 'linux-x64', tools: 'x86-64-linux-gnu' },
  arm64: { prebuild: 'linux-arm64', tools: 'aarch64-linux-gnu' },
};
const PROGRAM = 'build/program';
const NATIVE = './netlink.node';

const { version, type } = JSON.parse(readFileSync('package.json', 'utf8'));
const debianVersion = version.replace('-', '~');
const debian = (name) => readFileSync(`scripts/debian/${name}`, 'utf8');

/** The newest entry's date is that of all files. */
function readDate() {
  const [, latest, date] = /^vifd \((.+?)\)[\s\S]*?^ -- .*?> {2}(.+)$/m.exec(debian('changelog')) ?? [];
  if (latest === debianVersion) return new Date(date);
  throw new Error(`scripts/debian/changelog begins with version ${latest}, package.json has ${version}; add an entry`);
}

/** netlink asks node-gyp-build where its native part is; here that lies beside the bundle. */
const nativeBesideBundle = {
  name: 'native part beside the bundle',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node-gyp-build$/ }, ({ path }) => ({ path, namespace: 'native' }));
    onLoad({ filter: /.*/, namespace: 'native' }, () => ({
      contents: `module.exports = () => require('${NATIVE}')`,
    }));
    onResolve({ filter: /\.node$/ }, ({ path }) => ({ path, external: true }));
  },
};

/** The program with all packages that it uses, as it lies in /usr/lib/vifd; the same for each architecture. */
async function buildProgram() {
  const { metafile } = await bundle({
    entryPoints: { main: 'src/main.ts' },
    outdir: `${PROGRAM}/dist`,
    plugins: [nativeBesideBundle],
    define: { __dirname: '""' }, // netlink's, for node-gyp-build
    metafile: true,
  });
  const main = `${PROGRAM}/dist/main.js`;
  writeFileSync(main, readFileSync(main, 'utf8').replace('#!/usr/bin/env node', '#!/usr/bin/node'));
  writeFileSync(`${PROGRAM}/package.json`, `${JSON.stringify({ name: 'vifd', version, type })}\n`);
  return metafile;
}

const output = (...words) =>
  execFileSync(process.execPath, [`${PROGRAM}/dist/main.js`, ...words], { encoding: 'utf8' });

/** What is the same on each architecture: path → text. */
function texts(metafile) {
  const doc = 'usr/share/doc/vifd';
  return {
    'usr/share/man/man8/vifd.8.gz': output('manual', 'vifd.8'),
    'usr/share/man/man5/vifd.toml.5.gz': output('manual', 'vifd.toml.5'),
    'usr/share/bash-completion/completions/vifd': output('manual', 'bash'),
    'usr/share/zsh/vendor-completions/_vifd': output('manual', 'zsh'),
    'usr/share/fish/vendor_completions.d/vifd.fish': output('manual', 'fish'),
    [`${doc}/examples/vifd.toml`]: output('config', 'show', '--defaults'),
    [`${doc}/README.md.gz`]: readFileSync('README.md', 'utf8'),
    [`${doc}/README.Debian`]: debian('README.Debian'),
    [`${doc}/SECURITY.md`]: readFileSync('SECURITY.md', 'utf8'),
    [`${doc}/changelog.gz`]: debian('changelog'),
    [`${doc}/copyright`]: copyright(metafile),
    'etc/logrotate.d/vifd': debian('logrotate'),
    'usr/share/lintian/overrides/vifd': debian('lintian-overrides'),
  };
}

/** From this repository to the package. */
const COPIES = {
  'scripts/service/vifd.service': 'usr/lib/systemd/system/vifd.service',
  'scripts/service/vifd.sysusers': 'usr/lib/sysusers.d/vifd.conf',
  'scripts/service/vifd.modules-load': 'usr/lib/modules-load.d/vifd.conf',
  'scripts/service/vifd.sysv': 'etc/init.d/vifd',
  'scripts/service/vifd-bindings.conf': 'usr/share/doc/vifd/examples/vifd-bindings.conf',
  'scripts/service/vifd-dhcp.conf': 'usr/share/doc/vifd/examples/vifd-dhcp.conf',
  'scripts/service/vifd.openrc': 'usr/share/doc/vifd/examples/vifd.openrc',
  'scripts/service/domain-check.sh': 'usr/lib/vifd/domain-check.sh',
  'scripts/vif-vifd': 'usr/lib/vifd/scripts/vif-vifd',
  'udev/70-vifd.rules': 'usr/lib/udev/rules.d/70-vifd.rules',
  'udev/70-vifd-hands-off.rules': 'usr/lib/udev/rules.d/70-vifd-hands-off.rules',
  'udev/05-vifd.link': 'usr/lib/systemd/network/05-vifd.link',
  'udev/05-vifd.network': 'usr/lib/systemd/network/05-vifd.network',
  'udev/05-vifd-named.network': 'usr/lib/systemd/network/05-vifd-named.network',
  'udev/90-vifd-networkmanager.conf': 'usr/lib/NetworkManager/conf.d/90-vifd-networkmanager.conf',
  'udev/opt-in/80-vifd-hotplug.rules': 'usr/share/doc/vifd/examples/80-vifd-hotplug.rules',
};
const LINKS = {
  'usr/bin/vifd': '../lib/vifd/dist/main.js',
  'usr/lib/vifd/scripts/vif-bridge_qlen': 'vif-vifd',
  'usr/lib/vifd/scripts/vif-bridge_TxOff': 'vif-vifd',
};
const DIRECTORIES = ['etc/xen/scripts', 'etc/xen/vifd.d'];
const EXECUTABLE = ['etc/init.d/vifd', 'usr/lib/vifd/dist/main.js', 'usr/lib/vifd/scripts/vif-vifd'];

function lay(root, metafile) {
  const place = (path) => {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    return join(root, path);
  };
  cpSync(PROGRAM, place('usr/lib/vifd'), { recursive: true });
  for (const [path, text] of Object.entries(texts(metafile)))
    writeFileSync(place(path), path.endsWith('.gz') ? gzipSync(text, { level: 9 }) : text);
  for (const [from, to] of Object.entries(COPIES)) copyFileSync(from, place(to));
  for (const [path, target] of Object.entries(LINKS)) symlinkSync(target, place(path));
  for (const path of DIRECTORIES) mkdirSync(place(path), { recursive: true });
}

function addNative(root, { prebuild, tools }) {
  const file = `${root}/usr/lib/vifd/dist/${NATIVE}`;
  copyFileSync(`node_modules/netlink/prebuilds/${prebuild}/node.napi.node`, file);
  const strip = `${tools.replace('x86-64', 'x86_64')}-strip`;
  tool(strip, `binutils-${tools}`, ['--strip-unneeded', '--remove-section=.comment', file]);
}

function tool(name, debianPackage, words, env = {}) {
  try {
    execFileSync(name, words, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...env } });
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    throw new Error(`the program ${name} is missing; install Debian's package ${debianPackage}`);
  }
}

/** All that the package holds, in a fixed order. */
const entriesOf = (root) =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .map((entry) => ({ entry, path: join(entry.parentPath, entry.name).slice(root.length + 1) }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));

/** As dpkg-gencontrol counts: whole KiB for a file, one for anything else. */
const sizeOf = (root, entries) =>
  entries.reduce(
    (sum, { entry, path }) => sum + (entry.isFile() ? Math.ceil(statSync(join(root, path)).size / 1024) : 1),
    0,
  );

function writeControl(root, architecture) {
  const entries = entriesOf(root);
  const files = entries.filter(({ entry }) => entry.isFile()).map(({ path }) => path);
  const md5 = (path) =>
    createHash('md5')
      .update(readFileSync(join(root, path)))
      .digest('hex');
  mkdirSync(`${root}/DEBIAN`);
  const write = (name, text) => writeFileSync(`${root}/DEBIAN/${name}`, text);
  const values = { VERSION: debianVersion, ARCHITECTURE: architecture, INSTALLED_SIZE: sizeOf(root, entries) };
  write(
    'control',
    debian('control').replace(/@(\w+)@/g, (_, name) => values[name]),
  );
  write('md5sums', files.map((path) => `${md5(path)}  ${path}\n`).join(''));
  write(
    'conffiles',
    files
      .filter((path) => path.startsWith('etc/'))
      .map((path) => `/${path}\n`)
      .join(''),
  );
  for (const name of ['preinst', 'postinst', 'prerm', 'postrm']) write(name, debian(name));
}

/** Modes and times must not depend on who builds, when and with which umask. */
function settle(root, date) {
  for (const { entry, path } of [{ entry: statSync(root), path: '' }, ...entriesOf(root)]) {
    const runs = EXECUTABLE.includes(path) || /^DEBIAN\/p(re|ost)/.test(path);
    if (!entry.isSymbolicLink()) chmodSync(join(root, path), entry.isDirectory() || runs ? 0o755 : 0o644);
    lutimesSync(join(root, path), date, date);
  }
}

function makePackage(architecture, metafile, date) {
  const root = `build/${architecture}`;
  const file = `build/vifd_${debianVersion}_${architecture}.deb`;
  lay(root, metafile);
  addNative(root, ARCHITECTURES[architecture]);
  const materials = { root: `${root}/usr/lib/vifd/dist`, bundled: packagesIn(metafile), native: true, date };
  writeFileSync(`${root}/usr/share/doc/vifd/sbom.cdx.json`, sbom(materials));
  writeControl(root, architecture);
  settle(root, date);
  const seconds = String(date.getTime() / 1000);
  // xz's output depends on the number of its threads.
  const words = ['--build', '--root-owner-group', '-Zxz', '--threads-max=1', root, file];
  tool('dpkg-deb', 'dpkg', words, { SOURCE_DATE_EPOCH: seconds });
  return file;
}

async function main(wanted) {
  const unknown = wanted.filter((name) => !(name in ARCHITECTURES));
  if (unknown.length > 0) throw new Error(`no package can be made for ${unknown.join(', ')}; expected amd64 or arm64`);
  const date = readDate();
  rmSync('build', { recursive: true, force: true });
  const metafile = await buildProgram();
  for (const architecture of wanted) {
    try {
      console.log(makePackage(architecture, metafile, date));
    } catch (error) {
      fail(`no package for ${architecture}: ${error.message}`);
    }
  }
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}

const words = process.argv.slice(2);
await main(words.length > 0 ? words : Object.keys(ARCHITECTURES)).catch((error) => fail(error.message));
