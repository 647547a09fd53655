// Builds dist/: the program and the xenstore library as bundles, the library's type declarations, and the bill of materials.
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { bundle } from './bundle.mjs';
import { packagesIn, sbom } from './sbom.mjs';

rmSync('dist', { recursive: true, force: true });
const { metafile } = await bundle({
  metafile: true,
  entryPoints: { main: 'src/main.ts', 'xenstore/client': 'src/xenstore/client.ts' },
  outdir: 'dist',
  // Native part, found beside its own package.json at load time; the others are loaded only by some commands.
  external: ['netlink', 'pino-pretty'],
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
writeFileSync('dist/sbom.cdx.json', sbom({ root: 'dist', bundled: packagesIn(metafile), native: false }));
