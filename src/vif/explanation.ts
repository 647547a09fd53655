/**
 * The way of one vif from dom0's write to the guest's carrier, station by station. Pure: each judges what was seen at one
 * time. The first that is not as it should be is the reason why the guest has no network; what is behind it follows from it.
 */
import { tomlName } from '../config/schema.js';
import { printable } from '../errors.js';
import { NO_FEATURES } from '../network/ethtool.js';
import { describeChange } from '../network/rtnetlink.js';
import { plainWord } from '../text.js';
import { keyText } from '../xenstore/paths.js';
import { kernelName, XenbusState } from './backend.js';
import { explainKernelError } from './failure.js';
import { judgeGuard } from './guard-explanation.js';
import { type Judgement, note, ok, wait, wrong } from './judgement.js';
import { describeStep, planVif, type Step } from './plan.js';
import { judgeRoutedForwarding, judgeRoutes, judgeWayOut } from './routed-explanation.js';
import { isVifLink, type VifSeen } from './seen.js';

export interface Station {
  readonly name: string;
  readonly judge: (seen: VifSeen) => Judgement;
}

export interface Account extends Judgement {
  readonly station: string;
}

const DMESG = 'see the kernel log of this domain: dmesg | grep vif';
const VIF_LINE = "correct the guest's vif line in dom0, then xl network-detach and xl network-attach";

/** In this order. Behind a station that is `wait` or `wrong` nothing is judged, so each may count on those before it. */
export const STATIONS: readonly Station[] = [
  { name: 'dom0', judge: judgeDirectory },
  { name: 'nodes', judge: judgeNodes },
  { name: 'settings', judge: judgeSettings },
  { name: 'online', judge: judgeOnline },
  { name: 'netback', judge: judgeNetback },
  { name: 'interface', judge: judgeInterface },
  { name: 'bridge', judge: (seen) => judgeRoutes(seen) ?? judgeBridge(seen) },
  { name: 'attachment', judge: judgeAttachment },
  { name: 'guard', judge: judgeGuard },
  { name: 'mtu', judge: judgeMtu },
  { name: 'hotplug', judge: judgeHotplug },
  { name: 'guest', judge: judgeGuest },
  { name: 'connection', judge: judgeConnection },
  { name: 'carrier', judge: judgeCarrier },
  { name: 'forwarding', judge: (seen) => judgeRoutedForwarding(seen) ?? judgeForwarding(seen) },
  { name: 'uplink', judge: (seen) => judgeWayOut(seen) ?? judgeUplink(seen) },
];

/** Up to the first station that is not as it should be; notes do not end it. */
export function explain(seen: VifSeen): Account[] {
  const accounts: Account[] = [];
  for (const { name, judge } of STATIONS) {
    const judgement = judge(seen);
    accounts.push({ station: name, ...judgement });
    if (judgement.verdict === 'wait' || judgement.verdict === 'wrong') break;
  }
  return accounts;
}

/** The station that decides: the first that waits or is wrong, else undefined. */
export function obstacle(seen: VifSeen): Account | undefined {
  return explain(seen).find(({ verdict }) => verdict === 'wait' || verdict === 'wrong');
}

function judgeDirectory({ key, live }: VifSeen): Judgement {
  const dir = `backend/vif/${keyText(key)}`;
  if (live !== undefined && live.state === undefined)
    return wrong(
      `there is no ${dir} in xenstore: dom0 has not made this vif here, or it has gone`,
      `in dom0: xl network-list ${key.domid}; the guest's vif line needs backend=NAME with the name of this domain`,
    );
  return ok(`dom0 has written ${dir}`);
}

function judgeNodes({ nodeFault, backend }: VifSeen): Judgement {
  if (nodeFault !== undefined) return wrong(nodeFault, VIF_LINE);
  const complaints = backend?.complaints ?? [];
  if (complaints.length > 0) return note(complaints.join('; '), "correct the guest's vif line in dom0");
  const { mac, bridge, type } = backend ?? {};
  return ok(`every node is valid: type ${type}, mac ${mac ?? '(none)'}, bridge ${bridge ?? '(none)'}`);
}

/** Whose word counts for what is not a default. */
function judgeSettings({ want, backend }: VifSeen): Judgement {
  const { settings, origins = new Map<string, string>() } = want?.policy ?? {};
  const values: Readonly<Record<string, unknown>> = { ...settings };
  const said = [...origins].map(([name, origin]) => `${tomlName(name)} = ${JSON.stringify(values[name])} of ${origin}`);
  const overruled = (['bridge', 'mtu', 'vlan'] as const).filter(
    (name) => backend?.[name] !== undefined && backend[name] !== values[name],
  );
  if (overruled.length === 0) return ok(said.length === 0 ? 'all settings have their defaults' : said.join(', '));
  const dom0 = overruled.map((name) => `${name} ${backend?.[name]}`).join(' and ');
  return note(`${said.join(', ')}; dom0 named ${dom0}`, 'a rule counts more than dom0: vifd config show');
}

function judgeOnline({ live, around }: VifSeen): Judgement {
  if (live?.online) return ok('online is 1: dom0 wants the vif');
  const says = `online is 0: dom0 wants the vif gone; the backend is ${stateName(live?.state)}`;
  if (live?.state === XenbusState.Closed && around.programs.length === 0)
    return wrong(
      `${says}, and nobody removes its directory: no agent runs here`,
      'start it: vifd run. Until then dom0 cannot end it without a time-out',
    );
  return wait(says, 'nothing to do: it leaves');
}

function judgeNetback({ live, kernelError, around }: VifSeen): Judgement {
  const state = live?.state ?? 0;
  const is = `the backend is ${stateName(state)}`;
  if (kernelError !== undefined && state !== XenbusState.Connected)
    return wrong(`${is}; ${explainKernelError(kernelError)}`, DMESG);
  if (state > XenbusState.Initialising) return ok(`xen-netback has taken the vif: ${is}`);
  const says = `xen-netback has not taken this vif: ${is}`;
  if (around.netback === 'missing') return wrong(`${says}, and its module is not loaded`, 'modprobe xen-netback');
  if (live?.hotplugStatus === 'error') return wrong(says, `modprobe xen-netback; ${DMESG}`);
  return wait(says, `if it stays so for seconds: modprobe xen-netback; ${DMESG}`);
}

function judgeInterface({ key, live, link, backend, want }: VifSeen): Judgement {
  const name = backend === undefined ? `vif${key.domid}.${key.devid}` : kernelName(backend);
  if (link !== undefined) {
    const renamed = link.ifname === name ? '' : `, called ${plainWord(link.ifname)}`;
    return ok(`the kernel has made the interface ${name}${renamed}`);
  }
  if (isClosing(live?.state))
    return wait(
      `the guest has let go (the backend is ${stateName(live?.state)}), and its interface ${name} has gone`,
      'attach the vif again in dom0, if the guest is to have it',
    );
  const other = want !== undefined && want.ifname !== name ? ` nor ${plainWord(want.ifname)}` : '';
  return wrong(`the kernel has made no interface ${name}${other}`, DMESG);
}

function judgeBridge({ bridge, placeFault, want }: VifSeen): Judgement {
  if (placeFault !== undefined) return wrong(placeFault.message, placeFault.hint);
  if (want?.mode === 'openvswitch') return ok(`Open vSwitch has the bridge ${want.port.bridge}`);
  if (bridge === undefined) return ok('no bridge is asked for');
  const { link, warning, ports } = bridge;
  if (!link.up) return wrong(`the bridge ${link.ifname} is down`, `ip link set ${link.ifname} up`);
  if (warning !== undefined) return note(warning, '');
  return ok(`the bridge ${link.ifname} is there and up; ports: ${ports.length}`);
}

function judgeAttachment(seen: VifSeen): Judgement {
  const missing = stepsMissing(seen).filter((step) => step.do !== 'set-mtu');
  const name = seen.link?.ifname ?? '';
  if (missing.length === 0) return ok(`${name} has all that was asked for`);
  const says = `not in force on ${name}: ${missing.map((step) => describeMissing(step, seen)).join(', ')}`;
  const [runs] = seen.around.programs
    .map(({ command }) => command)
    .sort()
    .reverse(); // vifd before xl
  if (runs === undefined) return wrong(says, 'no agent runs here; start it: vifd run');
  if (runs === 'vifd run' && seen.live?.hotplugStatus !== 'error')
    return seen.live?.hotplugStatus === 'connected'
      ? wrong(
          says,
          'vifd repairs it within 20 s; if it comes back, another program changes it: ip monitor link shows what, vifd doctor may name it',
        )
      : wait(says, 'vifd is about to do it');
  if (runs === 'vifd run') return wrong(`${says}; ${hotplugError(seen)}`, 'the log of vifd run has the whole reason');
  return missing.some(hinders)
    ? wrong(says, 'xl devd runs here; see its log /var/log/xen/xldevd.log, or run vifd instead')
    : note(`${says}; xl devd attached it, which does not do that`, 'run vifd instead of xl devd');
}

/** Without these no packet passes. */
const hinders = (step: Step): boolean =>
  step.do === 'add-address' ||
  step.do === 'add-route' ||
  step.do === 'set-ovs-port' ||
  (step.do === 'set-link' && (step.change.master !== undefined || step.change.up === true));

function describeMissing(step: Step, { bridge }: VifSeen): string {
  if (step.do !== 'set-link' || step.change.master === undefined || bridge === undefined)
    return step.do === 'set-link' && step.change.up === true ? 'up' : describeStep(step);
  const { master: _, ...rest } = step.change;
  return [`port of ${bridge.link.ifname}`, describeChange(rest)].filter((text) => text !== '').join(' ');
}

/** Empty when all is as asked for. */
export function stepsMissing({ want, link, place, addresses, features, guard }: VifSeen): Step[] {
  if (want === undefined || link === undefined || place === undefined) return [];
  return planVif(want, { link, addresses, features: features ?? NO_FEATURES, guard, place });
}

function judgeMtu(seen: VifSeen): Judgement {
  const { link, frontend } = seen;
  const step = stepsMissing(seen).find((each) => each.do === 'set-mtu');
  if (step !== undefined)
    return note(
      `${link?.ifname} has MTU ${link?.mtu}; ${step.mtu} is asked for`,
      "the guest's driver may not allow it (no scatter-gather); packets above are lost",
    );
  if (frontend.mtu !== undefined && frontend.mtu !== String(link?.mtu))
    return note(
      `${link?.ifname} has MTU ${link?.mtu}, but the guest is told ${printable(frontend.mtu)}`,
      'set the MTU of the interface inside the guest; packets above the smaller one are lost',
    );
  return ok(`MTU ${link?.mtu}`);
}

function judgeHotplug(seen: VifSeen): Judgement {
  const status = seen.live?.hotplugStatus;
  if (status === 'connected') return ok('hotplug-status is "connected": the kernel may let the guest connect');
  if (status === 'error') return wrong(hotplugError(seen), 'the log of vifd run has the whole reason');
  if (status !== undefined && status !== '')
    return wrong(
      `hotplug-status is ${printable(status)}, which means nothing to the kernel`,
      'run one agent only, and see which program wrote it: vifd monitor',
    );
  const says = 'hotplug-status is empty: nobody has attached the interface, and the guest hangs until then';
  if (seen.around.programs.length === 0) return wrong(`${says}; no agent runs here`, 'start it: vifd run');
  return wait(says, `${seen.around.programs[0]?.command} is about to do it; if not, see its log`);
}

const hotplugError = ({ live }: VifSeen): string =>
  live?.hotplugError === undefined
    ? 'hotplug-status is "error", without a reason'
    : `hotplug-error is ${printable(live.hotplugError, 240)}`;

function judgeGuest({ frontend, live }: VifSeen): Judgement {
  if (frontend.state === undefined)
    return wait(
      "the guest's directory cannot be read: the guest has ended, or removed it",
      'dom0 has the next word: xl list',
    );
  const state = Number(frontend.state);
  const says = `the guest's driver is ${stateName(frontend.state)}`;
  if (state === XenbusState.Connected) return ok(says);
  if (isClosing(state))
    return wait(
      `${says}: it has let go, or could not connect`,
      'see the guest\'s kernel log: dmesg | grep -i -e vif -e xennet. With "allocating event channel" there, Xen\'s ' +
        'XSM policy (SILO) forbids guests to talk to this domain: boot Xen with xsm=dummy',
    );
  if (state <= XenbusState.InitWait && live?.state !== XenbusState.Connected)
    return wait(
      `${says}: it has not come yet`,
      'wait until the guest has booted; inside a Linux guest: modprobe xen-netfront',
    );
  return wait(`${says}: it is connecting`, 'nothing to do');
}

function judgeConnection({ live }: VifSeen): Judgement {
  const says = `the backend is ${stateName(live?.state)}`;
  if (live?.state === XenbusState.Connected) return ok(`${says}: kernel and guest exchange packets`);
  return wait(`${says}, though all is in place: the kernel has not connected to the guest's driver yet`, DMESG);
}

function judgeCarrier({ statistics, link }: VifSeen): Judgement {
  if (statistics === undefined) return note('counters and carrier cannot be read', 'install iproute2');
  if (statistics.carrier) return ok(`${link?.ifname} has carrier`);
  return wait(
    `${link?.ifname} has no carrier: the guest gives no receive buffers`,
    'bring the interface up inside the guest',
  );
}

function judgeForwarding({ statistics, bridge }: VifSeen): Judgement {
  const state = statistics?.bridgePortState;
  if (state === undefined || state === 'forwarding') return ok('the bridge forwards its packets');
  const name = bridge?.link.ifname ?? 'the bridge';
  return wait(
    `${name} does not forward packets of this port yet: it is ${state}`,
    `that is STP or the forward delay; without loops: ip link set ${name} type bridge stp_state 0 forward_delay 0`,
  );
}

function judgeUplink({ bridge }: VifSeen): Judgement {
  if (bridge === undefined) return ok('no bridge is asked for');
  const { link, ports } = bridge;
  const uplinks = ports.filter((port) => !isVifLink(port));
  if (uplinks.length > 0)
    return ok(`${link.ifname} leads on by ${uplinks.map(({ ifname }) => plainWord(ifname)).join(', ')}`);
  return note(
    `${link.ifname} has no port but vifs: guests reach each other and this domain only`,
    `if they are to reach further: ip link set NIC master ${link.ifname}`,
  );
}

const isClosing = (state: number | undefined): boolean => state === XenbusState.Closing || state === XenbusState.Closed;

const STATE_NAMES = Object.entries(XenbusState);

/** `Connected`; for values that Xen does not know, the value: a guest may write anything. */
export function stateName(state: number | string | undefined): string {
  if (state === undefined) return 'gone';
  return STATE_NAMES.find(([, value]) => String(value) === String(state))?.[0] ?? printable(String(state), 16);
}
