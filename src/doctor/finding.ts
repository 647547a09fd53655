/** What `vifd doctor` says. Pure. */
import { wrap } from '../text.js';
import type { Machine } from './machine.js';

export type Severity = 'ok' | 'warning' | 'error';

export interface Finding {
  /** Stable word for programs: one a check. */
  readonly code: string;
  readonly severity: Severity;
  /** A sentence with the value. */
  readonly message: string;
  /** What to do; empty when there is nothing. */
  readonly remedy: string;
}

/** Says nothing where the question does not arise. */
export interface Check {
  readonly code: string;
  readonly judge: (machine: Machine) => readonly Judgement[];
}

export type Judgement = Omit<Finding, 'code'>;

export const ok = (message: string): Judgement => ({ severity: 'ok', message, remedy: '' });
export const warning = (message: string, remedy: string): Judgement => ({ severity: 'warning', message, remedy });
export const error = (message: string, remedy: string): Judgement => ({ severity: 'error', message, remedy });

/** `vifd doctor --json`, version 1: fields and codes may be added, none is removed or changes its meaning. */
export interface DoctorReport {
  readonly version: 1;
  readonly worst: Severity;
  readonly findings: readonly Finding[];
}

export function examine(machine: Machine, checks: readonly Check[]): DoctorReport {
  const findings = checks.flatMap(({ code, judge }) => judge(machine).map((judgement) => ({ code, ...judgement })));
  const has = (severity: Severity) => findings.some((finding) => finding.severity === severity);
  return { version: 1, worst: has('error') ? 'error' : has('warning') ? 'warning' : 'ok', findings };
}

/** The lines for people, of at most `width` columns. */
export function formatFindings({ findings }: DoctorReport, width: number): string[] {
  const count = (severity: Severity) => findings.filter((finding) => finding.severity === severity).length;
  return [
    ...findings.flatMap(({ code, severity, message, remedy }) => [
      ...wrap(`${severity.padEnd(7)}  ${code.padEnd(14)}  `, message, width),
      ...(remedy === '' ? [] : wrap(' '.repeat(25), `-> ${remedy}`, width)),
    ]),
    `result: errors: ${count('error')}, warnings: ${count('warning')}`,
  ];
}
