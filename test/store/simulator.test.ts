/** The simulated xenstored answers as the C daemon does: the cases that conformance.ts holds the real ones to. */
import { describe, expect, test } from 'vitest';
import { XenbusDevice } from '../../src/simulator/xenbus-device.js';
import { DeviceTransport, openSocket } from '../../src/xenstore/transport.js';
import { CASES, type Who } from './cases.js';
import { applies, runCase, type Subject } from './run-case.js';
import { NICDOM, startWorld } from './support.js';

const common = { daemon: 'xenstored', eventMs: 1000, silenceMs: 10 } as const;
const subjects: [string, Who, boolean][] = [
  ['dom0 on a socket', 'dom0', false],
  ['the driver domain on a socket', 'driver-domain', false],
  ['the driver domain on its device', 'driver-domain', true],
];

describe.each(subjects)('%s', (_, who, device) => {
  const nobody: Subject = { ...common, who, device, domid: 0, connect: () => Promise.reject(new Error('nobody')) };
  test.each(CASES.filter((testCase) => applies(testCase, nobody)))('$name', async (testCase) => {
    const { store, socket } = await startWorld();
    const domid = who === 'dom0' ? 0 : NICDOM;
    const devices: XenbusDevice[] = [];
    const connect = async () => {
      if (!device) return openSocket(socket(domid));
      const file = new XenbusDevice(store, domid);
      devices.push(file);
      return new DeviceTransport('fake', file);
    };
    const owned = store.ownedNodes(domid);
    expect(await runCase(testCase, { ...nobody, domid, connect })).toBeUndefined();
    expect(store.ownedNodes(domid)).toBe(owned);
    for (const { maxInFlight } of devices) expect(maxInFlight).toBeLessThanOrEqual(1);
  });
});
