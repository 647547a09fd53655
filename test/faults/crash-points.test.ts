/** Struck where it does all by itself, and where a script of the admin's does. */
import { test } from 'vitest';
import { WITH_SCRIPT } from './casts.js';
import { strikeSample } from './strikes.js';

/** Of an agent that has begun to know the vifs that leave. */
const stoppedAt = [
  /^\d+ xenstore WATCH/,
  /^\d+ input of nft -f -: add chain/,
  /^\d+ netlink protocol 0 type 19/,
  /^\d+ xenstore WRITE .*connected/,
  /^\d+ start of \S*vif-mine online/,
];

test('struck after any effect it leaves what an undisturbed agent leaves', { timeout: 7_200_000 }, () =>
  strikeSample({ cast: WITH_SCRIPT, every: { SIGKILL: 1, SIGTERM: 3, child: 1 }, stoppedAt }),
);
