#!/usr/bin/env node
/** The command-line program: sets exit codes. No logic. */
import './v8-flags.js';
import { readFileSync } from 'node:fs';
import { CommanderError } from 'commander';
import { ConnectionError, hasCode, VifdError } from './errors.js';
import { program } from './program.js';

function exitCode(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (hasCode(error, 'EUSAGE')) return 2;
  if (hasCode(error, 'ECONFIG')) return 4;
  if (error instanceof ConnectionError || hasCode(error, 'EACCES', 'EPERM', 'ETIMEDOUT')) return 3;
  return 1;
}

// The reader of the pipe has gone, or the disk is full: nothing more can be said there. The agent's log has a way of its own,
// and to touch process.stdout would change the pipe for all that write to it (service/log-output.ts).
const words = process.argv.slice(2);
if (words[0] !== 'run' || words.some((word) => /^(-h|--help)$/.test(word)))
  process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (code === 'EPIPE') return;
    console.error(`vifd: the output cannot be written (${code})`);
    process.exitCode = 1;
  });
try {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  await program(version).parseAsync();
} catch (error) {
  if (error instanceof VifdError) console.error(`vifd: ${error.message}`);
  else if (!(error instanceof CommanderError)) console.error('vifd:', error);
  process.exitCode = exitCode(error);
}
