/** A booted lab around the tests of one file: health checked after each test, logs kept if one failed. */
import { spawnSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { Lab, type LabOptions } from './lab.js';

/** Why the lab cannot be here at all; undefined when it can. What is only not built yet is no reason. */
export function reasonAgainst(): string | undefined {
  for (const program of ['qemu-system-x86_64', 'mmdebstrap', 'cpio', 'lz4', 'depmod'])
    if (spawnSync('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin command -v ${program}`]).status !== 0)
      return `${program} is missing (packages: test/xen/packages.txt)`;
  if (process.getuid?.() !== 0) return 'the lab is built as root';
  return undefined;
}

/**
 * `lab()` is valid inside of the tests and hooks. A scenario builds on what the ones before left. After each
 * one, any warning or error of vifd that the scenario did not take itself (agentComplaints) is a failure.
 */
export function describeLab(name: string, options: LabOptions, tests: (lab: () => Lab) => void): void {
  const reason = reasonAgainst();
  const suite = reason ? describe.skip : describe.sequential;
  suite(reason ? `${name}: skipped: ${reason}` : name, () => {
    let lab: Lab | undefined;
    let failed = false;
    beforeAll(async () => {
      lab = await Lab.boot(options);
    }, 400_000);
    afterEach(async ({ task }) => {
      if (task.result?.state === 'fail') failed = true;
      try {
        await lab?.assertHealthy();
        expect(await lab?.agentComplaints(), 'what the agent complained of').toEqual([]);
      } catch (error) {
        failed = true;
        throw error;
      }
    });
    afterAll(async () => lab?.stop({ failed }), 200_000);
    tests(() => {
      if (!lab) throw new Error('the lab is not booted');
      return lab;
    });
  });
}
