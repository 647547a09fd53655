/** In a lab of its own: no other scenario may need the first driver domain afterwards. */
import { recoverScenario, waitScenario } from './dom0-scenarios.js';
import { describeLab } from './suite.js';

describeLab(
  'dom0 and a restart of the driver domain',
  { xenstored: 'oxenstored', agent: 'vifd', keepNicdom: true },
  (lab) => {
    waitScenario(lab);
    recoverScenario(lab);
  },
);
