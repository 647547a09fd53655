/** The whole way of an admin on Debian 13 and Xen 4.20: package, systemd, upgrade, faults, reboot, removal. */

import { describeLab } from './suite.js';
import { makePackages } from './systemd-packages.js';
import {
  attachedClientScenario,
  bootScenario,
  installScenario,
  killedScenario,
  purgeScenario,
  reloadScenario,
  sandboxScenario,
  upgradeScenario,
  watchdogScenario,
} from './systemd-scenarios.js';

describeLab(
  'the Debian package under systemd',
  { xenstored: 'xenstored', agent: 'service', files: makePackages },
  (lab) => {
    installScenario(lab);
    sandboxScenario(lab);
    attachedClientScenario(lab);
    upgradeScenario(lab);
    reloadScenario(lab);
    killedScenario(lab);
    watchdogScenario(lab);
    bootScenario(lab);
    purgeScenario(lab);
  },
);
