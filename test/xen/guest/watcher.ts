/**
 * dom0's clock for any agent: appends a JSON line {t, path, value} for each change of the nodes that matter below a driver
 * domain's backend/vif, value null when the node is gone. usage: watcher.mjs DOMID FILE; ends with SIGTERM.
 */
import { appendFileSync, writeFileSync } from 'node:fs';
import { connectXenstore } from '../../../src/xenstore/client.js';

const [domid, file = '/run/watcher.jsonl'] = process.argv.slice(2);
const base = `/local/domain/${domid}/backend/vif`;
const leaf = new RegExp(`^${base}/(\\d+/\\d+)(?:/(state|hotplug-status|hotplug-error))?$`);
const client = await connectXenstore('/run/xenstored/socket');

writeFileSync(file, '');
await client.watch(base, async ({ path }) => {
  const t = performance.timeOrigin + performance.now();
  const match = leaf.exec(path);
  if (!match) return;
  const value = (await client.readOptional(path)) ?? null;
  // Of the directory itself only its end is of interest.
  if (match[2] !== undefined || value === null)
    appendFileSync(file, `${JSON.stringify({ t, vif: match[1], node: match[2] ?? '', value })}\n`);
});
appendFileSync(file, '{"ready":true}\n');
