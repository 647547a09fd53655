/**
 * Does what an agent must not: many requests written to /dev/xen/xenbus with no reply awaited (contract 10.5).
 * usage: pipeliner.mjs reads|events; prints how many it wrote. `events` also watches what it writes.
 */
import { openSync, writeSync } from 'node:fs';
import { encodeRequest, type Request } from '../../../src/xenstore/wire.js';

const mode = process.argv[2];
const fd = openSync('/dev/xen/xenbus', 'r+');
let id = 0;
const send = (request: Request) => writeSync(fd, encodeRequest(request, ++id));
if (mode === 'events') send({ op: 'WATCH', path: 'data', token: 'pipeliner' });
for (let i = 0; i < 2000; i++) {
  send({ op: 'READ', path: 'domid' });
  if (mode === 'events') send({ op: 'WRITE', path: 'data/pipeliner', value: new TextEncoder().encode(String(i)) });
}
console.log(`${mode}: ${id} requests written`);
