/** For the tests of what vifd does when something outside fails: agents with odd surroundings. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-recovery-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A disk of its own that is as small as that. Another process sees it as well. */
export function tinyDisk(size: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'vifd-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', directory]);
  onTestFinished(() => {
    execFileSync('umount', ['-l', directory]);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

/** No byte is left, nor in the last block of `other`; returns what gives them back. */
export function fill(disk: string, other?: string): () => void {
  const file = join(disk, 'fill');
  const append = (name: string, text: string) => {
    try {
      for (;;) appendFileSync(name, text);
    } catch {
      // full
    }
  };
  append(file, '.'.repeat(4096));
  if (other !== undefined) append(other, '\n');
  return () => rmSync(file);
}

/** What is in force for programs started during the test. */
export function environment(values: Record<string, string>): void {
  const before = { ...process.env };
  Object.assign(process.env, values);
  onTestFinished(() => {
    for (const name of Object.keys(values)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  });
}

/** A program of this name, a shell's text, comes before the real one. */
export function standIn(name: string, text: string): string {
  const directory = join(scratch(), 'bin');
  mkdirSync(directory);
  const file = join(directory, name);
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
  environment({ PATH: `${directory}:${process.env.PATH}` });
  return file;
}

/** `vifd run` by a shell's line in which it is "$@". */
export function runBy(shell: string, xenstore: string, ...stdio: ['pipe' | number]): ChildProcess {
  const words = [process.execPath, 'dist/main.js', 'run', '--xenstore', xenstore, '--log-level', 'debug'];
  const child = spawn('sh', ['-c', shell, 'sh', ...words], {
    stdio: ['ignore', stdio[0], 'inherit'],
    env: { ...process.env, VIFD_RUN_DIR: process.env.VIFD_RUN_DIR ?? '' },
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}
