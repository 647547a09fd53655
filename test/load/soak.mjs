// npm run soak -- [--hours H] [--minutes M] [--seed N]
// Bundles soak.ts, for Node runs no TypeScript, and runs it in a network namespace of its own.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';

const directory = mkdtempSync(join(tmpdir(), 'vifd-soak-'));
symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
const outfile = join(directory, 'soak.mjs');
await build({
  entryPoints: ['test/load/soak.ts'],
  outfile,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  external: ['netlink'],
  banner: {
    js: "import { createRequire as soakRequire } from 'node:module'; const require = soakRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
const flags = process.getuid() === 0 ? ['--net', '--mount'] : ['--user', '--map-root-user', '--net', '--mount'];
const words = [...flags, 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', process.execPath, outfile];
process.on('SIGINT', () => undefined); // the child hears it too, and has the last word
const { status } = spawnSync('unshare', [...words, ...process.argv.slice(2)], {
  stdio: 'inherit',
  env: { ...process.env, VIFD_TEST_NETNS: '1' },
});
rmSync(directory, { recursive: true, force: true });
process.exit(status ?? 1);
