// `node test/xen/bench.mjs [BURST ...]` (default 8 16): vifd beside xl devd in the real Xen; prints a table. About ten
// minutes; nothing else should run on the machine meanwhile. Needs dist/ (npm run build).
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
// Beside its source: bench.ts finds the lab's other files by its own place.
const outfile = join(here, `.bench-${process.pid}.mjs`);
await build({
  entryPoints: [join(here, 'bench.ts')],
  outfile,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  packages: 'external',
  logLevel: 'warning',
});
try {
  const { measureAgent, table } = await import(pathToFileURL(outfile));
  const bursts = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [8, 16];
  const ours = await measureAgent('vifd', bursts);
  console.log(JSON.stringify(ours));
  const theirs = await measureAgent('devd', bursts);
  console.log(JSON.stringify(theirs));
  console.log(table(ours, theirs));
  const complete = ours.bursts.every(({ vifs, connected, libxlErrors }) => connected === vifs && libxlErrors === 0);
  if (!complete) console.error('vifd did not connect every vif of the bursts, or xl destroy printed errors');
  process.exitCode = complete ? 0 : 1;
} finally {
  rmSync(outfile, { force: true });
}
