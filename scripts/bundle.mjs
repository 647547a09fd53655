// How src/ becomes bundles. A bundle loads several times faster than the module tree, which matters most in a small,
// slow driver domain.
import { build } from 'esbuild';

export const bundle = (options) =>
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
    ...options,
  });
