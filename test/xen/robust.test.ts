/** On the C xenstored, whose default quotas are the tighter ones in practice. */
import { driftScenario, quotaScenario, terminateScenario } from './robust-scenarios.js';
import { describeLab } from './suite.js';

describeLab('vifd under stress on the C xenstored', { xenstored: 'xenstored', agent: 'vifd' }, (lab) => {
  terminateScenario(lab);
  driftScenario(lab);
  quotaScenario(lab);
});
