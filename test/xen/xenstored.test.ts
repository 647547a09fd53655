/** The C xenstored: it is stricter with a driver domain than oxenstored (one request in flight, contract section 10.5). */
import { attachDetachScenario, attachScenario, killScenario, manyVifsScenario, reattachScenario } from './scenarios.js';
import { describeLab } from './suite.js';

describeLab('vifd on the C xenstored', { xenstored: 'xenstored', agent: 'vifd' }, (lab) => {
  attachScenario(lab);
  attachDetachScenario(lab);
  manyVifsScenario(lab);
  killScenario(lab);
  reattachScenario(lab);
});
