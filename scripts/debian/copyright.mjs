// /usr/share/doc/vifd/copyright: vifd's licence and those of all packages of which code is in the bundle, as esbuild tells,
// or in the native part.
import { readdirSync, readFileSync } from 'node:fs';
import { packagesIn } from '../sbom.mjs';

/** Its templates are compiled into netlink's native part, of which esbuild knows nothing. */
const IN_NATIVE_PART = 'node-addon-api';

export function copyright(metafile) {
  const names = packagesIn(metafile).map((directory) => directory.replace(/.*node_modules\//, ''));
  const packages = [...new Set([...names, IN_NATIVE_PART])].sort();
  return [
    'vifd, and below it the npm packages of which code is in /usr/lib/vifd/dist, each with its licence.',
    section('vifd', readFileSync('LICENSE', 'utf8')),
    ...packages.map((name) => section(name, licenceOf(name))),
  ].join('\n\n');
}

const section = (name, text) => `${name}\n${'='.repeat(name.length)}\n\n${text.trim()}\n`;

function licenceOf(name) {
  const directory = `node_modules/${name}`;
  const { license, author } = JSON.parse(readFileSync(`${directory}/package.json`, 'utf8'));
  if (license === 'Apache-2.0') return apache(author?.name ?? author);
  const file = readdirSync(directory).find((each) => /^licen[cs]e(\.|$)/i.test(each));
  if (file === undefined) throw new Error(`${name} is part of the bundle, but ${directory} has no licence to ship`);
  return readFileSync(`${directory}/${file}`, 'utf8');
}

/** Debian has the text on every system, and wants it in no package again. */
const apache = (holder) =>
  `Copyright: ${holder}\nLicence: Apache-2.0, see /usr/share/common-licenses/Apache-2.0 on Debian systems.`;
