/**
 * Two lanes that take about as long, each with one emulated computer at a time: a machine with two cores runs both side by
 * side. Within a lab the scenarios follow each other and build on each other.
 */
import { describe } from 'vitest';
import { describeConformance } from './conformance-scenarios.js';
import { devdScenarios } from './devd-scenarios.js';
import { recoverScenario, waitScenario } from './dom0-scenarios.js';
import { crowdScenario, flapScenario, pauseScenario, saveScenario } from './load-scenarios.js';
import { guardScenario, observeScenario, routedScenario, userScriptScenario, vlanScenario } from './mode-scenarios.js';
import { driftScenario, terminateScenario } from './robust-scenarios.js';
import {
  attachDetachScenario,
  attachScenario,
  killScenario,
  manyVifsScenario,
  missingBridgeScenario,
  monitorScenario,
  operatorScenario,
  reattachScenario,
  rebootScenario,
  reloadScenario,
} from './scenarios.js';
import { devdScriptScenarios, dom0ScriptScenarios, udevScenarios } from './script-scenarios.js';
import { describeLab } from './suite.js';
import { makePackages } from './systemd-packages.js';
import {
  attachedClientScenario,
  bootScenario,
  installScenario,
  killedScenario,
  purgeScenario,
  sandboxScenario,
  reloadScenario as serviceReloadScenario,
  upgradeScenario,
  watchdogScenario,
} from './systemd-scenarios.js';

describe.concurrent('lane 1', () => {
  describeLab('vifd on oxenstored', { xenstored: 'oxenstored', agent: 'vifd', keepNicdom: true }, (lab) => {
    attachScenario(lab);
    attachDetachScenario(lab);
    manyVifsScenario(lab);
    rebootScenario(lab);
    killScenario(lab);
    missingBridgeScenario(lab);
    reattachScenario(lab);
    monitorScenario(lab);
    operatorScenario(lab);
    reloadScenario(lab);
    dom0ScriptScenarios(lab);
    observeScenario(lab);
    waitScenario(lab);
    recoverScenario(lab);
  });

  // Stricter with a driver domain than oxenstored: it dies of a second request in flight (contract section 10.5).
  describeLab('vifd on the C xenstored', { xenstored: 'xenstored', agent: 'vifd' }, (lab) => {
    attachScenario(lab);
    attachDetachScenario(lab);
    manyVifsScenario(lab);
    killScenario(lab);
    operatorScenario(lab);
    reattachScenario(lab);
    vlanScenario(lab);
    guardScenario(lab);
    routedScenario(lab);
    userScriptScenario(lab);
  });

  describeConformance('xenstored');
});

describe.concurrent('lane 2', () => {
  // The whole way of an admin on Debian 13 and Xen 4.20: package, systemd, upgrade, faults, reboot, removal.
  describeLab(
    'the Debian package under systemd',
    { xenstored: 'xenstored', agent: 'service', files: makePackages },
    (lab) => {
      installScenario(lab);
      sandboxScenario(lab);
      attachedClientScenario(lab);
      crowdScenario(lab);
      flapScenario(lab);
      upgradeScenario(lab);
      serviceReloadScenario(lab);
      killedScenario(lab);
      watchdogScenario(lab);
      pauseScenario(lab);
      saveScenario(lab);
      bootScenario(lab);
      purgeScenario(lab);
    },
  );

  describeLab('xl devd on oxenstored', { xenstored: 'oxenstored', agent: 'devd' }, (lab) => {
    devdScenarios(lab);
    devdScriptScenarios(lab);
    udevScenarios(lab);
  });

  describeLab('vifd ended and its work spoiled', { xenstored: 'xenstored', agent: 'vifd' }, (lab) => {
    terminateScenario(lab);
    driftScenario(lab);
  });

  describeConformance('oxenstored');
});
