/**
 * What `xl devd` does for a vif in `state` 2, and nothing else: runs the script named in the store, as libxl does
 * (shared/contract.md 4.1), those of several vifs side by side.
 */
import { spawn } from 'node:child_process';
import { connectXenstore } from '../../src/xenstore/client.js';

const store = await connectXenstore(process.argv[2]);

async function runScript(domid: string, devid: string): Promise<void> {
  const dir = `backend/vif/${domid}/${devid}`;
  const [state, script, gatewaydev] = await Promise.all(
    ['state', 'script', 'gatewaydev'].map((node) => store.readOptional(`${dir}/${node}`)),
  );
  if (state !== '2' || script === undefined) return;
  const env = {
    ...process.env,
    script,
    XENBUS_TYPE: 'vif',
    XENBUS_PATH: dir,
    XENBUS_BASE_PATH: 'backend',
    netdev: gatewaydev ?? '',
    vif: `vif${domid}.${devid}`,
  };
  const child = spawn(script, ['online', 'type_if=vif'], { env, stdio: ['ignore', 2, 2] });
  child.on('error', (error) => console.error(error));
  child.on('close', (code) => {
    if (code !== 0) console.error(`${script} of ${dir} ended with ${code}`);
  });
}

await store.watch('backend/vif', ({ path }) => {
  const [, domid, devid] = /^backend\/vif\/([0-9]+)\/([0-9]+)\/state$/.exec(path) ?? [];
  if (domid !== undefined && devid !== undefined) void runScript(domid, devid);
});
console.log('ready');
