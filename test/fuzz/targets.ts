/** Every reader of what others write, and who feeds it. */
import type { Target } from './target.js';
import { FILE_TARGETS } from './targets/files.js';
import { KERNEL_TARGETS } from './targets/kernel.js';
import { NODE_TARGETS } from './targets/nodes.js';
import { PROGRAM_TARGETS } from './targets/programs.js';
import { STREAM_TARGETS } from './targets/streams.js';
import { XENSTORE_TARGETS } from './targets/xenstore.js';

export const TARGETS: readonly Target[] = [
  ...XENSTORE_TARGETS,
  ...NODE_TARGETS,
  ...KERNEL_TARGETS,
  ...PROGRAM_TARGETS,
  ...FILE_TARGETS,
  ...STREAM_TARGETS,
];
