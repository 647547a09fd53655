/** On the C xenstored, the stricter one with a driver domain. */
import { driftScenario, terminateScenario } from './robust-scenarios.js';
import { describeLab } from './suite.js';

describeLab('vifd ended and its work spoiled, on the C xenstored', { xenstored: 'xenstored', agent: 'vifd' }, (lab) => {
  terminateScenario(lab);
  driftScenario(lab);
});
