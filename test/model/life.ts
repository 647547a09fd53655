/**
 * The life of one vif as everybody but vifd lives it: dom0's toolstack, xen-netback and the guest. Pure data; each move names
 * the section of shared/contract.md that it is taken from. world.ts carries the moves out, explore.ts and random.ts choose them.
 *
 *   dom0      none --attach--> adding --added (state 2)--> there --detach / destroy--> closing --closed (state 6)--> removing
 *              ^                  | add-fails: 10 s              ^                        | vanished: ERROR             |
 *              |                  +--------> closing, forced     | detach, 10 s: forced --+ close-timeout: ERROR        |
 *              +---------------------------------- removed (no directory) / remove-timeout: 10 s, ERROR ---------------+
 *
 *   netback   none --probe: state 2--> probed --make: vifD.N--> made --front 6 and online 0, or no front--> gone
 *              ^                          | fail: state 5, error node                                        |
 *              |                          +--> failed                                                        |
 *              +------------------------------------ dropped (no directory) ---------------------------------+
 *             made: its own state follows the frontend's; `state` is held back from 4 on until hotplug-status is `connected`
 *
 *   guest     1 --boot (backend 2)--> 4 --close--> 5 --closes--> 6 --reopen--> 1      4 --obey (backend 5 or 6)--> 6
 *             any --leave: removes its own directory--> none                         flap: 6, 1, without looking
 */
import { XenbusState } from '../../src/vif/backend.js';

const { Initialising, InitWait, Connected, Closing, Closed } = XenbusState;

/** LIBXL_INIT_TIMEOUT and LIBXL_DESTROY_TIMEOUT (contract 2.2, 2.3). */
const DOM0_WAITS_MS = 10_000;
/** Longer than vifd's patience; a netback that needs more is one that dom0 gives up, too. */
const NETBACK_TAKES_MS = 3_000;

/** What the parties remember; the rest stands in xenstore and in the kernel. */
export interface Life {
  readonly dom0: 'none' | 'adding' | 'there' | 'closing' | 'removing' | 'stuck';
  readonly forced: boolean;
  /** By the virtual clock: when dom0 gives its present wait up. */
  readonly deadline: number;
  /** When netback has made the interface at the latest. */
  readonly madeBy: number;
  readonly netback: 'none' | 'probed' | 'made' | 'failed' | 'gone';
  /** be->state: where netback is; xenstore is told later while `armed`. */
  readonly state: number;
  /** The watch on hotplug-status is there (contract 6.3). */
  readonly armed: boolean;
  /** The frontend's state that netback has followed. */
  readonly followed: number;
  /** Moves that only so many may be of. */
  readonly spent: Readonly<Record<string, number>>;
  /** What xl printed. */
  readonly errors: readonly string[];
}

export const UNBORN: Life = {
  dom0: 'none',
  forced: false,
  deadline: 0,
  madeBy: 0,
  netback: 'none',
  state: 0,
  armed: false,
  followed: 0,
  spent: {},
  errors: [],
};

/** What everybody can see. Undefined: there is no such directory. */
export interface Sight {
  readonly now: number;
  readonly back: { readonly state: number; readonly online: boolean; readonly status: string } | undefined;
  readonly front: number | undefined;
}

export type Deed =
  | { readonly as: 'dom0' | 'netback' | 'guest'; readonly write: string; readonly value: string }
  | { readonly as: 'dom0' | 'netback' | 'guest'; readonly rm: string }
  | { readonly as: 'dom0'; readonly make: 'directories' }
  | { readonly as: 'netback'; readonly link: 'add' | 'remove' };

export interface Change {
  readonly life?: Partial<Life>;
  readonly deeds?: readonly Deed[];
}

/** `urgent`: time does not go on before it; `free`: nobody has to; `soon`: it is made in the end. */
export type When = 'urgent' | 'soon' | 'free';

export interface Move {
  readonly when: When | ((life: Life, sight: Sight) => When);
  readonly contract: string;
  readonly may: (life: Life, sight: Sight) => boolean;
  readonly does: (life: Life, sight: Sight) => Change;
}

const backState = (as: 'dom0' | 'netback', state: number): Deed => ({ as, write: 'back/state', value: String(state) });
const frontState = (state: number): Deed => ({ as: 'guest', write: 'front/state', value: String(state) });
const isLate = ({ deadline }: Life, { now }: Sight): boolean => now >= deadline;
const says = ({ errors }: Life, error: string): Pick<Life, 'errors'> => ({ errors: [...errors, error] });

/** The transaction that begins a removal; a forced one takes the guest's half away first. */
function goOffline(sight: Sight, forced: boolean): Change {
  const front: Deed[] = forced ? [{ as: 'dom0', rm: 'front' }] : [];
  if (sight.back === undefined) return cleanup();
  const state = sight.back.state === Closed ? [] : [backState('dom0', Closing)];
  return {
    life: { dom0: 'closing', forced, deadline: sight.now + DOM0_WAITS_MS },
    deeds: [...front, { as: 'dom0', write: 'back/online', value: '0' }, ...state],
  };
}

/** libxl__device_destroy, from Xen 4.15 on. */
function cleanup(errors: Partial<Life> = {}): Change {
  const deeds = ['front', 'back'].map((rm): Deed => ({ as: 'dom0', rm }));
  return { life: { dom0: 'none', ...errors }, deeds };
}

/** set_backend_state: each state on the way is written, unless the hotplug script is waited for. */
function netbackGoes(life: Life, goal: number): Change {
  const way: number[] = [];
  for (let at = life.state; at !== goal; way.push(at)) at = nextState(at, goal);
  const armed = life.armed || way.includes(Connected);
  const told = life.armed ? [] : way.slice(0, way.includes(Connected) ? way.indexOf(Connected) : undefined);
  return { life: { state: goal, armed }, deeds: told.map((state) => backState('netback', state)) };
}

function nextState(from: number, goal: number): number {
  if (from === InitWait) return goal === Connected ? Connected : Closing;
  if (from === Connected) return Closing;
  if (from === Closing) return Closed;
  return goal === Closing ? Closing : InitWait;
}

/** device_unregister and netback_remove. */
function unregister(life: Life, { back }: Sight, before: Change = {}): Change {
  const written = (before.deeds ?? []).length > 0 ? Closed : back?.state;
  const deeds: Deed[] = [
    ...(before.deeds ?? []),
    { as: 'netback', rm: 'back/hotplug-status' },
    ...(life.netback === 'made' ? [{ as: 'netback', link: 'remove' } as const] : []),
    ...(written === Closing ? [backState('netback', Closed)] : []),
  ];
  return { life: { netback: 'gone', armed: false, state: Closed }, deeds };
}

/** frontend_changed. */
function followFrontend(life: Life, sight: Sight): Change {
  const front = sight.front ?? 0;
  const goal = { 0: Closed, 1: InitWait, 4: Connected, 5: Closing, 6: Closed }[front] ?? life.state;
  const change = netbackGoes(life, goal);
  const ends = front === 0 || (front === Closed && sight.back?.online === false);
  const { life: next, deeds } = ends ? unregister(life, sight, change) : change;
  return { life: { ...next, followed: front }, ...(deeds && { deeds }) };
}

export const MOVES: Readonly<Record<string, Move>> = {
  attach: {
    when: 'free',
    contract: '2.1',
    may: ({ dom0, netback }) => dom0 === 'none' && netback === 'none',
    does: (_, { now }) => ({
      life: { dom0: 'adding', forced: false, deadline: now + DOM0_WAITS_MS },
      deeds: [{ as: 'dom0', make: 'directories' }],
    }),
  },
  added: {
    when: 'urgent',
    contract: '2.2',
    may: ({ dom0 }, { back }) => dom0 === 'adding' && back?.state === InitWait,
    does: () => ({ life: { dom0: 'there' } }),
  },
  'add-fails': {
    when: 'urgent',
    contract: '2.2',
    may: (life, sight) => life.dom0 === 'adding' && sight.back?.state !== InitWait && isLate(life, sight),
    does: (_, sight) => goOffline(sight, true),
  },
  detach: {
    when: 'free',
    contract: '2.3',
    may: ({ dom0 }) => dom0 === 'there',
    does: (_, sight) => goOffline(sight, false),
  },
  destroy: {
    when: 'free',
    contract: '2.3',
    may: ({ dom0 }) => dom0 === 'there',
    does: (_, sight) => goOffline(sight, true),
  },
  closed: {
    when: 'urgent',
    contract: '2.3, step 2',
    may: ({ dom0 }, { back }) => dom0 === 'closing' && back?.state === Closed,
    does: (_, { now }) => ({ life: { dom0: 'removing', deadline: now + DOM0_WAITS_MS } }),
  },
  vanished: {
    when: 'urgent',
    contract: '10.4',
    may: ({ dom0 }, { back }) => dom0 === 'closing' && back === undefined,
    does: (life) => cleanup(says(life, 'unable to remove device')),
  },
  'close-timeout': {
    when: 'urgent',
    contract: '2.3, step 2',
    may: (life, sight) =>
      life.dom0 === 'closing' && sight.back !== undefined && sight.back.state !== Closed && isLate(life, sight),
    does: (life, sight) => (life.forced ? cleanup(says(life, 'unable to remove device')) : goOffline(sight, true)),
  },
  removed: {
    when: 'urgent',
    contract: '2.3, step 3',
    may: ({ dom0 }, { back }) => dom0 === 'removing' && back === undefined,
    does: () => cleanup(),
  },
  'remove-timeout': {
    when: 'urgent',
    contract: '2.3, step 3',
    may: (life, sight) => life.dom0 === 'removing' && sight.back !== undefined && isLate(life, sight),
    does: (life) =>
      life.forced
        ? cleanup(says(life, 'timed out while waiting for removal'))
        : { life: { dom0: 'stuck', ...says(life, 'timed out while waiting for removal') } },
  },
  probe: {
    when: 'soon',
    contract: '6.2',
    may: ({ netback }, { back }) => netback === 'none' && back?.state === Initialising,
    does: (_, { now }) => ({
      life: {
        netback: 'probed',
        state: InitWait,
        armed: false,
        followed: Initialising,
        madeBy: now + NETBACK_TAKES_MS,
      },
      deeds: [backState('netback', InitWait)],
    }),
  },
  make: {
    when: ({ madeBy }, { now }) => (now >= madeBy ? 'urgent' : 'soon'),
    contract: '0.8',
    may: ({ netback }, { back }) => netback === 'probed' && back !== undefined,
    does: () => ({ life: { netback: 'made' }, deeds: [{ as: 'netback', link: 'add' }] }),
  },
  fail: {
    when: 'free',
    contract: '6.3, fatal errors',
    may: ({ netback }, { back }) => netback === 'probed' && back !== undefined,
    does: () => ({
      life: { netback: 'failed', state: Closing },
      deeds: [
        { as: 'netback', write: 'error/error', value: '17 creating interface' },
        backState('netback', Closing),
        { as: 'netback', rm: 'back/hotplug-status' },
      ],
    }),
  },
  follow: {
    when: 'urgent',
    contract: '6.3',
    may: ({ netback, followed }, { back, front = 0 }) => netback === 'made' && back !== undefined && front !== followed,
    does: followFrontend,
  },
  hotplug: {
    when: 'urgent',
    contract: '0.2',
    may: ({ armed }, { back }) => armed && back?.status === 'connected',
    does: ({ state }) => ({ life: { armed: false }, deeds: [backState('netback', state)] }),
  },
  dropped: {
    when: 'urgent',
    contract: '2.3',
    may: ({ netback }, { back }) => netback !== 'none' && back === undefined,
    does: ({ netback }) => ({
      life: { netback: 'none', armed: false },
      deeds: netback === 'made' ? [{ as: 'netback', link: 'remove' }] : [],
    }),
  },
  boot: {
    when: 'free',
    contract: '6.3',
    may: ({ dom0 }, { front, back }) => dom0 === 'there' && front === Initialising && back?.state === InitWait,
    does: () => ({ deeds: [frontState(Connected)] }),
  },
  close: {
    when: 'free',
    contract: '0.11',
    may: ({ dom0 }, { front }) => dom0 === 'there' && front === Connected,
    does: () => ({ deeds: [frontState(Closing)] }),
  },
  closes: {
    when: 'soon',
    contract: '6.3',
    may: (_, { front, back }) => front === Closing && back?.state === Closing,
    does: () => ({ deeds: [frontState(Closed)] }),
  },
  obey: {
    when: 'soon',
    contract: '2.3, step 2',
    may: ({ dom0 }, { front, back }) =>
      dom0 !== 'there' && (front === Connected || front === Initialising) && (back?.state ?? 0) >= Closing,
    does: () => ({ deeds: [frontState(Closed)] }),
  },
  reopen: {
    when: 'free',
    contract: '0.11',
    may: ({ dom0 }, { front, back }) => dom0 === 'there' && front === Closed && back?.state === Closed,
    does: () => ({ deeds: [frontState(Initialising)] }),
  },
  flap: {
    when: 'free',
    contract: '7.1',
    may: ({ dom0 }, { front }) => dom0 === 'there' && front !== undefined,
    does: (_, { front }) => ({ deeds: [frontState(front === Closed ? Initialising : Closed)] }),
  },
  leave: {
    when: 'free',
    contract: '7.1',
    may: ({ dom0 }, { front }) => dom0 === 'there' && front !== undefined,
    does: () => ({ deeds: [{ as: 'guest', rm: 'front' }] }),
  },
};
