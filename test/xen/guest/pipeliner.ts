/** Does what an agent must not: writes many requests to /dev/xen/xenbus and reads no reply in between (contract 10.5). */
import { openSync, writeSync } from 'node:fs';
import { encodeRequest } from '../../../src/xenstore/wire.js';

const fd = openSync('/dev/xen/xenbus', 'r+');
for (let id = 1; id <= 3000; id++) writeSync(fd, encodeRequest({ op: 'READ', path: 'domid' }, id));
