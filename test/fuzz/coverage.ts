/** Which blocks of src/ have run, by V8's own precise coverage: what guides the fuzzing, and proves what a target reads. */
import { Session } from 'node:inspector';

interface ScriptCoverage {
  readonly url: string;
  readonly functions: {
    readonly functionName: string;
    readonly ranges: { readonly startOffset: number; readonly endOffset: number; readonly count: number }[];
  }[];
}

export class Coverage {
  private readonly session = new Session();
  private readonly known = new Set<string>();

  start(): void {
    this.session.connect();
    this.session.post('Profiler.enable');
    this.session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  stop(): void {
    this.session.post('Profiler.stopPreciseCoverage');
    this.session.disconnect();
  }

  /** The blocks of src/ that have run since the last look and in none before that. */
  fresh(): Set<string> {
    const fresh = new Set<string>();
    for (const { url, functions } of this.take())
      for (const { ranges } of functions)
        for (const { startOffset, endOffset, count } of ranges) {
          const block = `${url}:${startOffset}-${endOffset}`;
          if (count > 0 && !this.known.has(block)) fresh.add(block);
        }
    return fresh;
  }

  learn(blocks: Iterable<string>): void {
    for (const block of blocks) this.known.add(block);
  }

  get blocks(): number {
    return this.known.size;
  }

  /** `network/prefix.ts parsePrefix`: the functions of src/ that have run since the last call. */
  functions(): Set<string> {
    const names = this.take().flatMap(({ url, functions }) => {
      const file = url.replace(/^.*\/src\//, '').replace(/\.js$/, '.ts');
      return functions
        .filter(({ ranges }) => (ranges[0]?.count ?? 0) > 0)
        .map(({ functionName }) => `${file} ${functionName}`);
    });
    return new Set(names);
  }

  private take(): ScriptCoverage[] {
    let scripts: readonly ScriptCoverage[] = [];
    this.session.post('Profiler.takePreciseCoverage', (_, { result }) => {
      scripts = result;
    });
    return scripts.filter(({ url }) => /\/src\/[^?]*\.[jt]s$/.test(url) && !url.includes('/node_modules/'));
  }
}
