// The bill of materials (CycloneDX 1.5, JSON): the program's files with their hashes, and the npm packages that are in them or
// that npm installs beside them, each with the hash of its tarball as package-lock.json has it. The same bytes from the same
// input: no serial number, and no time but the one given.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FILE_NAME = 'sbom.cdx.json';
/** Only its templates are compiled in, by netlink's authors, who do not say which version's. */
const IN_NATIVE_PART = { name: 'node-addon-api', license: 'MIT' };

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')).packages;

/** The directories of the packages of which code is in a bundle, as package-lock.json names them. */
export const packagesIn = (metafile) => {
  const inputs = Object.values(metafile.outputs).flatMap((output) => Object.keys(output.inputs));
  const directory = /(?:^|.*\/)(node_modules\/(?:.*\/node_modules\/)?(?:@[^/]+\/)?[^/]+)\//;
  return [...new Set(inputs.flatMap((path) => directory.exec(path)?.[1] ?? []))].sort();
};

/**
 * `root` has the files, `bundled` the packages in them. With `native` the native part lies among the files, else npm brings it,
 * and all other packages that run.
 */
export function sbom({ root, bundled, native, date }) {
  const packages = native ? bundled : Object.keys(lock).filter((key) => key !== '' && !lock[key].dev);
  const where = (key) => (bundled.includes(key) ? 'in dist' : 'installed by npm');
  const components = packages.map((key) => library(nameOf(key), lock[key], where(key)));
  if (native) components.push(library(IN_NATIVE_PART.name, IN_NATIVE_PART, 'headers compiled into dist/netlink.node'));
  const bom = {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: {
      ...(date && { timestamp: date.toISOString() }),
      component: { type: 'application', ...identity('vifd', lock['']) },
    },
    components: [...components, ...filesIn(root)],
    dependencies: [
      ...packages.map((key) => ({ ref: purl(nameOf(key), lock[key]), dependsOn: neededBy(key, packages) })),
      { ref: purl('vifd', lock['']), dependsOn: neededBy('', packages) },
    ],
  };
  return `${JSON.stringify(bom, null, 1)}\n`;
}

const nameOf = (key) => key.slice(key.lastIndexOf('node_modules/') + 'node_modules/'.length);
const purl = (name, { version }) => `pkg:npm/${name.replace('@', '%40')}${version ? `@${version}` : ''}`;

const identity = (name, entry) => ({
  'bom-ref': purl(name, entry),
  name,
  ...(entry.version && { version: entry.version }),
  purl: purl(name, entry),
  licenses: [/ /.test(entry.license) ? { expression: entry.license } : { license: { id: entry.license } }],
});

const library = (name, entry, where) => ({
  type: 'library',
  ...identity(name, entry),
  ...(entry.integrity && { hashes: [tarballHash(entry.integrity)] }),
  properties: [{ name: 'vifd:where', value: where }],
});

function tarballHash(integrity) {
  const [, base64] = /^sha512-(\S+)$/.exec(integrity);
  return { alg: 'SHA-512', content: Buffer.from(base64, 'base64').toString('hex') };
}

/** Of those that are listed, as Node finds them: in the package's own node_modules, or in one above. */
function neededBy(key, packages) {
  const { dependencies = {}, optionalDependencies = {} } = lock[key];
  const found = Object.keys({ ...dependencies, ...optionalDependencies }).flatMap((name) => {
    for (let at = key; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
      const candidate = join(at, 'node_modules', name);
      if (candidate in lock) return packages.includes(candidate) ? [purl(name, lock[candidate])] : [];
      if (at === '') return [];
    }
  });
  return found.sort();
}

const filesIn = (root) =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== FILE_NAME)
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => ({
      type: 'file',
      'bom-ref': `file:dist/${path.slice(root.length + 1)}`,
      name: `dist/${path.slice(root.length + 1)}`,
      hashes: [{ alg: 'SHA-256', content: createHash('sha256').update(readFileSync(path)).digest('hex') }],
    }));
