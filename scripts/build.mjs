// Builds dist/: the program and the xenstore library as bundles (a bundle loads several times faster than
// the module tree, which matters most in a small, slow driver domain), and the library's type declarations.
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });
await build({
  entryPoints: { main: 'src/main.ts', 'xenstore/client': 'src/xenstore/client.ts' },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  // Native part, found beside its own package.json at load time; the others are loaded only by some commands.
  external: ['netlink', 'pino-pretty'],
  // Bundled CommonJS packages call require().
  banner: {
    js: "import { createRequire as vifdCreateRequire } from 'node:module'; const require = vifdCreateRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
const flags =
  '--declaration --emitDeclarationOnly --strict --skipLibCheck --target es2023 --module nodenext --types node';
execFileSync(
  process.execPath,
  [
    'node_modules/typescript/bin/tsc',
    ...flags.split(' '),
    '--rootDir',
    'src',
    '--outDir',
    'dist',
    'src/xenstore/client.ts',
  ],
  { stdio: 'inherit' },
);
