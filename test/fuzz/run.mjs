// The long fuzzing: npm run fuzz -- [--cases N] [--target NAME] [--seed N] [--file INPUT] [--save]
// Makes JavaScript of src/ and test/fuzz/, file by file so that coverage tells them apart, and runs main.ts.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

const OUT = `build/fuzz-${process.pid}`; // two may run at once
const sources = ['src', 'test/fuzz'].flatMap((dir) =>
  readdirSync(dir, { recursive: true })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .map((name) => `${dir}/${name}`),
);
await build({ entryPoints: sources, outdir: OUT, outbase: '.', format: 'esm', target: 'node20', logLevel: 'warning' });
const { status } = spawnSync(process.execPath, [`${OUT}/test/fuzz/main.js`, ...process.argv.slice(2)], {
  stdio: 'inherit',
});
rmSync(OUT, { recursive: true, force: true });
process.exit(status ?? 1);
