/** EDGE: the program xl. No shell: each word is an argument. A group of its own: a Ctrl-C is not meant for it. */
import { execa } from 'execa';
import { VifdError } from '../errors.js';

export interface Ran {
  readonly ok: boolean;
  readonly stdout: string;
  /** What xl complained of, in one line. */
  readonly complaint: string;
}

/** Longer than any wait of libxl's own, of 10 s each. */
const LIMIT_MS = 120_000;

/** Rejects with code ENOENT where there is no xl. */
export async function xl(...args: string[]): Promise<Ran> {
  const ran = await execa('xl', args, { reject: false, stdin: 'ignore', timeout: LIMIT_MS, detached: true });
  if (ran.code === 'ENOENT') throw new VifdError('ENOENT', "xl is not in $PATH; it is part of Xen's tools in dom0");
  const complaint = ran.stderr.trim().split('\n').filter(Boolean).join('; ') || ran.shortMessage || '';
  return { ok: !ran.failed, stdout: ran.stdout, complaint: clean(complaint) };
}

const clean = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 1000);
