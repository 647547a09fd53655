/** A bug report is one file, and becomes a test: see replayed-host.ts. */
import { expect, test } from 'vitest';
import { readRecord } from '../../src/monitor/record-file.js';
import { ReplayedHost } from './replayed-host.js';

test('the recorded lives of two vifs take the same course today', async () => {
  const host = await ReplayedHost.start();
  let count = 0;
  for await (const { entry } of readRecord('test/fixtures/attach.record', expect.unreachable)) {
    await host.feed(entry);
    count++;
  }
  expect(count).toBeGreaterThan(100);
  const bridge = host.kernel.find('br_dmz')?.ifindex;
  expect(host.kernel.find('vif5.1')).toMatchObject({ master: bridge, txqlen: 1000, up: true });
  expect(host.kernel.find('vif5.0')).toBeUndefined();
});
