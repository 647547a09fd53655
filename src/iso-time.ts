const DAY_MS = 86_400_000;
const ERA_DAYS = 146_097; // 400 years

const digits = (value: number, width: number): string => String(value).padStart(width, '0');

/** As Date's toISOString(), which takes 1 MiB of Node's time zones into memory for a time that has none. From 1970 on. */
export function isoTime(ms: number): string {
  const [year, month, day] = civil(Math.floor(ms / DAY_MS));
  const at = ms % DAY_MS;
  const clock = [at / 3_600_000, (at / 60_000) % 60, (at / 1000) % 60].map((part) => digits(Math.floor(part), 2));
  return `${digits(year, 4)}-${digits(month, 2)}-${digits(day, 2)}T${clock.join(':')}.${digits(Math.floor(at % 1000), 3)}Z`;
}

/** Years are counted from March on, so that a leap day is the last of its year. */
function civil(days: number): [year: number, month: number, day: number] {
  const since0 = days + 719_468; // from 0000-03-01 to 1970-01-01
  const era = Math.floor(since0 / ERA_DAYS);
  const inEra = since0 % ERA_DAYS;
  const leaps = Math.floor(inEra / 1460) - Math.floor(inEra / 36_524) + Math.floor(inEra / 146_096);
  const yearOfEra = Math.floor((inEra - leaps) / 365);
  const inYear = inEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const fromMarch = Math.floor((5 * inYear + 2) / 153);
  const month = ((fromMarch + 2) % 12) + 1;
  return [400 * era + yearOfEra + (month <= 2 ? 1 : 0), month, inYear - Math.floor((153 * fromMarch + 2) / 5) + 1];
}
