/** The kept inputs: test/fuzz/corpus/<target>/, one a file. `broke-*` are those that once broke a promise. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(process.cwd(), 'test/fuzz/corpus');

export interface Kept {
  readonly file: string;
  readonly input: Uint8Array;
}

export function keptOf(target: string): Kept[] {
  const dir = join(ROOT, target);
  if (!existsSync(dir)) return [];
  return readdirSync(dir)
    .sort()
    .map((name) => ({ file: join(dir, name), input: readFileSync(join(dir, name)) }));
}

/** Named by its content, so that the same is kept once. */
export function keep(target: string, input: Uint8Array, kind: 'broke' | 'new'): string {
  const dir = join(ROOT, target);
  mkdirSync(dir, { recursive: true });
  const file = join(dir, `${kind}-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`);
  writeFileSync(file, input);
  return file;
}
