/**
 * When a leaving vif's directory goes. dom0 waits 10 s for that (LIBXL_DESTROY_TIMEOUT), and fails just as well when the
 * directory goes before dom0 has read `state` 6 there (contract 2.3, 10.4).
 */

/** `closed`: dom0 wants it gone and netback has let go. `abandoned`: guest's directory and interface are gone, dom0 not done. */
export type LeavingReason = 'closed' | 'abandoned';

/** What dom0 has on its hands with this guest. */
export interface GuestActivity {
  /** When `state` or `online` of any of its vifs last changed, by performance.now(); absent: not since vifd runs. */
  readonly changedAt?: number | undefined;
  /** How many of its vifs leave. */
  readonly leaving: number;
}

/**
 * How long all vifs of the guest must have been quiet before the first of them goes, and how much longer for each further
 * one. As long as dom0 or the kernel is at work on them, `state` and `online` change; then dom0 still has its events to
 * read, one after the other. A fixed second for each was too short on a slow host with 16 vifs.
 */
const GRACE_MS = 1_000;
const GRACE_PER_VIF_MS = 100;
/**
 * The longest that a vif waits for its neighbours. dom0's 10 s for the directory begin when it has seen `state` 6; of 16
 * vifs under emulation it had not seen the first one's after 5 s.
 */
const GRACE_MAX_MS = 8_000;
/** For an abandoned one. Still within dom0's 10 s. */
const ABANDONED_GRACE_MS = 6_000;
/** How long another may take to remove the directory once it may go. After that it has died. */
const ANOTHER_MS = 1_500;

export class Departure {
  private begun: { readonly reason: LeavingReason; readonly state: number; readonly since: number } | undefined;
  private another = false;
  constructor(private readonly guest: () => GuestActivity) {}

  /** The vif leaves for this reason. Milliseconds that its directory still stays. */
  begin(reason: LeavingReason, state: number): number {
    if (this.begun?.reason !== reason || this.begun.state !== state)
      this.begun = { reason, state, since: performance.now() };
    return Math.max(0, (this.mayGo ? this.goesAt(this.begun) : this.dueAt(this.begun)) - performance.now());
  }

  /** Somebody else removes the directory when it may go, and would take the next vif's if it were not there any more. */
  leaveToAnother(): void {
    this.another = true;
  }

  /** The grace is over. */
  get mayGo(): boolean {
    return this.begun !== undefined && performance.now() >= this.dueAt(this.begun);
  }

  cancel(): void {
    this.begun = undefined;
  }

  /** True when a closed vif's grace is over: its `state` is all that there is left to check. */
  isOver(): boolean {
    return this.begun?.reason === 'closed' && performance.now() >= this.goesAt(this.begun);
  }

  private goesAt(begun: NonNullable<typeof this.begun>): number {
    return this.dueAt(begun) + (this.another ? ANOTHER_MS : 0);
  }

  private dueAt({ reason, since }: { reason: LeavingReason; since: number }): number {
    if (reason === 'abandoned') return since + ABANDONED_GRACE_MS;
    const { changedAt = since, leaving } = this.guest();
    const quietSince = Math.max(changedAt, since); // the event of what was read may be late, or lost
    return Math.min(quietSince + GRACE_MS + (leaving - 1) * GRACE_PER_VIF_MS, since + GRACE_MAX_MS);
  }
}
