/** The lab judges: would it see an agent kill xenstored? And do the real daemons answer as the simulator is held to? */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Lab } from './lab.js';
import { reasonAgainst } from './suite.js';

const here = dirname(fileURLToPath(import.meta.url));
const PIPELINER = join(here, 'guest/pipeliner.ts');
const CONFORMANCE = join(here, '../store/conformance.ts');
const SIDES = [
  { where: 'dom0', who: 'dom0', path: '/run/xenstored/socket' },
  { where: 'nicdom', who: 'driver-domain', path: '/dev/xen/xenbus' },
] as const;

describe.skipIf(reasonAgainst() !== undefined).each(['xenstored', 'oxenstored'] as const)(
  'the real %s',
  (xenstored) => {
    let lab: Lab;
    let failed = false;
    beforeAll(async () => {
      lab = await Lab.boot({ xenstored, agent: 'none', programs: [PIPELINER, CONFORMANCE] });
    }, 400_000);
    afterEach(({ task }) => {
      if (task.result?.state === 'fail') failed = true;
    });
    afterAll(async () => lab?.stop({ failed }), 200_000);

    test.each(SIDES)(
      'answers the protocol cases as the simulator does: $where',
      async ({ where, who, path }) => {
        const { code, out } = await lab.runNode(where, CONFORMANCE, [
          '--connect',
          path,
          '--who',
          who,
          '--daemon',
          xenstored,
        ]);
        console.log(`${xenstored}, ${where}: ${out.trim().split('\n').at(-1)}`);
        expect(out.split('\n').filter((line) => line.startsWith('FAIL'))).toEqual([]);
        expect(out).toMatch(/[1-9]\d* passed, 0 failed/);
        expect(code).toBe(0);
        await lab.assertHealthy();
      },
      400_000,
    );

    // Last: it may leave no xenstored behind.
    test.runIf(xenstored === 'xenstored')(
      'an agent that pipelines on the device is a failure that the lab sees',
      async () => {
        await lab.assertHealthy();
        // In the background: without xenstored dom0 cannot reach nicdom's console any more.
        await lab.mustNicdom(
          'sh -c "for m in reads events reads events; do node /lab/pipeliner.mjs \$m; done" >/run/pipeliner.log 2>&1 </dev/null & true',
        );
        const dead = async () => (await lab.dom0('kill -0 $(cat /run/lab-xenstored.pid)')).code !== 0;
        await lab.until('the C xenstored aborts', dead, 120_000).catch(async (error: Error) => {
          // Survived, or never asked? Its own log says which.
          throw new Error(`${error.message}; pipeliner: ${(await lab.nicdom('cat /run/pipeliner.log')).out}`);
        });
        await expect(lab.assertHealthy()).rejects.toThrow(/is dead|crashed/);
        expect((await lab.dom0('cat /var/log/xenstored.log')).out).toMatch(/Assertion .*conn->in/);
      },
      300_000,
    );
  },
);
