import { expect, test } from 'vitest';
import { domidOf, untilConnected, vifSpec, xl } from './guests.js';
import {
  attachDetachScenario,
  attachScenario,
  killScenario,
  manyVifsScenario,
  missingBridgeScenario,
  reattachScenario,
  rebootScenario,
} from './scenarios.js';
import { describeLab } from './suite.js';

describeLab('vifd on oxenstored', { xenstored: 'oxenstored', agent: 'vifd' }, (lab) => {
  attachScenario(lab);
  attachDetachScenario(lab);
  manyVifsScenario(lab);
  rebootScenario(lab);
  killScenario(lab);
  missingBridgeScenario(lab);
  reattachScenario(lab);

  test('vifd monitor shows a vif coming, beside the running agent, and ends cleanly with Ctrl-C', async () => {
    const domid = await domidOf(lab(), 'alpha');
    await lab().mustNicdom('setsid vifd monitor --json >/run/monitor.json 2>/run/monitor.err </dev/null & echo $! >/run/monitor.pid; sleep 4');
    await xl(lab(), `network-attach alpha ${vifSpec(11, 1)}`);
    await untilConnected(lab(), domid, [0, 1]);
    await xl(lab(), 'network-detach alpha 1');
    const ended = await lab().nicdom('pid=$(cat /run/monitor.pid); kill -INT $pid; for i in $(seq 50); do kill -0 $pid 2>/dev/null || exit 0; sleep 0.1; done; exit 1');
    expect(ended.code).toBe(0);
    expect(await lab().mustNicdom('cat /run/monitor.err')).toBe('');
    const lines = (await lab().mustNicdom('cat /run/monitor.json')).split('\n').map((line) => JSON.parse(line));
    const seen = JSON.stringify(lines);
    expect(seen).toContain(`backend/vif/${domid}/1/state`);
    expect(seen).toContain('InitWait');
    expect(seen).toContain(`backend/vif/${domid}/1/hotplug-status`);
  });
});
