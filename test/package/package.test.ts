/** What `npm run package` makes, and the tarball of `npm pack`. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  type Dirent,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const files = { amd64: `build/vifd_${version}_amd64.deb`, arm64: `build/vifd_${version}_arm64.deb` };
const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8' });
const field = (name: string, file = files.amd64): string => run('dpkg-deb', '--field', file, name).trim();
const hash = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-package-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

function unpacked(file: string): string {
  const directory = scratch();
  run('dpkg-deb', '--extract', file, directory);
  return directory;
}

describe.each(Object.entries(files))('the package for %s', (architecture, file) => {
  test('lintian finds no error and no warning', () => {
    const { stdout, status } = spawnSync('lintian', ['--fail-on', 'error,warning', file], { encoding: 'utf8' });
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });

  test('is of this architecture, and so is its native part', () => {
    expect([field('Architecture', file), field('Version', file)]).toEqual([architecture, version]);
    // e_machine, elf.h: 62 is x86-64, 183 AArch64.
    const native = readFileSync(join(unpacked(file), 'usr/lib/vifd/dist/netlink.node'));
    expect(native.readUInt16LE(18)).toBe({ amd64: 62, arm64: 183 }[architecture]);
  });
});

test('shellcheck has nothing to say of its scripts', () => {
  const scripts = ['preinst', 'postinst', 'prerm', 'postrm'].map((name) => `scripts/debian/${name}`);
  const { status, stdout } = spawnSync('shellcheck', ['-s', 'sh', '-x', ...scripts], { encoding: 'utf8' });
  expect(stdout).toBe('');
  expect(status).toBe(0);
});

test('depends on what its native part is linked to and on what vifd calls', () => {
  const depends = field('Depends')
    .split(', ')
    .map((one) => one.split(' ')[0]);
  expect(field('Depends')).toContain('nodejs (>= 20)');
  const native = join(unpacked(files.amd64), 'usr/lib/vifd/dist/netlink.node');
  const linked = [...run('objdump', '-p', native).matchAll(/NEEDED\s+(\S+)\.so/g)].map(([, name]) => name);
  const owners: Record<string, string> = {
    libc: 'libc6',
    libpthread: 'libc6',
    libgcc_s: 'libgcc-s1',
    'libstdc++': 'libstdc++6',
  };
  expect(depends).toEqual(expect.arrayContaining(['iproute2', ...linked.map((name) => owners[name ?? ''])]));
  // Node's stable interface: with V8's own symbols it would need the very Node it was compiled for.
  expect(run('objdump', '-T', native)).not.toMatch(/ _ZN2v8/);
});

test('has every file in its place, and nothing where others have theirs', () => {
  const listed = run('dpkg-deb', '--contents', files.amd64).trim().split('\n');
  const paths = listed.map((line) => line.replace(/^(\S).* \.\//, '$1 /'));
  expect(paths).toEqual(
    expect.arrayContaining([
      '- /usr/lib/vifd/dist/main.js',
      'l /usr/bin/vifd -> ../lib/vifd/dist/main.js',
      '- /usr/lib/vifd/scripts/vif-vifd',
      'l /usr/lib/vifd/scripts/vif-bridge_qlen -> vif-vifd',
      'l /usr/lib/vifd/scripts/vif-bridge_TxOff -> vif-vifd',
      '- /usr/lib/systemd/system/vifd.service',
      '- /usr/lib/sysusers.d/vifd.conf',
      '- /usr/lib/modules-load.d/vifd.conf',
      '- /usr/lib/udev/rules.d/70-vifd.rules',
      '- /usr/lib/udev/rules.d/70-vifd-hands-off.rules',
      '- /usr/lib/systemd/network/05-vifd.link',
      '- /usr/lib/systemd/network/05-vifd.network',
      '- /usr/lib/systemd/network/05-vifd-named.network',
      '- /usr/lib/NetworkManager/conf.d/90-vifd-networkmanager.conf',
      '- /usr/share/man/man8/vifd.8.gz',
      '- /usr/share/man/man5/vifd.toml.5.gz',
      '- /usr/share/bash-completion/completions/vifd',
      '- /usr/share/zsh/vendor-completions/_vifd',
      '- /usr/share/fish/vendor_completions.d/vifd.fish',
      '- /usr/share/doc/vifd/examples/vifd.toml',
      '- /usr/share/doc/vifd/examples/vifd.openrc',
      '- /usr/share/doc/vifd/examples/vifd-bindings.conf',
      '- /usr/share/doc/vifd/examples/vifd-dhcp.conf',
      '- /usr/share/doc/vifd/examples/80-vifd-hotplug.rules',
      '- /usr/share/doc/vifd/SECURITY.md',
      '- /usr/share/doc/vifd/sbom.cdx.json',
    ]),
  );
  const etc = paths.filter((path) => path.includes(' /etc/') && !path.endsWith('/'));
  expect(etc).toEqual(['- /etc/init.d/vifd', '- /etc/logrotate.d/vifd']);
  expect(listed.filter((line) => !/ root\/root /.test(line))).toEqual([]);
});

test('the files in udev/ are where their first lines say', () => {
  const root = unpacked(files.amd64);
  const udev = run('git', 'ls-files', 'udev').trim().split('\n');
  const said = udev.map((file) => [
    file,
    /Goes\s+(?:#\s+)?to\s+(?:#\s+)?(\/usr\/lib\S*[^.\s])/.exec(readFileSync(file, 'utf8'))?.[1],
  ]);
  const placed = said.filter(([, directory]) => directory !== undefined) as [string, string][];
  expect(placed.length).toBe(5);
  for (const [file, directory] of placed)
    expect(existsSync(join(root, directory, file.slice('udev/'.length))), file).toBe(true);
});

test('the licence of every bundled package is there', () => {
  const text = readFileSync(join(unpacked(files.amd64), 'usr/share/doc/vifd/copyright'), 'utf8');
  for (const name of ['vifd', 'netlink', 'node-addon-api', 'execa', 'pino', 'pino-pretty', 'commander', 'smol-toml'])
    expect(text).toMatch(RegExp(`^${name}\n=+\n[^]*?(MIT|Permission is hereby granted|Redistribution)`, 'm'));
});

describe('the bill of materials', () => {
  interface Component {
    type: string;
    name: string;
    version?: string;
    purl?: string;
    hashes?: { alg: string; content: string }[];
    properties?: { value: string }[];
  }
  interface Bom {
    bomFormat: string;
    specVersion: string;
    metadata: { component: Component; timestamp?: string };
    components: Component[];
    dependencies: { ref: string; dependsOn: string[] }[];
  }
  const bomIn = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as Bom;
  const libraries = ({ components }: Bom) => components.filter(({ type }) => type === 'library');
  const line = ({ purl, hashes }: Component) => `${purl} ${hashes?.map(({ alg, content }) => alg + content)}`;
  const filesOf = (root: string) =>
    (readdirSync(root, { recursive: true, withFileTypes: true }) as Dirent[])
      .filter((entry) => entry.isFile() && entry.name !== 'sbom.cdx.json')
      .map((entry) => `dist/${join(entry.parentPath, entry.name).slice(root.length + 1)}`)
      .sort();

  /** The files are all there are, and have these hashes; what depends on what is in the list. */
  function checkBom(bom: Bom, root: string) {
    expect(bom).toMatchObject({
      bomFormat: 'CycloneDX',
      specVersion: '1.5',
      metadata: { component: { name: 'vifd', version } },
    });
    const listed = bom.components.filter(({ type }) => type === 'file');
    expect(listed.map(({ name }) => name)).toEqual(filesOf(root));
    for (const { name, hashes } of listed)
      expect([name, hashes]).toEqual([
        name,
        [{ alg: 'SHA-256', content: hash(join(root, name.slice('dist/'.length))) }],
      ]);
    const refs = new Set(bom.components.map(({ purl }) => purl));
    expect(bom.dependencies.flatMap(({ dependsOn }) => dependsOn).filter((ref) => !refs.has(ref))).toEqual([]);
    expect(new Set(bom.dependencies.map(({ ref }) => ref)).size).toBe(bom.dependencies.length);
  }

  test.each(Object.entries(files))('of the Debian package for %s', (_, file) => {
    const root = unpacked(file);
    const bom = bomIn(join(root, 'usr/share/doc/vifd/sbom.cdx.json'));
    checkBom(bom, join(root, 'usr/lib/vifd/dist'));
    const licences = readFileSync(join(root, 'usr/share/doc/vifd/copyright'), 'utf8');
    const names = [...new Set(libraries(bom).map(({ name }) => name))].sort();
    expect([...licences.matchAll(/^(\S+)\n=+\n/gm)].map(([, name]) => name).sort()).toEqual([...names, 'vifd'].sort());
    expect(libraries(bom).filter(({ hashes, name }) => hashes === undefined && name !== 'node-addon-api')).toEqual([]);
  });

  test('of the npm package: what npm itself says of it', () => {
    const bom = bomIn('dist/sbom.cdx.json');
    checkBom(bom, 'dist');
    const npms = JSON.parse(run('npm', 'sbom', '--omit=dev', '--sbom-format=cyclonedx')) as Bom;
    expect(libraries(bom).map(line).sort()).toEqual(libraries(npms).map(line).sort());
    const beside = libraries(bom).filter(({ properties }) => properties?.[0]?.value === 'installed by npm');
    expect(beside.map(({ name }) => name)).toEqual(expect.arrayContaining(['netlink', 'pino-pretty']));
    expect(beside.map(({ name }) => name)).not.toContain('pino');
  });
});

describe('building', () => {
  /** Runs it on the same files seen in another place, without touching what is here. */
  function elsewhere(command: string, environment: Record<string, string> = {}) {
    const directory = scratch();
    for (const name of ['upper', 'work', 'tree']) mkdirSync(join(directory, name));
    const layers = `lowerdir=${resolve('.')},upperdir=upper,workdir=work`;
    const script = `cd ${directory} && mount -t overlay overlay -o ${layers} tree && cd tree && ${command}`;
    const env = { ...process.env, ...environment };
    const result = spawnSync('unshare', ['--mount', 'sh', '-c', script], { encoding: 'utf8', env });
    return { ...result, made: (file: string) => join(directory, 'upper', file) };
  }

  test('gives the same bytes in another place, time zone, language and umask', () => {
    const { status, stderr, made } = elsewhere('umask 077 && node scripts/package.mjs', {
      TZ: 'Asia/Tokyo',
      LC_ALL: 'C.UTF-8',
    });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    for (const file of Object.values(files)) expect(hash(made(file))).toBe(hash(file));
  });

  test('where a tool for one architecture is missing the other is built, and it says what to install', () => {
    const programs = scratch();
    for (const name of ['sh', 'mount', 'unshare', 'node', 'dpkg-deb', 'tar', 'x86_64-linux-gnu-strip'])
      symlinkSync(run('sh', '-c', `command -v ${name}`).trim(), join(programs, name));
    const { status, stderr, made } = elsewhere('node scripts/package.mjs', { PATH: programs });
    expect(stderr).toBe(
      "no package for arm64: the program aarch64-linux-gnu-strip is missing; install Debian's package binutils-aarch64-linux-gnu\n",
    );
    expect(status).toBe(1);
    expect(hash(made(files.amd64))).toBe(hash(files.amd64));
  });

  test('the architectures can be named', () => {
    const { status, stdout } = elsewhere('node scripts/package.mjs amd64');
    expect([status, stdout]).toEqual([0, `${files.amd64}\n`]);
    const wrong = elsewhere('node scripts/package.mjs i386');
    expect([wrong.status, wrong.stderr]).toEqual([1, 'no package can be made for i386; expected amd64 or arm64\n']);
  });
});

test('the tarball of npm pack can be installed globally, and works', () => {
  const directory = scratch();
  run('npm', 'pack', '--silent', '--pack-destination', directory);
  const tarball = join(directory, `vifd-${version}.tgz`);
  const contents = run('tar', '-tf', tarball);
  for (const file of ['scripts/service/vifd.service', 'SECURITY.md', 'dist/sbom.cdx.json'])
    expect(contents).toContain(`package/${file}\n`);
  expect(contents).not.toMatch(/debian|\.mjs$/m);
  run('npm', 'install', '--silent', '--global', '--prefer-offline', '--prefix', directory, tarball);
  const vifd = join(directory, 'bin/vifd');
  expect(run(vifd, '--version')).toBe(`${version}\n`);
  // The native part is loaded and speaks to the kernel.
  const { findings } = JSON.parse(spawnSync(vifd, ['doctor', '--json'], { encoding: 'utf8' }).stdout);
  expect(findings.find(({ code }: { code: string }) => code === 'ethtool')).toMatchObject({
    severity: 'ok',
  });
});
