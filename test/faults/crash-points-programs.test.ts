/** Struck where names change, and where other programs do the work: nft's NAT, dnsmasq, Open vSwitch, hooks. */
import { test } from 'vitest';
import { noOvs } from '../netns/ovs-daemons.js';
import { WITH_PROGRAMS } from './casts.js';
import { strikeSample } from './strikes.js';

const stoppedAt = [/^\d+ start of \S*dnsmasq/];

test.skipIf(noOvs !== undefined)(
  noOvs ?? 'struck after any effect with other programs it leaves what an undisturbed agent leaves',
  { timeout: 7_200_000 },
  () => strikeSample({ cast: WITH_PROGRAMS, every: { SIGKILL: 10, SIGTERM: 15, child: 9 }, stoppedAt }),
);
