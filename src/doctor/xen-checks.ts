/** Checks of the way from dom0 to this domain's kernel: Xen, xenstore, netback, agents, quotas. Pure. */
import { printable } from '../errors.js';
import { plainWord } from '../text.js';
import { XenbusState } from '../vif/backend.js';
import { obstacle, stateName } from '../vif/explanation.js';
import { reportVif } from '../vif/report.js';
import type { VifSeen } from '../vif/seen.js';
import { keyText } from '../xenstore/paths.js';
import { type Check, error, type Judgement, ok, warning } from './finding.js';
import { inTrouble, type Machine } from './machine.js';
import { byOthers } from './own-network.js';

/** xenstored's default, raised in dom0. */
const NODE_QUOTA = 1000;
const NODES_A_VIF = 24;
/** xenstored's default; oxenstored's is 100. */
const WATCH_QUOTA = 128;
const WATCHES_A_VIF = 3;
/** The kernel's own and the agent's. */
const OTHER_WATCHES = 10;

export const XEN_CHECKS: readonly Check[] = [
  { code: 'xen', judge: judgeXen },
  { code: 'xenstore', judge: judgeXenstore },
  { code: 'domain', judge: judgeDomain },
  { code: 'netback', judge: judgeNetback },
  { code: 'agent', judge: judgeAgents },
  { code: 'configuration', judge: judgeConfiguration },
  { code: 'udev-rules', judge: judgeUdevRules },
  { code: 'ifupdown', judge: judgeInterfaces },
  { code: 'node-quota', judge: judgeNodeQuota },
  { code: 'watch-quota', judge: judgeWatchQuota },
  { code: 'silo', judge: judgeSilo },
  { code: 'vif', judge: judgeVifs },
  { code: 'own-network', judge: judgeOwnNetwork },
];

function judgeXen({ hypervisor, xenstore }: Machine): Judgement[] {
  if (hypervisor === 'xen') return [ok('this machine runs under Xen')];
  const says = hypervisor === undefined ? 'missing' : printable(hypervisor);
  // A socket that was named, as the simulator's, is as good.
  if (!inTrouble(xenstore)) return [warning(`/sys/hypervisor/type is ${says}: no Xen, but a xenstore answers`, '')];
  return [
    error(
      `/sys/hypervisor/type is ${says}: this machine does not run under Xen`,
      'run vifd in a Xen driver domain; to see it work here: vifd demo',
    ),
  ];
}

function judgeXenstore({ xenstore, observes, asksForVifs }: Machine): Judgement[] {
  if (!inTrouble(xenstore)) return [ok(`xenstore answers on ${xenstore.peer}`)];
  if (observes && !asksForVifs)
    return [ok('xenstore does not answer; vifd only observes here, and no binding has when.vif, which would need it')];
  // A ConnectionError has its remedy in it.
  return [error(`${xenstore.message}. What needs xenstore (vifs, agents, quotas) was not examined`, '')];
}

function judgeConfiguration({ configFault, judgedBy = 'the defaults' }: Machine): Judgement[] {
  if (configFault === undefined) return [ok('the configuration files are valid')];
  return [
    error(
      `${printable(configFault, 400)}; vifs are judged by ${judgedBy} here`,
      'correct it: vifd does not start with it, and a running one keeps what it had',
    ),
  ];
}

function judgeDomain({ xenstore, observes }: Machine): Judgement[] {
  if (inTrouble(xenstore)) return [];
  const { domid } = xenstore;
  if (domid === undefined)
    return [warning('the node "domid" is missing: this domain does not know its number', 'vifd works without it')];
  if (domid === '0' && observes) return [ok('this is dom0, where vifd only observes: the toolstack attaches the vifs')];
  if (domid !== '0') return [ok(`this is domain ${plainWord(domid)}`)];
  return [
    warning(
      'this is dom0, where libxl runs the vif scripts itself',
      'run vifd in the driver domain, or make sure that libxl does not (run_hotplug_scripts=0 in xl.conf)',
    ),
  ];
}

function judgeNetback({ netback, hypervisor, observes }: Machine): Judgement[] {
  if (netback === 'loaded') return [ok('xen-netback is loaded')];
  if (observes) return [];
  if (netback === 'missing')
    return [
      error(
        'the module xen-netback is not loaded: every vif stays in state 1, and dom0 gives up after 10 s',
        'modprobe xen-netback; echo xen-netback >> /etc/modules-load.d/xen.conf',
      ),
    ];
  if (hypervisor !== 'xen') return [];
  return [error('/sys/bus/xen-backend is missing: this kernel has no Xen backends', 'use one with CONFIG_XEN_BACKEND')];
}

function judgeAgents({ programs, xenstore, observes }: Machine): Judgement[] {
  if (observes) return judgeObservers(programs);
  if (inTrouble(xenstore) && programs.length === 0) return [];
  const names = programs.map(({ command, pid }) => `${command} (pid ${pid})`).join(', ');
  if (programs.length > 1)
    return [error(`several agents run: ${names}; they attach the same vifs`, 'stop all but one vifd run')];
  const [program] = programs;
  if (program === undefined) return [warning('no agent seems to run: new vifs will not be attached', 'vifd run')];
  if (program.command === 'vifd run') return [ok(`${names} runs`)];
  return [warning(`${names} runs`, 'stop it before vifd run is started: both would attach the same vifs')];
}

/** Whoever attaches vifs beside it does what is his. */
function judgeObservers(programs: Machine['programs']): Judgement[] {
  const own = programs.filter(({ command }) => command === 'vifd run').map(({ pid }) => `vifd run (pid ${pid})`);
  if (own.length > 1) return [error(`several vifd run: ${own.join(', ')}`, 'stop all but one vifd run')];
  if (own.length === 1) return [ok(`${own[0]} runs and only observes`)];
  return [warning('no vifd seems to run: what [bridge] and [bind] ask for is not seen to', 'vifd run')];
}

function judgeUdevRules({ files, observes }: Machine): Judgement[] {
  if (observes) return [];
  const competing = files.udevRules.filter(({ text }) => activeLines(text).some(runsHotplug));
  if (competing.length === 0) return [ok('no udev rule attaches vifs')];
  return competing.map(({ path }) =>
    warning(
      `${path} runs a program for each vif (xen-backend), beside the agent`,
      `mask it: ln -s /dev/null /etc/udev/rules.d/${path.slice(path.lastIndexOf('/') + 1)}; udevadm control --reload`,
    ),
  );
}

const runsHotplug = (line: string): boolean =>
  line.includes('xen-backend') && /\bRUN(\{program\})?\s*\+?=/.test(line) && !line.includes('vifd');

function judgeInterfaces({ files, observes }: Machine): Judgement[] {
  if (observes) return [];
  const stanza = /^\s*(allow-\S+|auto|iface)\s.*\bvif[\d*[/]/;
  return files.interfaces
    .filter(({ text }) => activeLines(text).some((line) => stanza.test(line) || /^\s*allow-hotplug\s+\/vif/.test(line)))
    .map(({ path }) =>
      warning(`${path} has a stanza for vifs: ifupdown configures them beside the agent`, 'remove it'),
    );
}

function activeLines(text: string): string[] {
  return text
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => !/^\s*#/.test(line));
}

function judgeNodeQuota({ xenstore, vifs }: Machine): Judgement[] {
  if (inTrouble(xenstore) || xenstore.domid === '0') return []; // dom0 has no quota
  const left = Math.max(0, Math.floor((NODE_QUOTA - xenstore.nodes) / NODES_A_VIF));
  const says = `this domain owns ${xenstore.nodes} xenstore nodes with ${vifs.length} vifs; by default it may own ${NODE_QUOTA}, which leaves room for ${left} vifs more`;
  if (left >= 5) return [ok(says)];
  return [
    warning(
      says,
      'raise it in dom0: xenstore-control quota set nodes 10000 (from Xen 4.17 on, at once); for good: xenstored -E 10000, or quota-maxentity in oxenstored.conf',
    ),
  ];
}

function judgeWatchQuota({ xenstore, vifs }: Machine): Judgement[] {
  if (inTrouble(xenstore) || xenstore.domid === '0') return [];
  const used = OTHER_WATCHES + WATCHES_A_VIF * vifs.length;
  const left = Math.max(0, Math.floor((WATCH_QUOTA - used) / WATCHES_A_VIF));
  const says = `the kernel takes ${WATCHES_A_VIF} xenstore watches a vif, about ${used} in all; by default a domain may have ${WATCH_QUOTA} (oxenstored: 100), which leaves room for ${left} vifs more`;
  if (left >= 5) return [ok(says)];
  return [
    warning(
      says,
      'raise it in dom0: xenstore-control quota set watches 1000 (from Xen 4.17 on, at once); for good: xenstored -W 1000, or quota-maxwatch in oxenstored.conf',
    ),
  ];
}

/** XSM's SILO lets guests talk to dom0 only. The guest's own log alone is proof. */
function judgeSilo({ vifs }: Machine): Judgement[] {
  if (vifs.some(({ live }) => live?.state === XenbusState.Connected)) return []; // it can be done, then
  const refused = vifs.filter(
    ({ live, frontend }) =>
      live?.online === true &&
      live.hotplugStatus === 'connected' &&
      (frontend.state === String(XenbusState.Closing) || frontend.state === String(XenbusState.Closed)),
  );
  if (refused.length === 0) return [];
  const guests = refused.map(({ key, frontend }) => `${keyText(key)} (${stateName(frontend.state)})`).join(', ');
  return [
    warning(
      `no guest has connected, and the drivers of these have given up: ${guests}. Xen's XSM policy may be SILO, which forbids guests to talk to a driver domain`,
      'look for "allocating event channel" in the guest\'s kernel log; in dom0: xl dmesg | grep -i xsm; boot Xen with xsm=dummy',
    ),
  ];
}

function judgeVifs({ vifs, xenstore, observes }: Machine): Judgement[] {
  if (inTrouble(xenstore)) return [];
  const failed = vifs.flatMap(observes ? judgeOthersVif : judgeVif);
  return failed.length > 0 ? failed : [ok(`of the vifs here (${vifs.length}) none has failed`)];
}

function judgeOthersVif(seen: VifSeen): Judgement[] {
  const { health, problem, remedy } = byOthers(seen, reportVif(seen));
  return health === 'failed' ? [error(`vif ${keyText(seen.key)}: ${problem}`, remedy ?? '')] : [];
}

function judgeVif(seen: VifSeen): Judgement[] {
  const problem = obstacle(seen);
  if (problem?.verdict !== 'wrong') return [];
  const { key } = seen;
  return [error(`vif ${keyText(key)}: ${problem.says}`, `${problem.remedy} (vifd explain ${keyText(key)})`)];
}

/** Without an agent that is none's fault here: the check of agents says so. */
const SEE_LOG = 'see the log of vifd: journalctl -u vifd; a bridge that was put back is tried again at a reload';

function judgeOwnNetwork({ own, programs }: Machine): Judgement[] {
  const runs = programs.some(({ command }) => command === 'vifd run');
  return own.map(({ table, state, interfaces, lacks }) => {
    const says = `${table} is ${state}${interfaces.length === 0 ? '' : ` on ${interfaces.join(', ')}`}`;
    if (state !== 'incomplete') return ok(lacks.length === 0 ? says : `${says} ${lacks.join('; ')}`);
    return warning(`${says}: ${lacks.join('; ')}`, runs ? SEE_LOG : 'vifd run');
  });
}
