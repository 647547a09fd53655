/** Whose code vifd is made of: exactly the versions and bytes that somebody has looked at. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

interface Locked {
  readonly version: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
}
const read = (file: string) => JSON.parse(readFileSync(file, 'utf8'));
const manifest = read('package.json') as Required<Pick<Locked, 'dependencies' | 'devDependencies'>>;
const { '': root, ...packages } = read('package-lock.json').packages as Record<string, Locked>;
const direct = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });

test('every dependency is named in one version, and the lock file says the same', () => {
  expect(direct.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  expect(root).toMatchObject({ dependencies: manifest.dependencies, devDependencies: manifest.devDependencies });
  for (const [name, version] of direct)
    expect([name, packages[`node_modules/${name}`]?.version]).toEqual([name, version]);
});

test('every package has the hash of its tarball, and none comes from anywhere but a registry', () => {
  const all = Object.entries(packages);
  expect(all.length).toBeGreaterThan(100);
  expect(all.filter(([, { integrity = '' }]) => !/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity))).toEqual([]);
  expect(all.filter(([, { resolved = 'https:', link }]) => link || !resolved.startsWith('https:'))).toEqual([]);
});

test('these run a program when they are installed, and no others', () => {
  const names = Object.keys(packages).filter((key) => packages[key]?.hasInstallScript && !/fsevents/.test(key));
  expect(names).toEqual(['node_modules/esbuild', 'node_modules/netlink']);
});

/** The first versions without a fault that an advisory names; SECURITY.md says where that was learnt. */
describe.each([
  ['smol-toml', '1.7.1', 'CVE-2026-85730, a document that is never read to its end'],
  ['cross-spawn', '7.0.5', 'CVE-2024-21538'],
  ['minimist', '1.2.6', 'CVE-2021-44906'],
  ['pino', '9.12.0', 'CVE-2025-57319, withdrawn: no fast-redact any more'],
  ['vitest', '4.1.11', 'CVE-2026-84373'],
  ['esbuild', '0.28.1', 'GHSA-gv7w-rqvm-qjhr'],
  ['vite', '8.0.16', 'CVE-2026-53571'],
  ['postcss', '8.5.23', 'CVE-2026-69153'],
  ['nanoid', '3.3.18', 'CVE-2026-67213'],
])('%s', (name, first, why) => {
  const numbers = (version: string) => version.split('.').map(Number);
  test(`is at least ${first}: ${why}`, () => {
    const found = Object.entries(packages).filter(([key]) => key.endsWith(`node_modules/${name}`));
    expect(found.length).toBeGreaterThan(0);
    for (const [, { version }] of found) {
      const [a, b] = [numbers(version), numbers(first)];
      const i = a.findIndex((number, at) => number !== b[at]);
      expect(i < 0 || (a[i] as number) > (b[i] as number)).toBe(true);
    }
  });
});
