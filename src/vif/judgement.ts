/** What a station on the way of a vif says of it. Pure. */

/** `note`: odd, but no hindrance. `wait`: somebody else has the next word. `wrong`: somebody has to do something. */
export type Verdict = 'ok' | 'note' | 'wait' | 'wrong';

export interface Judgement {
  readonly verdict: Verdict;
  /** A sentence with the value. */
  readonly says: string;
  /** What to do; empty when there is nothing. */
  readonly remedy: string;
}

/** With a remedy it is what somebody else may want to know. */
export const ok = (says: string, remedy = ''): Judgement => ({ verdict: 'ok', says, remedy });
export const note = (says: string, remedy: string): Judgement => ({ verdict: 'note', says, remedy });
export const wait = (says: string, remedy: string): Judgement => ({ verdict: 'wait', says, remedy });
export const wrong = (says: string, remedy: string): Judgement => ({ verdict: 'wrong', says, remedy });
