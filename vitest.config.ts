import { defineConfig } from 'vitest/config';

/** One project a folder (shared/design.md section 7). test/run.mjs picks them and gives netns and agent a namespace. */
const project = (name: string, testTimeout: number, fileParallelism = true) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout,
    hookTimeout: testTimeout,
    fileParallelism,
    sequence: { groupOrder: fileParallelism ? 0 : 1 },
  },
});

export default defineConfig({
  test: {
    projects: [
      project('unit', 20_000),
      project('store', 20_000),
      project('netns', 20_000, false),
      project('agent', 60_000, false),
      project('model', 120_000),
      project('fuzz', 120_000),
      project('faults', 300_000, false),
      project('load', 300_000, false),
      project('package', 120_000, false),
      project('package-install', 60_000, false),
      project('bench', 600_000, false),
      project('xen', 900_000, false),
    ],
  },
});
