// How src/ becomes bundles. A bundle loads several times faster than the module tree, which matters most in a small,
// slow driver domain.
import { build } from 'esbuild';

/**
 * pino's transports, which vifd does not use, are the only part of the program that starts threads; without node's modules
 * for them the agent takes 1.5 MB less.
 */
const withoutThreads = {
  name: 'without threads',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(thread-stream|worker_threads)$/ }, ({ path }) => ({ path, namespace: 'threads' }));
    onLoad({ filter: /.*/, namespace: 'threads' }, () => ({ contents: 'exports.isMainThread = true;' }));
  },
};

export const bundle = ({ plugins = [], ...options }) =>
  build({
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    // Bundled CommonJS packages call require().
    banner: {
      js: "import { createRequire as vifdCreateRequire } from 'node:module'; const require = vifdCreateRequire(import.meta.url);",
    },
    logLevel: 'warning',
    plugins: [withoutThreads, ...plugins],
    ...options,
  });
